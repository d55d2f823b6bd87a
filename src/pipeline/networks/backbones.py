"""Backbones that timm has none of: the convolutional networks of other systems on FER2013, under timm's own registry.

`timm.create_model` builds them by name as it builds its own, so recipes and stages need to know nothing of them. Each
takes `img_size`, the side of the faces in pixels, and gives features (batch, num_features).
"""

from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.models import model_entrypoint, register_model
from torch import Tensor, nn

from pipeline.errors import PipelineError

TIMMS = ("pretrained_cfg", "pretrained_cfg_overlay", "num_classes", "cache_dir")  # arguments
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # faces in -1..1


class Backbone(nn.Module):
    """Layers that turn faces (batch, channels, side, side) into features (batch, num_features)."""

    def __init__(self, layers: nn.Sequential, in_chans: int, img_size: int) -> None:
        """Take the layers, and find out how many features they give for faces of `img_size` pixels."""
        super().__init__()
        self.layers = layers
        self._placed = next(n for n, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten))
        self.pretrained_cfg = {"mean": MEAN, "std": STD}
        with torch.no_grad():
            self.num_features = self.eval().forward(torch.zeros(1, in_chans, img_size, img_size)).shape[1]
        self.train()

    def forward(self, faces: Tensor) -> Tensor:
        """Return the features of faces."""
        return self.forward_head(self.forward_features(faces))

    def forward_features(self, faces: Tensor) -> Tensor:
        """Return the last features that have a place: (batch, channels, height, width)."""
        return self.layers[: self._placed](faces)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return features (batch, num_features) for those."""
        return self.layers[self._placed :](features)


class Residual(nn.Module):
    """Two separable convolutions and a pooling to half the side, beside a strided 1x1 convolution (Chollet 2017)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        """Build a block between two widths."""
        super().__init__()
        self.body = nn.Sequential(
            *_separable(width_in, width_out),
            nn.ReLU(),
            *_separable(width_out, width_out),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(width_in, width_out, 1, stride=2, bias=False), nn.BatchNorm2d(width_out)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of both ways."""
        return self.body(features) + self.shortcut(features)


class Attention(nn.Module):
    """Convolutional block attention: what matters by channel, then by place (Woo et al. 2018, "CBAM", ECCV)."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        """Build it for features of a width."""
        super().__init__()
        narrow = max(1, width // reduction)
        self.channels = nn.Sequential(nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 1))
        self.places = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (batch, width, height, width), weighted."""
        mean, most = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        features = features * (self.channels(mean) + self.channels(most)).sigmoid()
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)
        return features * self.places(pooled).sigmoid()


def has_fixed_size(name: str) -> bool:
    """Whether a backbone, timm's or one of these, is built for faces of one size, and takes it as `img_size`."""
    if model_entrypoint(name.split(".")[0]).__module__ == __name__:
        return True
    config = timm.get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size)


def _registered(build: Callable[..., Backbone]) -> Callable[..., Backbone]:
    """Register a backbone with timm; what timm tells all of its own is kept from it."""

    @wraps(build)
    def entry(pretrained: bool = False, **arguments: Any) -> Backbone:
        if pretrained:
            raise PipelineError(f"{build.__name__} has no pretrained weights; set pretrained: false in its recipe")
        return build(**{name: value for name, value in arguments.items() if name not in TIMMS})

    return register_model(entry)


@_registered
def basic_cnn(in_chans: int = 3, img_size: int = 48) -> Backbone:
    """Four convolutions of 32, 64, 256 and 512 channels, each pooled to half the side, with dropout."""
    layers = nn.Sequential()
    for (before, width), dropout in zip(pairwise((in_chans, 32, 64, 256, 512)), (0.1, 0.1, 0.1, 0.2), strict=True):
        layers.extend([nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)])
    return Backbone(layers.append(nn.Flatten()), in_chans, img_size)


@_registered
def separable_cnn(in_chans: int = 3, img_size: int = 48) -> Backbone:
    """Five residual blocks of separable convolutions with 32 to 512 channels, and the mean over all places."""
    widths = (32, 64, 128, 256, 512)
    stem = [nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    blocks = [Residual(before, width) for before, width in pairwise(widths)]
    layers = nn.Sequential(*stem, Residual(widths[0], widths[0]), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(layers, in_chans, img_size)


@_registered
def cbam_cnn(in_chans: int = 3, img_size: int = 224) -> Backbone:
    """Four convolutions of 32 to 256 channels, each with attention by channel and place, and the mean over places."""
    layers = nn.Sequential()
    for before, width in pairwise((in_chans, 32, 64, 128, 256)):
        convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
        layers.extend([convolution, nn.BatchNorm2d(width), nn.ReLU(), Attention(width), nn.MaxPool2d(2)])
    return Backbone(layers.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()]), in_chans, img_size)


@_registered
def four_layer_cnn(in_chans: int = 3, img_size: int = 48) -> Backbone:
    """Four convolutions of 64 (3x3), 128 (5x5), 512 and 512 channels, normalized, pooled to half, with dropout."""
    layers = nn.Sequential()
    for (before, width), side in zip(pairwise((in_chans, 64, 128, 512, 512)), (3, 5, 3, 3), strict=True):
        convolution = nn.Conv2d(before, width, side, padding=side // 2, bias=False)
        layers.extend([convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)])
    return Backbone(layers.append(nn.Flatten()), in_chans, img_size)


def _separable(width_in: int, width_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False),
        nn.Conv2d(width_in, width_out, 1, bias=False),
        nn.BatchNorm2d(width_out),
    ]
