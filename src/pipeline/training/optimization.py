"""Optimizers with their parameter groups, and learning-rate schedules, from what a recipe says."""

import itertools
import math
from functools import partial
from typing import Any

import torch
from timm.optim import Muon, muon
from torch import optim
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler

from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Optimizer,
    Plateau,
    Recipe,
    SchedulePhase,
    WarmRestarts,
)


def build_muon(groups: list[dict[str, Any]], **settings: Any) -> Muon:
    """Build timm's Muon; on a CPU without bfloat16 one that computes in full precision.

    In bfloat16, as timm has it, a step takes such a CPU twenty to forty times as long; in full precision, training `v8`
    takes one that has bfloat16 a quarter longer.
    """
    exact = muon.zeropower_via_newtonschulz
    if not (torch.cuda.is_available() or has_bfloat16() or isinstance(exact, partial)):
        muon.zeropower_via_newtonschulz = partial(exact, dtype=torch.float32)  # type: ignore[assignment]
    return Muon(groups, **settings)


def has_bfloat16() -> bool:
    """Return whether the CPU multiplies in bfloat16 itself."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


OPTIMIZERS: dict[str, Any] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "muon": build_muon,
}
MOMENTUM: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9, "nesterov": True}, "muon": {"nesterov": True}}


def build_optimizer(network: ExpressionNetwork, optimizer: Optimizer) -> optim.Optimizer:
    """Build the optimizer over what learns: the head, and the part of the backbone that is not frozen."""
    groups = [
        {"params": _learning(network.head.parameters()), "lr": optimizer.lr, "name": "head"},
        {
            "params": _learning(network.backbone.parameters()),
            "lr": optimizer.backbone_lr or optimizer.lr,
            "name": "backbone",
        },
    ]
    return OPTIMIZERS[optimizer.name](
        [group for group in groups if group["params"]],
        weight_decay=optimizer.weight_decay,
        **MOMENTUM.get(optimizer.name, {}),
    )


def build_schedule(optimizer: optim.Optimizer, recipe: Recipe, steps: int, batches: int) -> dict[str, Any] | None:
    """Build the schedule as Lightning takes it, or nothing where the rate stays as it is.

    Args:
        optimizer: whose groups' rates are the highest ones.
        recipe: its phases, in order, with periods in epochs.
        steps: of the optimizer in the whole run.
        batches: of an epoch.
    """
    if not recipe.schedule:
        return None
    first = recipe.schedule[0]
    if isinstance(first, Plateau):
        plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=first.factor, patience=first.patience)
        # Behind the last step of an epoch it has its say before the checkpoint is written, behind the epoch after it.
        return {"scheduler": plateau, "interval": "step", "frequency": batches, "monitor": "validation/loss"}
    ends = [round(share * steps) for share in itertools.accumulate(phase.share for phase in recipe.schedule)]
    lengths = [max(1, end - begin) for begin, end in itertools.pairwise([0, *ends])]
    # Built from the last to the first: each scheduler leaves its own first rate behind in the optimizer.
    phases = [
        _phase(optimizer, phase, length, steps / recipe.epochs)
        for phase, length in zip(reversed(recipe.schedule), reversed(lengths), strict=True)
    ][::-1]
    milestones = list(itertools.accumulate(lengths))[:-1]
    scheduler = optim.lr_scheduler.SequentialLR(optimizer, phases, milestones) if milestones else phases[0]
    return {"scheduler": scheduler, "interval": "step"}


def one_cycle(step: int, *, warm_up: float, steps: int) -> float:
    """Return the share of the highest rate at a step: up from 1/25 by a cosine, then down to 4e-6 (Smith & Topin 2018).

    It is torch's `OneCycleLR`, which can not be one phase of several: it takes its first rate from the optimizer, where
    the phase before leaves its own.

    Args:
        step: from 0.
        warm_up: share of the steps in which it rises.
        steps: of the whole cycle.
    """
    top = warm_up * (steps + 1) - 1
    if step < top:
        return _between(1 / 25, 1, step / top)
    return _between(1, 1 / 25e4, min(1, (step - top) / (steps - top)))


def _between(begin: float, end: float, way: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * way))


def _phase(optimizer: optim.Optimizer, phase: SchedulePhase, steps: int, steps_per_epoch: float) -> LRScheduler:
    for group in optimizer.param_groups:
        group.setdefault("highest_lr", group["lr"])
        group["lr"] = group["initial_lr"] = group["highest_lr"]
    if isinstance(phase, OneCycle):
        return optim.lr_scheduler.LambdaLR(optimizer, partial(one_cycle, warm_up=phase.warm_up, steps=steps))
    if isinstance(phase, Cosine):
        period = steps if phase.period is None else round(phase.period * steps_per_epoch)
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, period), eta_min=phase.minimum_lr)
    if isinstance(phase, Constant):
        return optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    if isinstance(phase, Exponential):
        return optim.lr_scheduler.ExponentialLR(optimizer, math.exp(-phase.decay / steps_per_epoch))
    assert isinstance(phase, WarmRestarts)
    return optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, max(1, round(phase.period * steps_per_epoch)), T_mult=phase.growth, eta_min=phase.minimum_lr
    )


def _learning(parameters: Any) -> list[Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
