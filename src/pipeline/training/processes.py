"""Training in several processes, as torchrun starts them: who this one is, and what it shares with the others."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from timm.layers import convert_sync_batchnorm
from torch import distributed, nn

from pipeline.errors import PipelineError

BatchNorm = nn.modules.batchnorm._BatchNorm  # of one, two and three dimensions, and timm's with an activation inside

MOST_EPOCHS = 100_003  # of a training, as far as its seeds are its own


def rank() -> int:
    """Return this process's number among all on all machines, from 0; 0 where torchrun started none."""
    return int(os.environ["RANK"]) if distributed.is_torchelastic_launched() else 0


def count() -> int:
    """Return the number of processes that train together, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def count_here() -> int:
    """Return the number of processes that train together on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a training's seed for an epoch, below 2**32; trainings with other seeds have no epoch alike."""
    return (seed * MOST_EPOCHS + epoch) % 2**32


def own_seed(seed: int) -> int:
    """Return a seed of this process's own; the first keeps the one that is given."""
    return int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0]) if rank() else seed


def trainer_settings() -> dict[str, Any]:
    """Return what Lightning's trainer must be told: a device a process, over nccl on GPUs and gloo on CPUs.

    Lightning's own sampler is left out: it would give some validation faces twice (see `batches`).

    Raises:
        PipelineError: if this machine has GPUs, but not one for each of its processes.
    """
    if count() == 1:
        return {"devices": 1}
    check_devices(count_here())
    machines = count() // count_here()
    return {
        "devices": count_here(), "num_nodes": machines, "strategy": DDPStrategy(), "use_distributed_sampler": False,
    }  # fmt: skip


def check_devices(wanted: int) -> None:
    """Raise PipelineError if this machine has GPUs, but fewer than the processes that want one."""
    if 0 < (gpus := torch.cuda.device_count()) < wanted:
        raise PipelineError(
            f"{wanted} processes shall train here, but this machine has {gpus} GPU{'s' * (gpus > 1)}; start one a GPU "
            "(--nproc-per-node of torchrun, or train.devices)"
        )


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether the network has batch norm that takes statistics of its batches, which is not frozen."""
    return any(isinstance(module, BatchNorm) and module.training for module in network.modules())


def share_batch_norm(network: nn.Module, version: str) -> None:
    """Let batch norm take its statistics over the faces of all processes. Torch can do that between GPUs alone.

    The layers are replaced by timm's function: torch's own, which Lightning would call, loses the activation that
    timm's batch norm has inside.

    Raises:
        PipelineError: if they are on CPUs, where each would have the statistics of its own few faces.
    """
    if count() == 1 or not has_batch_norm(network):
        return
    if not torch.cuda.is_available():
        raise PipelineError(
            f"{version} has batch norm, whose statistics torch can share between GPUs alone; train it in one process"
        )
    convert_sync_batchnorm(network)


class Agreement(Callback):
    """Makes sure that all processes train the same: they wait for each other forever where one has fewer batches."""

    def __init__(self, *facts: Any) -> None:
        """Take what must be the same in every process before the training begins."""
        self._facts = facts

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the facts; raises PipelineError if they differ."""
        if stage == "fit":
            _compare(self._facts)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare where the processes go on; raises PipelineError if that differs."""
        _compare((trainer.current_epoch, trainer.global_step))


def _compare(facts: tuple[Any, ...]) -> None:
    if count() == 1:
        return
    told: list[Any] = [None] * count()
    distributed.all_gather_object(told, facts)
    if others := [str(number) for number, fact in enumerate(told) if fact != told[0]]:
        raise PipelineError(
            f"process {', '.join(others)} has other parameters, data or checkpoints than process 0; all machines need "
            "the same params.yaml and data, and a folder `checkpoints` that they share"
        )


@contextmanager
def missed() -> Iterator[None]:
    """Say in a sentence that another process ended or fell silent, and leave this one time to tidy up after it.

    Raises:
        PipelineError: instead of gloo's or nccl's error.
        SystemExit: if torchrun asks this process to end.
    """
    if count() == 1:
        yield
        return
    usual = signal.signal(signal.SIGTERM, _end)
    try:
        yield
        signal.signal(signal.SIGTERM, usual)
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise PipelineError(
                f"process {rank()} lost another one ({' '.join(str(error).split())[:120]}); what that one says is the "
                "reason; run it again to go on from the last checkpoint"
            ) from error
        raise
    finally:
        if signal.getsignal(signal.SIGTERM) is not usual:  # torchrun asks while this process tells MLflow that it ends
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)
