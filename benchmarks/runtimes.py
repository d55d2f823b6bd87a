"""What ONNX Runtime and OpenVINO take for a face in every precision, beside ONNX Runtime in full precision.

The network is the ready-made model, or one of timm's with random weights (`--backbone convnext_tiny.fb_in22k`), as the
project exports it. `speed` is how many times as fast as ONNX Runtime in full precision one is, median, lowest and
highest of the rounds; `work` is the same of the processors' time, which tells more where others use them too.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from rounds import ratio

from pipeline.errors import PipelineError
from pipeline.inference.cores import THREADS, count_cores
from pipeline.inference.predictor import Predictor
from pipeline.inference.runtimes import ONNXRUNTIME, OPENVINO, Session, open_session, require
from pipeline.inference.variants import BF16, FULL, INT8
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.export import export_onnx
from pipeline.packaging.quantization import MAKERS
from pipeline.recipes import Recipe

READY_MADE = Path(__file__).parents[1] / "models" / "ready-made" / "model.onnx"
CONTENDERS = ((ONNXRUNTIME, FULL), (ONNXRUNTIME, INT8), (OPENVINO, FULL), (OPENVINO, BF16))
BATCHES = (1, 8, 32)


def export(backbone: str, folder: Path) -> tuple[Path, int]:
    """Write a network with random weights; return its file and the side of its faces."""
    recipe = Recipe.model_validate({"data": ["fer2013"], "backbone": backbone, "pretrained": False})
    export_onnx(ExpressionNetwork(recipe), folder / "model.onnx", image_size=recipe.image_size, facts={})
    return folder / "model.onnx", recipe.image_size


def open_all(model: Path, side: int, folder: Path) -> dict[str, Session]:
    """Open every contender that this machine has, and tell of the others."""
    some = np.random.default_rng(0).integers(0, 256, (4, side, side, 3)).astype(np.uint8)
    sessions = {}
    for runtime, variant in CONTENDERS:
        file = model if variant == FULL else folder / f"{variant}.onnx"
        try:
            require(runtime, variant)
        except PipelineError as error:
            print(f"without {runtime} {variant}: {error}")
            continue
        if not file.exists():
            onnx.save(MAKERS[variant](model, [some]), file)
        session, computation = open_session(file, runtime, variant)
        sessions[f"{runtime} {computation.precision}"] = session
    return sessions


def measure(sessions: dict[str, Session], faces: np.ndarray, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return each one's seconds by round, by the clock and of the processors, after one round that does not count."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sessions}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            clock, work = time.perf_counter(), time.process_time()
            session.run(["probabilities"], {"faces": faces})
            taken[name][0].append(time.perf_counter() - clock)
            taken[name][1].append(time.process_time() - work)
    return {name: (clocks[1:], works[1:]) for name, (clocks, works) in taken.items()}


def main() -> None:
    """Print a table, a number of threads and a batch a block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", help="one of timm's, instead of the ready-made model")
    parser.add_argument("--rounds", type=int, default=40, help="that count, of a batch of one; fewer of larger ones")
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.backbone:
            model, side = export(arguments.backbone, folder)
        else:
            model, side = READY_MADE, Predictor(READY_MADE, name="", version="").image_size
        print(f"{arguments.backbone or 'the ready-made model'}, {side} pixels, {arguments.rounds} rounds\n")
        print(f"{'threads':>7}{'batch':>6}  {'':<18}{'ms a face':>10}   {'speed':<22}work")
        for threads in sorted({1, count_cores()}):
            os.environ[THREADS] = str(threads)
            sessions = open_all(model, side, folder)
            for batch in BATCHES:
                faces = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
                taken = measure(sessions, faces, max(3, arguments.rounds // batch))
                first = next(iter(taken.values()))
                for contender, (clocks, works) in taken.items():
                    line = f"{threads:>7}{batch:>6}  {contender:<18}{1000 * statistics.median(clocks) / batch:>10.2f}"
                    print(f"{line}   {ratio(first[0], clocks):<22}{ratio(first[1], works)}", flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
