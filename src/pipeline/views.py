"""Test-time augmentation: several views of each face, whose probabilities are averaged."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import five_crop, horizontal_flip, resize, resized_crop

from pipeline.networks import ExpressionNetwork
from pipeline.recipes import Views

CROP = 7 / 8  # side of a crop as a share of the face's


def views(faces: Tensor, kind: str | Views) -> Iterator[Tensor]:
    """Give the views of a batch of faces, each of the same shape.

    Args:
        faces: (batch, channels, side, side), float.
        kind: `none` (the face), `flip` (and its mirror image), `five_crop` (the corners and the centre, scaled back
            up), `ten_crop` (those and their mirror images), or a number of random ones: the same at every call.

    Raises:
        ValueError: for another kind.
    """
    if isinstance(kind, Views):
        yield from _random_views(faces, kind.views)
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


def average(network: ExpressionNetwork, faces: Tensor, kind: str | Views) -> Tensor:
    """Return the mean over the views (batch, classes) of normalized faces (batch, channels, side, side)."""
    return torch.stack([network.classify(view).softmax(1) for view in views(faces, kind)]).mean(0)
