"""Test-time augmentation: several views of each face, whose probabilities are averaged."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import five_crop, horizontal_flip, resize

from pipeline.networks import ExpressionNetwork

CROP = 7 / 8  # side of a crop as a share of the face's


def views(faces: Tensor, kind: str) -> Iterator[Tensor]:
    """Give the views of a batch of faces, each of the same shape.

    Args:
        faces: (batch, channels, side, side), float.
        kind: `none` (the face), `flip` (and its mirror image), `five_crop` (the corners and the centre, scaled back
            up), `ten_crop` (those and their mirror images).

    Raises:
        ValueError: for another kind.
    """
    if kind not in {"none", "flip", "five_crop", "ten_crop"}:
        raise ValueError(f"{kind!r} is no kind of test-time augmentation")
    side = faces.shape[-1]
    crop = round(side * CROP)
    parts = five_crop(faces, [crop, crop]) if kind.endswith("crop") else [faces]
    for part in parts:
        view = resize(part, [side, side], antialias=True) if part.shape[-1] != side else part
        yield view
        if kind in {"flip", "ten_crop"}:
            yield horizontal_flip(view)


def average(network: ExpressionNetwork, faces: Tensor, kind: str) -> Tensor:
    """Return probabilities (batch, 7), the mean over the views of normalized faces (batch, channels, side, side)."""
    return torch.stack([network.classify(view).softmax(1) for view in views(faces, kind)]).mean(0)
