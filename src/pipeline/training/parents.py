"""What a version has of others: the weights that it starts from, and what those that teach it answer."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.networks.backbones import has_fixed_size
from pipeline.networks.checkpoint import WEIGHTS, Checkpoint, load_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe


class Parents(NamedTuple):
    """The version that another one starts from, if any, and those that teach it."""

    start: Checkpoint | None = None
    teachers: tuple[Checkpoint, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What the other version's `model.json` says of them."""
        names = [teacher.facts["version"] for teacher in self.teachers]
        return {"start_from": self.start and self.start.facts["version"]} | ({"teachers": names} if names else {})

    @property
    def drawn(self) -> bool:
        """Whether one of them learned from drawn faces."""
        return any(parent.facts["drawn"] for parent in self._all())

    def sha256(self) -> list[str]:
        """Return the SHA-256 of each one's weights."""
        return [parent.sha256() for parent in self._all()]

    def _all(self) -> Iterable[Checkpoint]:
        return (*([self.start] if self.start else []), *self.teachers)


def find_parents(version: str, recipe: Recipe, made_from: Path, models: Path) -> Parents:
    """Return the parents of a version; it starts from that with the best score on its own validation faces.

    Args:
        version: its name.
        recipe: as it runs.
        made_from: folder in which the stage `inputs` left what is to know of each.
        models: folder in which they lie.

    Raises:
        PipelineError: if one of them was not trained, or tells other classes apart than the version that it teaches.
    """
    known = {}
    for name in recipe.parents:
        file = made_from / f"{name}.json"
        if not file.exists() or not (models / name / WEIGHTS).exists():
            does, without = f"is taught by {name}", "distil: null"
            if name in recipe.start_from:
                does, without = f"starts from {' or '.join(recipe.start_from)}", "start_from: []"
            raise PipelineError(
                f"{version} {does}, but {name} was not trained; add {name} to `run`, or set "
                f"`recipes.{version}.{without}`"
            )
        known[name] = read_json(file)
    best = max(recipe.start_from, key=lambda name: known[name]["validation_macro_f1"], default=None)
    teachers = tuple(load_checkpoint(models / name) for name in recipe.teachers)
    for teacher in teachers:
        if teacher.recipe.classes != recipe.classes:
            raise PipelineError(f"{version} is taught by {teacher.facts['version']}, which tells other classes apart")
    return Parents(load_checkpoint(models / best) if best else None, teachers)


class Teachers:
    """Trained networks that answer for the faces of another one's batches.

    They are no part of the model that is trained: nothing trains, averages, saves or exports them.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], side: int) -> None:
        """Take the versions, and the side in pixels of a whole face as the network that they teach sees it."""
        self._networks = [checkpoint.network().to(memory_format=torch.channels_last) for checkpoint in checkpoints]  # type: ignore[call-overload]
        self._recipes = [checkpoint.recipe for checkpoint in checkpoints]
        self._side = side

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self._networks)

    def to(self, device: torch.device) -> None:
        """Move them to where the faces are."""
        for network in self._networks:
            network.to(device)

    @torch.no_grad()
    def answer(self, pixels: Tensor) -> Tensor:
        """Return the mean of their probabilities (batch, classes).

        Args:
            pixels: faces (batch, channels, height, width), float in 0..255, RGB or grey, perhaps a crop of them; each
                teacher sees them in its own colours and at its own scale.
        """
        answers = [
            network.classify((self._shown(pixels, network, recipe) - network.mean) / network.std).softmax(1)
            for network, recipe in zip(self._networks, self._recipes, strict=True)
        ]
        return torch.stack(answers).mean(0)

    def _shown(self, pixels: Tensor, network: ExpressionNetwork, recipe: Recipe) -> Tensor:
        if network.grey is None:
            pixels = pixels.expand(-1, 3, -1, -1)
        elif pixels.shape[1] == 3:
            pixels = (pixels * network.grey).sum(1, keepdim=True)
        scale = recipe.image_size / self._side
        size = [round(scale * side) for side in pixels.shape[-2:]]
        if has_fixed_size(recipe.backbone):
            size = [recipe.image_size] * 2
        if size == list(pixels.shape[-2:]):
            return pixels
        return interpolate(pixels, size, mode="bilinear", antialias=True)
