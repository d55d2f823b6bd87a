"""How long a service takes to start, what the death of its network costs, how it ends, and what its metrics cost.

Each round starts `bentoml serve` with the ready-made model, or with what `--pointer` names; asks for a picture all the
time; kills the network's process; and ends the service. What counts is the median of the rounds.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import requests

from pipeline.labels import LABELS
from pipeline.serving.meters import count_answer, count_in, meters, timed
from pipeline.vision.transforms import encode

ROOT = Path(__file__).parents[1]
PICTURE = encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
CLIENTS = 4


@contextmanager
def served(folder: str, pointer: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Start a service, and give its first process and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "BENTOML_HOME": folder, "TMPDIR": folder, "FER_POINTER": str(pointer)}
    command = ["-m", "bentoml", "serve", "service:ExpressionService", f"--port={port}", "--host=127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = psutil.Popen([sys.executable, *command], cwd=ROOT, env=environment, **quiet)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.is_running():
            for each in (*process.children(recursive=True), process):
                each.kill()


def is_ready(address: str) -> bool:
    """Ask the service."""
    try:
        return requests.get(f"{address}/readyz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def wait_until(address: str, ready: bool) -> float:
    """Wait until the service says that it is ready, or is not; return the time."""
    end = time.monotonic() + 120
    while is_ready(address) != ready:
        if time.monotonic() > end:
            sys.exit(f"the service at {address} did not become {'ready' if ready else 'unready'}")
        time.sleep(0.02)
    return time.monotonic()


def ask(address: str, over: threading.Event, failures: list[float]) -> None:
    """Ask all the time, and note when an answer is no answer."""
    with requests.Session() as session:
        while not over.is_set():
            if not session.post(f"{address}/predict?detect=false", data=PICTURE, timeout=60).ok:
                failures.append(time.monotonic())
                time.sleep(0.02)


def measure(pointer: Path) -> dict[str, float]:
    """Go through a service's life once; return seconds by what took them."""
    with tempfile.TemporaryDirectory() as folder, served(folder, pointer) as (process, address):
        started = time.monotonic()
        took = {"from start to ready": wait_until(address, ready=True) - started}
        everyone = [process, *process.children()]
        took["CPU of all three processes until then"] = sum(sum(each.cpu_times()[:2]) for each in everyone)
        over, failures = threading.Event(), list[float]()
        clients = [threading.Thread(target=ask, args=(address, over, failures)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(1)
        killed = time.monotonic()
        next(each for each in process.children() if "expression_classifier" in each.cmdline()).kill()
        took["from kill -9 of the network to not ready"] = wait_until(address, ready=False) - killed
        took["from kill -9 to ready again"] = wait_until(address, ready=True) - killed
        time.sleep(1)
        took["from kill -9 to the last error"] = max(failures, default=killed) - killed
        over.set()
        for client in clients:
            client.join()
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if code := process.wait(90):
            sys.exit(f"the service ended with {code}")
        return took | {"from SIGTERM to the end": time.monotonic() - told}


def cost_of_metrics(times: int = 20_000) -> float:
    """Return the microseconds that counting and timing adds to a request with one face."""
    with tempfile.TemporaryDirectory() as folder:
        count_in(Path(folder))
        answer = {"faces": [{"emotion": LABELS[0]}]}
        start = time.process_time()
        for _ in range(times):
            for stage in ("decode", "detect", "network"):
                with timed(stage):
                    pass
            count_answer(answer)
            meters().requests.labels("/predict", 200).inc()
            meters().request.labels("/predict").observe(0.01)
        return (time.process_time() - start) / times * 1e6


def main() -> None:
    """Measure, and print medians with the lowest and the highest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pointer", type=Path, default=ROOT / "models" / "ready-made" / "champion.json")
    options = parser.parse_args()
    rounds = [measure(options.pointer.absolute()) for _ in range(options.rounds)]
    for name in rounds[0]:
        seconds = [took[name] for took in rounds]
        print(f"{name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    print(f"metrics: {cost_of_metrics():.0f} microseconds of a request with one face")


if __name__ == "__main__":
    main()
