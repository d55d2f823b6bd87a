"""Does the service keep its memory? Mixed traffic for minutes, and the memory of its processes each second.

Pictures with and without detection, batches, videos, explanations, and bad input of many kinds come at a rate that the
machine can bear, whether or not those before are answered. The resident memory of the service's three processes (not
of those that read a video each, and end) is added up each second; that of the last minute, as its median, may be at
most 5 % more than that of the second one. The first is not asked: caches and arenas fill in it. A picture shows the
course.
"""

import argparse
import asyncio
import collections
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import cv2
import matplotlib.pyplot as plt
import numpy as np
import psutil
from running import running

from pipeline.sample import draw
from pipeline.vision.transforms import decode

MOST_GROWTH = 1.05
MOST_AT_ONCE = 16
Body = bytes | Callable[[], aiohttp.FormData]


@dataclass(frozen=True)
class Kind:
    """A kind of request: how many of a hundred are of it, where they go, and the statuses that are right."""

    share: int
    path: str
    bodies: Sequence[Body]
    right: frozenset[int] = frozenset({200})


@dataclass
class Record:
    """What came of it: megabytes of resident memory by second, and how many answers of each kind had which status."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    answers: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    wrong: int = 0


def form(name: str, files: list[bytes]) -> Callable[[], aiohttp.FormData]:
    """Return what makes a form with some files in one field; a form can be sent once."""

    def make() -> aiohttp.FormData:
        data = aiohttp.FormData()
        for file in files:
            data.add_field(name, file, filename="x")
        return data

    return make


def film(picture: np.ndarray, frames: int, size: int) -> bytes:
    """Return an MP4 of one picture."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, (size, size))
        for _ in range(frames):
            writer.write(cv2.cvtColor(cv2.resize(picture, (size, size)), cv2.COLOR_RGB2BGR))
        writer.release()
        return file.read_bytes()


def kinds() -> dict[str, Kind]:
    """Return the mixture; sizes differ, so that buffers of many sizes come and go."""
    portraits = [content for path, content in draw("wild", 3) if path.endswith(".jpg")][:12]
    pixels = [decode(portrait) for portrait in portraits]
    sizes = (48, 224, 640, 1600, 3000)
    scaled = [cv2.imencode(".jpg", cv2.resize(pixels[0], (size, size)))[1].tobytes() for size in sizes]
    films = [film(pixels[1], frames, size) for frames, size in ((20, 160), (60, 320), (30, 640))]
    bad: list[Body] = [
        b"",
        b"text",
        portraits[0][: len(portraits[0]) // 2],
        b"GIF89a",
        bytes(21_000_000),
        form("wrong", portraits),
    ]
    return {
        "picture": Kind(40, "/predict", [*portraits, *scaled, form("image", portraits[:1])]),
        "crop": Kind(24, "/predict?detect=false", [*portraits, *scaled]),
        "batch": Kind(8, "/predict_batch", [form("images", portraits[:count]) for count in (1, 3, 7, 12)]),
        "explanation": Kind(8, "/explain?detect=false", [*portraits, *scaled[:4]], frozenset({200, 501})),
        "video": Kind(3, "/predict_video", list(films)),
        "bad picture": Kind(12, "/predict", bad, frozenset({400, 413, 415, 422})),
        "bad video": Kind(2, "/predict_video", [films[0][:-9], *bad], frozenset({400, 413, 415, 422})),
        "bad batch": Kind(3, "/predict_batch", bad, frozenset({400, 413, 415, 422})),
    }


async def ask(session: aiohttp.ClientSession, name: str, kind: Kind, body: Body, record: Record) -> None:
    """Send one request and count what came."""
    try:
        async with session.post(kind.path, data=body() if callable(body) else body) as answer:
            await answer.read()
            status = str(answer.status)
            record.wrong += answer.status not in kind.right
    except (aiohttp.ClientError, TimeoutError) as error:
        status = type(error).__name__
        # An upload that is refused by its length is hung up on, at times before the answer is read.
        record.wrong += not (name.startswith("bad") and isinstance(error, aiohttp.ClientError))
    record.answers[name, status] += 1


async def watch(server: psutil.Process, began: float, record: Record) -> None:
    """Add up the resident memory of the service's own processes each second; readers of videos come and go."""
    while True:
        total = 0
        for process in (server, *server.children()):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        record.memory.append((time.monotonic() - began, total / 1e6))
        await asyncio.sleep(1)


async def soak(address: str, server: psutil.Process, minutes: float, rate: float) -> Record:
    """Send the mixture at a rate, and watch."""
    mixture, record, chance = kinds(), Record(), random.Random(0)
    names, shares = list(mixture), [kind.share for kind in mixture.values()]
    began, waiting = time.monotonic(), set[asyncio.Task[None]]()
    watching = asyncio.create_task(watch(server, began, record))
    timeout = aiohttp.ClientTimeout(70)
    async with aiohttp.ClientSession(address, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        number = 0
        while (now := time.monotonic() - began) < 60 * minutes:
            if now < number / rate or len(waiting) >= MOST_AT_ONCE:
                await asyncio.sleep(0.01)
                continue
            number = max(number + 1, int(now * rate))  # what could not be sent in time is left out
            (name,) = chance.choices(names, shares)
            body = chance.choice(mixture[name].bodies)
            waiting.add(task := asyncio.create_task(ask(session, name, mixture[name], body, record)))
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
    watching.cancel()
    return record


def paint(record: Record, file: Path) -> None:
    """Draw the course of memory, of all processes together."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    seconds, megabytes = zip(*record.memory, strict=True)
    axes.plot(np.array(seconds) / 60, megabytes, linewidth=0.8)
    axes.set(xlabel="minutes of mixed traffic", ylabel="resident memory, MB", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def report(record: Record, minutes: float) -> bool:
    """Print what came of it, and return whether it is good."""
    by_kind = collections.defaultdict[str, list[str]](list)
    for (name, status), count in sorted(record.answers.items()):
        by_kind[name].append(f"{status}: {count}")
    for name, counts in by_kind.items():
        print(f"  {name:<12} {', '.join(counts)}")
    second, last = (
        statistics.median(mb for at, mb in record.memory if start <= at / 60 < start + 1) for start in (1, minutes - 1)
    )
    kept = last <= MOST_GROWTH * second
    print(f"{record.answers.total()} requests, {record.wrong} of them answered wrongly or not at all")
    print(
        f"resident memory: {second:.0f} MB in the second minute, {last:.0f} MB in the last: {last / second:.3f}, "
        f"{'kept' if kept else f'GREW by more than {MOST_GROWTH - 1:.0%}'}"
    )
    return kept and not record.wrong


def main() -> None:
    """Serve, send, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of traffic; at least 3")
    parser.add_argument("--rate", type=float, default=6, help="requests a second")
    parser.add_argument("--to", type=Path, default=Path("reports/soak.png"), help="the picture")
    options = parser.parse_args()
    if options.minutes < 3:
        parser.error("the second and the last of fewer than 3 minutes can not be compared")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (address, server):
        record = asyncio.run(soak(address, server, options.minutes, options.rate))
        log = (Path(folder) / "server.log").read_text(errors="replace")
    paint(record, options.to)
    print(f"{log.count('Traceback')} tracebacks in the log; the course of memory is in {options.to}")
    sys.exit(not report(record, options.minutes))


if __name__ == "__main__":
    main()
