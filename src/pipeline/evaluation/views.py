"""Test-time augmentation: several views of each face, whose probabilities are averaged."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2.functional import five_crop, horizontal_flip, resize, resized_crop

from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Views, Zooms

Kind = str | Views | Zooms  # `tta` of a recipe

CROP = 7 / 8  # side of a crop as a share of the face's


def views(faces: Tensor, kind: Kind) -> Iterator[Tensor]:
    """Give the views of a batch of faces, each of the same shape.

    Args:
        faces: (batch, channels, side, side), float.
        kind: `none` (the face), `flip` (and its mirror image), `five_crop` (the corners and the centre, scaled back
            up), `ten_crop` (those and their mirror images), a number of random ones, which are the same at every call,
            or several sizes.

    Raises:
        ValueError: for another kind.
    """
    if isinstance(kind, Views):
        yield from _random_views(faces, kind.views)
        return
    if isinstance(kind, Zooms):
        for zoom in kind.zooms:
            view = _zoomed(faces, zoom)
            yield from (view, horizontal_flip(view))
        return
    if kind not in {"none", "flip", "five_crop", "ten_crop"}:
        raise ValueError(f"{kind!r} is no kind of test-time augmentation")
    side = faces.shape[-1]
    crop = round(side * CROP)
    for part in five_crop(faces, [crop, crop]) if kind.endswith("crop") else [faces]:
        view = resize(part, [side, side], antialias=True) if part.shape[-1] != side else part
        yield view
        if kind in {"flip", "ten_crop"}:
            yield horizontal_flip(view)


def _random_views(faces: Tensor, count: int) -> Iterator[Tensor]:
    random, side = np.random.default_rng(0), faces.shape[-1]
    crop = round(side * CROP)
    yield faces
    for number in range(1, count):
        top, left = (int(place) for place in random.integers(0, side - crop + 1, 2))
        view = resized_crop(faces, top, left, crop, crop, [side, side], antialias=True)
        yield horizontal_flip(view) if number % 2 else view


def _zoomed(faces: Tensor, zoom: float) -> Tensor:
    """Return faces seen from nearer or farther; where a smaller one leaves room, its edge goes on."""
    if zoom == 1:
        return faces
    about_centre = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]], dtype=faces.dtype, device=faces.device)
    grid = affine_grid(about_centre.expand(len(faces), 2, 3), list(faces.shape), align_corners=False)
    return grid_sample(faces, grid, padding_mode="border", align_corners=False)


def answer(
    checkpoint: Checkpoint,
    batches: Iterable[Sequence[Tensor]],
    ask: Callable[[Tensor], Mapping[str, tuple[Tensor, Kind]]],
) -> dict[str, list[NDArray[np.float32]]]:
    """Return what a version answers for the faces of all batches, or clips: probabilities (classes,) for each, by name.

    Args:
        checkpoint: the version.
        batches: each with uint8 faces (batch, side, side, 3), or clips of them, in the first place.
        ask: returns what is asked about these, by name: faces, and as which views of them they are seen.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = checkpoint.network().to(device)
    answers: dict[str, list[Tensor]] = defaultdict(list)
    with torch.inference_mode():
        for shown, *_ in batches:
            for name, (faces, kind) in ask(shown.to(device)).items():
                answers[name].append(average(network, network.normalize(faces), kind).cpu())
    return {name: list(torch.cat(parts).numpy()) for name, parts in answers.items()}


def average(network: ExpressionNetwork, faces: Tensor, kind: Kind) -> Tensor:
    """Return the mean over the views (batch, classes) of normalized faces (batch, channels, side, side)."""
    return torch.stack([network.classify(view).softmax(1) for view in views(faces, kind)]).mean(0)
