"""A rollback under load: does any request fail, and what does it cost those that are answered meanwhile?

A registry in a folder of its own gets two champions, networks of the size of `v8` that learned nothing. The second one
is served by `bentoml serve`, and asked about a ready crop of a face. First so many clients ask as fast as they are
answered: that is the capacity. Then requests come at half that rate, whether or not the ones before are answered, and
in the midst of it somebody types `pipeline rollback`. The generator of the load shares the machine with the service.
"""

import argparse
import asyncio
import collections
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import requests
import torch
from load import Answer, Load, post

from pipeline.files import sha256_of
from pipeline.inference.pointer import move_pointer
from pipeline.labels import LABELS
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.export import export_onnx
from pipeline.params import load_params
from pipeline.registry import history, registry, tracking
from pipeline.sample import draw

ROOT = Path(__file__).parents[1]
RECIPE = "v8"
CLIENTS, CAPACITY_SECONDS = 16, 10.0
BEFORE = 0.3  # of the time goes by before the rollback
WINDOW = 5.0  # seconds from the rollback's command on that are told apart


def register_two(folder: Path) -> Path:
    """Write two champions, one after the other, into the registry in use, and return the pointer to the second."""
    client, models, last = tracking.connect(), folder / "models", None
    for seed in range(2):
        torch.manual_seed(seed)
        recipe = load_params(ROOT / "params.yaml").model_copy(update={"scale": "full"}).recipe(RECIPE)
        made = folder / f"made-{seed}"
        made.mkdir()
        facts = {"version": RECIPE, "labels": list(LABELS), "image_size": recipe.image_size, "detector": None}
        network = ExpressionNetwork(recipe).eval()
        export_onnx(network, made / registry.MODEL_FILE, image_size=recipe.image_size, facts=facts)
        sha256 = sha256_of(made / registry.MODEL_FILE)
        tags = {"recipe": RECIPE, "model_sha256": sha256, "weights_sha256": sha256}
        run = tracking.start_run(client, RECIPE, {}, {})
        version = registry.register(client, registry.registered_name(drawn=True), run, made, tags)
        last = history.append(client, last, "promotion", version, "to have something to roll back")
        history.settle(client, version.name)
    pointer_file = models / "champion.json"
    models.mkdir(exist_ok=True)
    move_pointer(pointer_file, [registry.point_to(version, models)])
    return pointer_file


async def measure_capacity(port: int, request: bytes, lasting: float) -> float:
    """Return the requests a second that are answered where each client waits for its answer."""
    load = Load(port, [request])
    await load.closed_loop(CLIENTS, seconds=lasting)
    load.close()
    return sum(not answer.failure for answer in load.answers) / load.elapsed


async def ask_steadily(
    port: int, request: bytes, rate: float, lasting: float, folder: Path
) -> tuple[list[Answer], float]:
    """Send requests at a rate, roll back meanwhile, and return all answers and when the command was given."""
    load = Load(port, [request])
    loading = asyncio.create_task(load.open_loop(rate, lasting))
    await asyncio.sleep(BEFORE * lasting)
    at, main = load.elapsed, "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", main, "rollback", "--why", "a benchmark"]
    rollback = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=subprocess.DEVNULL)
    await loading
    load.close()
    if await rollback.wait():
        sys.exit("the rollback failed")
    return load.answers, at


def version_of(answer: Answer) -> str:
    """Return the version that answered."""
    return str(json.loads(answer.body)["model"]["version"])


def report(answers: list[Answer], at: float) -> None:
    """Print what failed, who answered, and how long it took before, during and after."""
    failures = collections.Counter(answer.failure for answer in answers if answer.failure)
    versions = collections.Counter(version_of(answer) for answer in answers if not answer.failure)
    print(f"  {len(answers)} requests, {sum(failures.values())} failed {dict(failures) or ''}")
    print("  answers by version: " + ", ".join(f"{name}: {count}" for name, count in sorted(versions.items())))
    after = [answer.sent + answer.took for answer in answers if not answer.failure and version_of(answer) == "1"]
    if after:
        print(f"  the first answer of the other version came {min(after) - at:.1f} s after the command was given")
    else:
        print("  the load ended before the other version answered; the machine was busy: try more --seconds")
    parts = {
        "before": [answer.took for answer in answers if answer.sent < at],
        f"the next {WINDOW:.0f} s": [answer.took for answer in answers if at <= answer.sent < at + WINDOW],
        "then": [answer.took for answer in answers if answer.sent >= at + WINDOW],
    }
    for name, took in parts.items():
        worst = statistics.quantiles(took, n=100)[-1]
        print(f"  {name:<12} median {1000 * statistics.median(took):6.1f} ms, 99 % {1000 * worst:7.1f} ms")


async def run(port: int, seconds: float, folder: Path) -> None:
    """Measure the service at a port."""
    picture = next(content for path, content in draw("affectnet", 3) if path.endswith(".jpg"))
    request = post("/predict?detect=false", picture)
    await measure_capacity(port, request, CAPACITY_SECONDS / 2)  # does not count
    capacity = await measure_capacity(port, request, CAPACITY_SECONDS)
    print(f"{CLIENTS} clients, each waiting for its answer: {capacity:.0f} requests/s")
    print(f"at half of it for {seconds:.0f} s, across a rollback:")
    report(*await ask_steadily(port, request, capacity / 2, seconds, folder))


def wait_until_ready(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the service answers."""
    while server.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok:
                return
        time.sleep(0.5)
    sys.exit("the service did not start")


def main() -> None:
    """Serve, load, roll back, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="of the load across the rollback")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "BENTOML_HOME": str(folder / "bentoml")}
        os.environ["FER_POINTER"] = str(register_two(folder))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "bentoml", "serve", "service:ExpressionService", "--host", "127.0.0.1"]
        server = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, start_new_session=True)
        try:
            wait_until_ready(port, server)
            asyncio.run(run(port, seconds, folder))
        finally:
            os.killpg(server.pid, signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
