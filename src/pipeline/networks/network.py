"""The networks: a timm backbone, and the head that a recipe spells out."""

import re
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import PipelineError, ValuesError
from pipeline.networks import backbones  # which also registers them with timm
from pipeline.recipes import LastLayers, LastStages, Recipe

GREY = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601, as OpenCV and Pillow have it


class ExpressionNetwork(nn.Module):
    """Faces in, one logit for each of the recipe's classes out: for each of the seven labels, as a rule.

    `forward` takes uint8 faces (batch, side, side, 3), RGB, makes them grey if the recipe says so, and scales them
    itself by the backbone's own mean and standard deviation, so training, evaluation and the exported model can not
    differ in it; nor in `temperature`, by which the logits are divided once the network is trained (see
    `pipeline.training.calibration`). Below, `channels` is 3, or 1 where faces are grey.
    """

    temperature: Tensor
    mean: Tensor
    std: Tensor
    grey: Tensor | None

    def __init__(self, recipe: Recipe, *, pretrained: bool | None = None) -> None:
        """Build the network of a recipe; `pretrained=False` builds it empty, to be filled with its own weights.

        Raises:
            PipelineError: if timm has no such backbone, or its pretrained weights can not be had.
        """
        super().__init__()
        self.backbone = _backbone(recipe, recipe.pretrained if pretrained is None else pretrained)
        facts: Any = self.backbone  # timm's models say these of themselves; nn.Module does not know it
        width = getattr(facts, "head_hidden_size", facts.num_features)  # VGG's own layers come in between
        self.head = self.build_head(recipe, width)
        if recipe.normalize_logits:
            self.head.append(nn.BatchNorm1d(len(recipe.classes)))
        mean, std = (255 * torch.tensor(facts.pretrained_cfg[name]) for name in ("mean", "std"))
        if recipe.colour == "grey":
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        grey = torch.tensor(GREY)[:, None, None] if recipe.colour == "grey" else None
        self.register_buffer("grey", grey, persistent=False)

    def build_head(self, recipe: Recipe, width: int) -> nn.Sequential:
        """Return what turns the backbone's features, `width` of them, into logits."""
        return _head(recipe.head, width, len(recipe.classes))

    def forward(self, faces: Tensor) -> Tensor:
        """Return logits (batch, classes), float, for uint8 faces (batch, side, side, 3)."""
        return self.classify(self.normalize(faces))

    def normalize(self, faces: Tensor) -> Tensor:
        """Return faces (batch, channels, side, side) of mean 0 and deviation 1, for uint8 (batch, side, side, 3)."""
        pixels = faces.permute(0, 3, 1, 2).to(self.mean.dtype)
        if self.grey is not None:
            pixels = (pixels * self.grey).sum(1, keepdim=True)
        return (pixels - self.mean) / self.std

    def classify(self, faces: Tensor) -> Tensor:
        """Return logits (batch, classes) for normalized faces (batch, channels, side, side)."""
        return self.logits(faces) / self.temperature

    def logits(self, faces: Tensor) -> Tensor:
        """Return logits (batch, classes), as learned, for normalized faces (batch, channels, side, side)."""
        return self.head(self.backbone(faces))

    def places(self, faces: Tensor) -> Tensor:
        """Return the backbone's last features before its pooling, for uint8 faces: (batch, width, height, width)."""
        backbone: Any = self.backbone
        return backbone.forward_features(self.normalize(faces))

    def conclude(self, places: Tensor) -> Tensor:
        """Return logits (batch, classes) for what `places` returned, as `forward` does for the faces."""
        return self.judge(self.pool(places))

    def pool(self, places: Tensor) -> Tensor:
        """Return the backbone's features (batch, features) for what `places` returned."""
        backbone: Any = self.backbone
        return backbone.forward_head(places)

    def judge(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) for what `pool` returned."""
        return self.head(features) / self.temperature

    def freeze(self, trainable: str | LastLayers | LastStages) -> None:
        """Let only the chosen part of the backbone learn. The head always does.

        A frozen layer also keeps its batch-norm statistics: see `train`.
        """
        if trainable == "all":
            return
        learning = _learning(self.backbone, trainable)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name in learning
        self.train(self.training)  # Lightning leaves every layer in the mode in which it finds it

    def train(self, mode: bool = True) -> "ExpressionNetwork":
        """Switch to training mode, but for the frozen layers: their batch-norm statistics stay as in evaluation."""
        super().train(mode)
        for module in self.backbone.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.training = False
        return self


def first_weights(network: ExpressionNetwork, weights: dict[str, Tensor], file: Path) -> list[str]:
    """Start a network from another version's weights: all of its backbone, and what fits of its head.

    Not from its temperature, which belongs to a network that is trained.

    Args:
        network: changed in place.
        weights: the other version's state.
        file: where they come from, for the error.

    Returns:
        the names of the parameters of the head that did not fit and start anew.

    Raises:
        ValuesError: if the backbones differ.
    """
    own = {name: value for name, value in network.state_dict().items() if name != "temperature"}
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    fresh = sorted(set(own) - set(fitting))
    if any(name.startswith("backbone.") for name in fresh):
        raise ValuesError(f"{file} has another backbone than the version that shall start from it")
    network.load_state_dict(fitting, strict=False)
    return fresh


def multiply_adds(network: nn.Module, side: int) -> int:
    """Return how many multiply-adds the network needs for one face of this side, in pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    return counter.get_total_flops() // 2


def check_network(recipe: Recipe) -> None:
    """Raise PipelineError if a recipe's network can not be built. It takes no memory, and no weights from anywhere."""
    with torch.device("meta"):
        ExpressionNetwork(recipe, pretrained=False).freeze(recipe.trainable)


def check_backbone(name: str) -> None:
    """Raise PipelineError if timm has no such backbone, or not with such weights."""
    if not timm.is_model(name.split(".")[0]):
        raise PipelineError(f"timm has no backbone {name!r}; `timm.list_models('convnext*')` lists what it has")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise PipelineError(f"timm has no weights {name!r}; `timm.list_pretrained('convnext*')` lists them") from error


def _backbone(recipe: Recipe, pretrained: bool) -> nn.Module:
    name = recipe.backbone
    check_backbone(name)
    arguments: dict[str, Any] = {"in_chans": 1 if recipe.colour == "grey" else 3, "num_classes": 0}
    if backbones.has_fixed_size(name):
        arguments["img_size"] = recipe.image_size
        if recipe.small_stem:
            raise PipelineError(f"small_stem: {name} is built for faces of one size, and has no other stem")
    try:
        backbone = timm.create_model(name, pretrained=pretrained, **{**arguments, **recipe.backbone_args})
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"backbone_args: {name} does not take {recipe.backbone_args} ({error})") from error
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the pretrained weights of {name} can not be had ({' '.join(str(error).split())[:200]}); connect to the "
            f"network once, or set `pretrained: false` in the recipe"
        ) from error
    if recipe.small_stem:
        _keep_size(backbone)
    if not pretrained:
        _silence_branches(backbone)
    return backbone


def _keep_size(backbone: nn.Module) -> None:
    """Replace the first convolution by one of 3x3 pixels that gives as many pixels as it takes."""
    name, first = next((name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    backbone.set_submodule(name, nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False))


def _silence_branches(backbone: nn.Module) -> None:
    """Let residual blocks begin as the identity: the last norm of each branch starts at zero (Goyal et al. 2017).

    From scratch, EfficientNet hardly leaves the frequencies of the labels in its first thousand steps otherwise. timm
    does it for its ResNets; ConvNeXt has its layer scale.
    """
    for block in backbone.modules():
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
        if getattr(block, "has_skip", False) and norms:
            nn.init.zeros_(norms[-1].weight)


def _head(layers: tuple[str | dict[str, float], ...], width: int, classes: int) -> nn.Sequential:
    head = nn.Sequential()
    for layer in layers:
        if layer == "relu":
            head.append(nn.ReLU())
        elif layer == "batch_norm":
            head.append(nn.BatchNorm1d(width))
        elif isinstance(layer, dict) and "dropout" in layer:
            head.append(nn.Dropout(layer["dropout"]))
        elif isinstance(layer, dict) and "linear" in layer:
            head.append(nn.Linear(width, int(layer["linear"])))
            width = int(layer["linear"])
        else:
            raise PipelineError(f"{layer!r} is no layer of a head")
    return head.append(nn.Linear(width, classes))


def _learning(backbone: Any, trainable: str | LastLayers | LastStages) -> set[str]:
    """Return the names of the backbone's parameters that learn."""
    if isinstance(trainable, LastLayers):
        layers = [name for name, module in backbone.named_modules() if list(module.parameters(recurse=False))]
        last = layers[-trainable.last_layers :]
        return {name for name, _ in backbone.named_parameters() if name.rpartition(".")[0] in last}
    if isinstance(trainable, LastStages):
        # timm's coarse groups: the stem, one a stage, and what follows the last stage, which always learns with it.
        matcher = backbone.group_matcher(coarse=True) if hasattr(backbone, "group_matcher") else {"blocks": []}
        groups: dict[int, list[str]] = group_parameters(backbone, matcher)
        blocks = matcher["blocks"]
        patterns = [blocks] if isinstance(blocks, str) else [pattern for pattern, _ in blocks]
        stages = sorted(g for g, names in groups.items() if any(re.match(p, name) for p in patterns for name in names))
        if trainable.last_stages > len(stages):
            raise PipelineError(
                f"trainable: timm knows {len(stages)} stages of this backbone, not {trainable.last_stages}; choose "
                "last_layers instead, or fewer"
            )
        first = stages[-trainable.last_stages]
        return {name for group, names in groups.items() if group >= first for name in names}
    return set()
