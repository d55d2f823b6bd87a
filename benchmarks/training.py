"""Faces a second in training, beside a bare loop with the same network, batches, changes and averaging.

The bare loop is what the recipe says and nothing else: no Lightning, no metrics, no logging, no checkpoints. Both take
so many batches of drawn faces, after some that do not count. Waiting is the share of the time in which the loop has no
batch to work on.
"""

import logging
import os
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from loading import write_tables
from pytorch_lightning.callbacks import Callback
from rounds import ask_for_rounds, rate, ratio
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.networks.network import ExpressionNetwork
from pipeline.params import TrainParams, load_params
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.registry.outbox import Outbox
from pipeline.training.data import FaceData
from pipeline.training.losses import build_loss
from pipeline.training.model import ExpressionModel, build_mix
from pipeline.training.optimization import build_optimizer, build_schedule, has_bfloat16
from pipeline.training.trainer import build_trainer

VERSION = "v8"
Precision = Literal["32-true", "bf16-mixed"]
FACES, WARM_UP = 8000, 8  # drawn faces, and batches that do not count


class Clock(Callback):
    """Takes the time of each training batch, and when it came to the network."""

    def __init__(self) -> None:
        """Begin with none."""
        self.began: list[float] = []
        self.ended: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Take the time at which a batch came."""
        self.began.append(time.perf_counter())

    def on_train_batch_end(self, *_: Any) -> None:
        """Take the time at which it was done with."""
        self.ended.append(time.perf_counter())

    def seconds(self) -> float:
        """Return the time from the first batch that counts to the last one."""
        return self.ended[-1] - self.ended[WARM_UP - 1]

    def waiting(self) -> float:
        """Return the share of that time in which there was no batch."""
        gaps = (began - ended for began, ended in zip(self.began[WARM_UP:], self.ended[WARM_UP - 1 :], strict=False))
        return sum(gaps) / self.seconds()


def with_lightning(recipe: Recipe, data: FaceData, params: TrainParams, folder: Path) -> Clock:
    """Train for one epoch as the stage does."""
    clock = Clock()
    client = tracking.connect()
    outbox = Outbox(client, tracking.start_run(client, VERSION, {}, {}), folder / "unsent.jsonl")
    network = ExpressionNetwork(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = ExpressionModel(network, recipe, data.train_faces.class_counts(), seed=0)
    build_trainer(VERSION, recipe, folder, params, outbox, clock).fit(model, datamodule=data)
    return clock


def bare(recipe: Recipe, data: FaceData, params: TrainParams) -> Clock:
    """Train for one epoch with a loop of one's own."""
    clock = Clock()
    network: Any = ExpressionNetwork(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    loss_of, mix = build_loss(recipe.loss, data.train_faces.class_counts()), build_mix(recipe)
    loader = data.train_dataloader()
    optimizer = build_optimizer(network, recipe.optimizer)
    schedule = build_schedule(optimizer, recipe, len(loader), len(loader))
    average = None
    if recipe.ema:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema.decay), use_buffers=True)
    mixed = params.precision == "bf16-mixed"
    for faces, targets in loader:
        clock.on_train_batch_start()
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            pixels = network.normalize(faces)
            if mix:
                pixels, targets = mix(pixels, targets)
            loss = loss_of(network.classify(pixels), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule:
            schedule["scheduler"].step()
        if average:
            average.update_parameters(network)
        clock.on_train_batch_end()
    return clock


def precisions() -> tuple[Precision, ...]:
    """Return what is worth training in here: torch takes a CPU without bfloat16 many times as long with it."""
    return ("32-true", "bf16-mixed") if has_bfloat16() else ("32-true",)


def main() -> None:
    """Print a table, a precision a line."""
    rounds = ask_for_rounds(__doc__)
    recipe = load_params().recipes[VERSION].model_copy(update={"epochs": 1})
    print(f"{VERSION} on {os.cpu_count()} cores: faces a second in training, medians of {rounds} rounds. The ratio is")
    print("that of ours to the bare loop: its median, lowest and highest.\n")
    print(f"{'':<12}{'bare loop':>11}{'ours':>11}{'waiting':>11}   ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        write_tables("fer2013", FACES, folder)
        for precision in precisions():
            params = TrainParams(precision=precision)
            data = FaceData(recipe, folder / "faces", folder / "splits.parquet", seed=0)
            pairs = [
                (bare(recipe, data, params), with_lightning(recipe, data, params, folder)) for _ in range(rounds + 1)
            ][1:]
            faces = (len(pairs[0][0].ended) - WARM_UP) * recipe.batch_size
            loops, ours = ([clock.seconds() for clock in clocks] for clocks in zip(*pairs, strict=True))
            waiting = max(clock.waiting() for _, clock in pairs)
            line = f"{precision:<12}{rate(faces, loops):>11}{rate(faces, ours):>11}{waiting:>11.1%}"
            print(f"{line}   {ratio(loops, ours)}", flush=True)


if __name__ == "__main__":
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    main()
