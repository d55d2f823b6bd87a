"""Pictures a second of harmonizing, beside what the same cores can do at most.

The raw limit is a zip's list of contents, as `zipfile` reads it, and then one process a core that reads its share of
the pictures, decodes them, encodes what is cropped, writes, and does nothing else. `harmonize` does that too, checks
each picture, and puts a table together in order. Hashing and finding faces are lines of their own: what is held against
the limit leaves them out.
"""

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import cast
from unittest.mock import patch

import cv2
import numpy as np
from rounds import Work, ask_for_rounds, rate, ratio, seconds, take_turns

from pipeline.datasets import harmonization
from pipeline.files import write_json
from pipeline.params import FacesParams
from pipeline.sample import draw
from pipeline.sources import SOURCES
from pipeline.sources.archive import pack
from pipeline.sources.raw import LOCAL_HEADER, MANIFEST, Entry, open_raw
from pipeline.stages.harmonize import harmonize
from pipeline.vision.faces import Face, crop
from pipeline.vision.transforms import Image, encode

CORES = os.cpu_count() or 1
PICTURES = {"fer2013": 60_000, "rafdb": 30_000, "affectnet": 10_000, "wild": 1_000}
DROPPED = re.compile(r"\.csv$|AffectNet/\w+/7/|Contempt")
STEPS = ("read", "decode", "encode", "write")


def write_raw(dataset: str, count: int, folder: Path) -> Path:
    """Write a raw dataset of drawn pictures, the same ones again and again under other names."""
    folder.mkdir(parents=True)
    drawn = [(path, content) for path, content in draw(dataset, 10, 0) if not DROPPED.search(path)]
    many = (
        (f"{number // len(drawn)}/{path}", io.BytesIO(content))
        for number, (path, content) in enumerate(islice(cycle(drawn), count))
    )
    file = pack(folder / f"{dataset}.zip", many, f"draw {dataset}")
    write_json(folder / MANIFEST, {"dataset": dataset, "drawn": True, "file": {"name": file.name}})
    return folder


def read_files(address: str, entries: list[Entry]) -> Iterator[bytes]:
    """Give the content of some files of a zip that `pack` wrote, which has nothing after a file's name."""
    with Path(address).open("rb", buffering=0) as source:
        for entry in entries:
            source.seek(entry.offset + LOCAL_HEADER + len(entry.path))
            yield source.read(entry.packed_bytes)


def at_most(entries: list[Entry], target: Path, *, address: str, steps: tuple[str, ...], cropped: bool) -> None:
    """Take some steps with some files of a zip, as fast as Python and OpenCV can."""
    target.unlink(missing_ok=True)  # a file that replaces another one is flushed to the disk at once by ext4
    with target.open("wb") as written:
        for data in read_files(address, entries):
            if "decode" in steps:
                pixels = _decode(data)
                if "encode" in steps and not cropped:
                    data = encode(crop(pixels, middle(pixels)))
            if "write" in steps:
                written.write(data)


def hash_all(entries: list[Entry], _: Path, *, address: str) -> None:
    """Hash the pictures of a zip as harmonize does; what it takes beyond decoding is hashing."""
    for data in read_files(address, entries):
        harmonization._hashes(data, _decode(data))


def _decode(data: bytes) -> Image:
    return cast(Image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def middle(pixels: Image) -> Face:
    """Return the middle of a picture as if a face had been found there."""
    height, width = pixels.shape[:2]
    return Face((width // 4, height // 4, width // 2, height // 2), 1.0)


@contextmanager
def nothing_hashed_nor_found() -> Iterator[None]:
    """Leave hashing and finding faces out of what harmonize does, also in the processes that it forks."""
    hashes = ("0" * 64, "0" * 64, "0" * 64)
    with (
        patch.object(harmonization, "_hashes", lambda *_: hashes),
        patch.object(harmonization, "_detector", lambda _: lambda pixels: [middle(pixels)]),
    ):
        yield


def compare(dataset: str, count: int, folder: Path, rounds: int) -> None:
    """Print a dataset's line."""
    source, raw = SOURCES[dataset], write_raw(dataset, count, folder / "raw" / dataset)
    opened, _ = open_raw(raw)
    entries = opened.entries()
    shares = [entries[count * core // CORES : count * (core + 1) // CORES] for core in range(CORES)]
    targets, table = [folder / str(core) for core in range(CORES)], folder / "faces.parquet"

    def on_all_cores(work: Callable[..., None]) -> None:
        with ProcessPoolExecutor(CORES) as pool:
            list(pool.map(work, shares, targets))

    def list_zip() -> None:
        zipfile.ZipFile(opened.address).close()

    def limit(steps: tuple[str, ...]) -> Callable[[], None]:
        def list_and_work() -> None:
            list_zip()
            on_all_cores(partial(at_most, address=opened.address, steps=steps, cropped=source.cropped))

        return list_and_work

    def whole() -> None:
        table.unlink(missing_ok=True)  # as DVC does
        harmonize(dataset, raw, table, source.labels(), FacesParams())

    def bare() -> None:
        with nothing_hashed_nor_found():
            whole()

    contenders: dict[str, Work] = {
        "list": list_zip,
        **{step: limit(STEPS[: number + 1]) for number, step in enumerate(STEPS)},
        "bare": bare,
        "hash": partial(on_all_cores, partial(hash_all, address=opened.address)),
    }
    if source.cropped:
        contenders["whole"] = whole
    times = take_turns(contenders, rounds)
    if not source.cropped:
        times["whole"] = [seconds(whole)]  # once is enough: searching for faces takes a hundred times as long
    rates = "".join(f"{rate(count, times[name]):>11}" for name in times)
    print(f"{dataset:<10}{rates}   {ratio(times['write'], times['bare'])}", flush=True)


def main() -> None:
    """Print a table, a dataset a line."""
    rounds = ask_for_rounds(__doc__)
    print(f"Pictures a second on {CORES} cores, medians of {rounds} rounds. The raw limit by step: list the zip, and")
    print("read, and decode, and encode what is cropped, and write. The ratio is that of harmonize, but for hashing")
    print("and finding faces, to the limit: its median, lowest and highest.\n")
    names = ("list", *STEPS, "harmonize", "hash alone", "with all")
    print(f"{'':<10}{''.join(f'{name:>11}' for name in names)}   ratio")
    with tempfile.TemporaryDirectory() as folder:
        for dataset, count in PICTURES.items():
            compare(dataset, count, Path(folder), rounds)


if __name__ == "__main__":
    main()
