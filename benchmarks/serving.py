"""The service beside others that serve the same model: requests a second, latency, errors, batches, memory.

Two models: `v8`, the ready-made one, which takes two milliseconds a face, so that all that is around it counts; and a
ConvNeXt-tiny that learned nothing, which takes most of a tenth of a second, so that only batches count. Each is served
by the project's service; (a) plain FastAPI, one image a call; (b) LitServe with its batching; (c) FastAPI with eager
torch, one image a call; and (d) computed in one process, without a server: the best that the machine can.

All contenders run at once, but those that are not measured are asleep; they take turns, and what counts is the ratio in
one round. The generator of the load is a process of its own and shares the processor with the server, the same for all.
Faces are ready crops (`detect=false`); finding faces is measured on its own.
"""

import argparse
import base64
import csv
import os
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from contenders import networks
from contenders.servers import InProcess, Server, awake
from load import form
from serving_report import AFTER_CROWD, EAGER, LITSERVE, OURS, PLAIN, RAW, Leg, report

from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.sample import draw
from pipeline.vision.transforms import Image

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("FER_SHARED", HERE.parents[1] / "shared"))
PICTURES = 64
CLIENTS = (1, 8, 32, 64)
COUNTS, MOST_ROUNDS = 32, 6  # the clients, and the images of a batch, that a target is about; and its rounds
OTHER_ROUNDS = 2  # where there is no target
STEADY_SHARE, OVERLOAD_SHARE = 0.5, 2.0  # of what the machine can, as requests a second
SUSTAINED_SECONDS = 60.0
LEAST_EACH = 2.5  # requests of a client, so that beginning and end weigh little
LEAST_STEADY = 4  # requests at a fixed rate
ALONE_SHARE = 0.5  # of the requests, for a client that is alone
BATCH_SIZES = (8, 32)  # that the process without a server tries
SMALL = "v8"  # beside it, `networks.LARGE`
FINDING = "finding faces"


def small_faces() -> Iterator[bytes]:
    """Give grey faces of 48 pixels as PNG: real ones if there are any."""
    table = SHARED / "data" / "fer2013_excerpt.csv"
    if table.is_file():
        with table.open() as file:
            for row in csv.DictReader(file):
                yield encode(".png", np.array(row["pixels"].split(), np.uint8).reshape(48, 48))
    else:
        for face in large_faces():
            pixels = cast(Image, cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_GRAYSCALE))
            yield encode(".png", cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA))


def large_faces() -> Iterator[bytes]:
    """Give pictures of faces as JPEG, about 250 pixels wide: real ones if there are any."""
    archive = SHARED / "data" / "wild_images.zip"
    if archive.is_file():
        with zipfile.ZipFile(archive) as pictures:
            yield from (pictures.read(name) for name in sorted(pictures.namelist()) if name.endswith(".jpg"))
    else:
        yield from (content for path, content in draw("affectnet", 3) if path.endswith(".jpg"))


def encode(kind: str, pixels: Any) -> bytes:
    """Return an encoded picture."""
    return bytes(cv2.imencode(kind, pixels)[1])


class Arena:
    """One model, and all that serve it."""

    def __init__(
        self, model: str, folder: Path, legs: list[Leg], stack: ExitStack, *, seconds: float, each: float
    ) -> None:
        """Start all contenders, one after the other, and put them to sleep.

        Args:
            model: one of `networks.NAMES`.
            folder: where to put it, and the pictures.
            legs: where what is measured goes.
            stack: ends what is started here.
            seconds: that a measurement lasts, about.
            each: the requests that a client sends at least.
        """
        self.model, self.legs, self._seconds, self._each = model, legs, seconds, each
        faces = list(islice(small_faces() if model == SMALL else large_faces(), PICTURES))
        pictures = folder / model
        pictures.mkdir()
        for number, face in enumerate(faces):
            (pictures / f"{number:03}").write_bytes(face)
        self.bodies = encoded(form("/predict?detect=false", "image", [face]) for face in faces)
        self.batches = encoded([form("/predict_batch?detect=false", "images", faces[:COUNTS])])
        self.portraits = encoded(form("/predict", "image", [face]) for face in islice(large_faces(), PICTURES))
        tell(f"{model}: exporting, starting")
        file = networks.model_file(model, folder)
        write_pointer(folder / f"{model}.json", Pointer("benchmark", model, str(file), sha256_of(file)))
        commands: dict[str, list[str]] = {
            OURS: ["-m", "bentoml", "serve", "service:ExpressionService", "--host", "127.0.0.1", "--port", "PORT"],
            PLAIN: [f"{HERE}/contenders/plain.py", str(file), "PORT"],
            LITSERVE: [f"{HERE}/contenders/litserve_batching.py", str(file), "PORT"],
            EAGER: [f"{HERE}/contenders/eager.py", model, "PORT"],
        }
        variables = {"FER_POINTER": f"{folder}/{model}.json", "BENTOML_HOME": f"{folder}/bentoml"}
        variables |= {"BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path[1:]])}
        self.servers: dict[str, Server] = {}
        for name, command in commands.items():
            server = Server(command, folder / "log", **variables)
            stack.callback(server.end)
            server.wait_until_ready(base64.b64decode(self.bodies[0]))
            server.sleep()
            self.servers[name] = server
        self._raw = InProcess(file, pictures)
        stack.callback(self._raw.end)
        for size in BATCH_SIZES:
            self._raw.compute(size, size)  # the first ones do not count
        speeds = {size: PICTURES / self._raw.compute(size, PICTURES)[0] for size in BATCH_SIZES}
        self.best_batch, self.speed = max(speeds.items(), key=lambda pair: pair[1])

    def warm_up(self) -> None:
        """Ask everybody, and see that they say the same."""
        said = {}
        for name, server in self.servers.items():
            with awake(server):
                server.load(bodies=self.bodies, clients=COUNTS, requests=self.requests(COUNTS))
                said[name] = server.load(bodies=self.bodies[:1], clients=1, requests=1)["answer"]
        random_weights = self.model != networks.LARGE  # then (c) has others
        for name, answer in said.items():
            far = max(abs(answer[label] - said[OURS][label]) for label in answer)
            if far > 1e-3 and not (random_weights and name == EAGER):
                raise RuntimeError(f"{name} answers otherwise than the service, by {far:.4f}")

    def requests(self, clients: int) -> int:
        """Return how many requests make a measurement, the same for all contenders."""
        share = ALONE_SHARE if clients == 1 else 1.0
        return max(int(self._each * clients), int(self._seconds * self.speed * share))

    def measure(self, kind: str, name: str, *, images: int = 1, **order: Any) -> Leg:
        """Measure one contender once."""
        tell(f"{self.model}: {kind}, {name}")
        with awake(self.servers[name]) as server:
            leg = Leg.of(self.model, kind, name, images, server.load(**{"bodies": self.bodies} | order))
        self.legs.append(leg)
        return leg

    def compute(self, kind: str, count: int) -> None:
        """Measure the process without a server once."""
        tell(f"{self.model}: {kind}, {RAW}")
        seconds, spent = self._raw.compute(self.best_batch, count)
        self.legs.append(Leg.of_raw(self.model, kind, RAW, count, seconds, spent, self.best_batch))

    def closed_loops(self, crowds: Sequence[int], rounds: int, others: int) -> None:
        """Let crowds of clients wait for their answers, and compute as many images in one process beside them."""
        for number in range(rounds):
            for clients in crowds:
                if number < (rounds if clients in (1, COUNTS) else others):
                    for name in turned(self.servers, number):
                        self.measure(crowd_of(clients), name, clients=clients, requests=self.requests(clients))
                    if clients == COUNTS:
                        self.compute(crowd_of(clients), self.requests(clients))
            # What a lone client waits for right after a crowd; (a) is not told apart by it.
            self.measure("a crowd", OURS, clients=COUNTS, requests=self.requests(COUNTS) // 2)
            self.measure(AFTER_CROWD, OURS, clients=1, requests=self.requests(1))

    def batched(self, rounds: int) -> None:
        """Send requests of many images; as many in one process."""
        requests = max(2, self.requests(COUNTS) // COUNTS)
        for _ in range(rounds):
            self.measure("batches", OURS, images=COUNTS, bodies=self.batches, clients=2, requests=requests)
            self.compute("batches", COUNTS * requests)

    def steady(self, rounds: int) -> None:
        """Send requests at a fixed rate, whether or not those before are answered."""
        rate = STEADY_SHARE * self.speed
        seconds = max(2 * self._seconds, LEAST_STEADY / rate)
        for number in range(rounds):
            for name in turned(self.servers, number):
                self.measure(f"{rate:.3g} requests a second", name, rate=rate, seconds=seconds)

    def endure(self, seconds: float) -> None:
        """Let 64 clients ask for long, then ask for more than the machine can, and then for faces in whole pictures."""
        self.measure("sustained", OURS, clients=CLIENTS[-1], seconds=seconds)
        rate = OVERLOAD_SHARE * self.speed
        self.measure("overload", OURS, rate=rate, seconds=max(4 * self._seconds, 2 * CLIENTS[-1] / rate))
        if self.model == SMALL:
            self.measure(FINDING, OURS, clients=8, requests=PICTURES * 2, bodies=self.portraits)


def crowd_of(clients: int) -> str:
    """Return what so many clients are called."""
    return f"{clients} client{'s' * (clients > 1)}"


def encoded(requests: Any) -> list[str]:
    """Return requests as an order of a load holds them."""
    return [base64.b64encode(request).decode() for request in requests]


def turned(names: Any, number: int) -> list[str]:
    """Return names in another order each round."""
    names = list(names)
    return names[number % len(names) :] + names[: number % len(names)]


def tell(what: str) -> None:
    """Show what is being done: on a terminal on one line, else on lines of their own."""
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{time.monotonic() - BEGAN:5.0f} s  {what}", end=end, file=sys.stderr, flush=True)


BEGAN = time.monotonic()


def main() -> None:
    """Start, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one measurement, about")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--only", choices=networks.NAMES, help="one of the models")
    parser.add_argument(
        "--to", type=Path, default=Path("reports/serving.html"), help="the page, with a .json beside it"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as at Ctrl+C, no server stays behind
    legs: list[Leg] = []
    rounds, others, seconds, each = MOST_ROUNDS, OTHER_ROUNDS, options.seconds, LEAST_EACH
    if options.quick:
        rounds, others, seconds, each = 1, 1, 0.3, 1.0
    try:
        with tempfile.TemporaryDirectory() as name:
            for model in [options.only] if options.only else networks.NAMES:
                with ExitStack() as stack:
                    arena = Arena(model, Path(name), legs, stack, seconds=seconds, each=each)
                    arena.warm_up()
                    arena.closed_loops((1, COUNTS) if options.quick else CLIENTS, rounds, others)
                    arena.batched(rounds if model == SMALL else others)
                    arena.steady(others)
                    arena.endure(3.0 if options.quick else SUSTAINED_SECONDS)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if not legs:
            sys.exit("interrupted")
        print("interrupted; this was measured:")
    tell("")
    report(legs, options.to, rounds, time.monotonic() - BEGAN)


if __name__ == "__main__":
    main()
