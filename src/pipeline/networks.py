"""The networks: a timm backbone, and the head that a recipe spells out."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.recipes import LastLayers, LastStages, Recipe


class ExpressionNetwork(nn.Module):
    """Faces in, seven logits out.

    `forward` takes uint8 faces (batch, side, side, 3), RGB, and scales them itself by the backbone's own mean and
    standard deviation, so training, evaluation and the exported model can not differ in it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe, *, pretrained: bool | None = None) -> None:
        """Build the network of a recipe; `pretrained=False` builds it empty, to be filled with its own weights.

        Raises:
            PipelineError: if timm has no such backbone, or its pretrained weights can not be had.
        """
        super().__init__()
        self.backbone = _backbone(recipe.backbone, recipe.pretrained if pretrained is None else pretrained)
        facts: Any = self.backbone  # timm's models say these of themselves; nn.Module does not know it
        self.head = _head(recipe.head, facts.num_features)
        config = facts.pretrained_cfg
        self.register_buffer("mean", 255 * torch.tensor(config["mean"]).reshape(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(config["std"]).reshape(3, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Return logits (batch, 7), float, for uint8 faces (batch, side, side, 3)."""
        return self.classify(self.normalize(faces))

    def normalize(self, faces: Tensor) -> Tensor:
        """Return float faces (batch, 3, side, side), zero mean and unit deviation, for uint8 (batch, side, side, 3)."""
        return (faces.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std

    def classify(self, faces: Tensor) -> Tensor:
        """Return logits (batch, 7) for normalized faces (batch, 3, side, side)."""
        return self.head(self.backbone(faces))

    def freeze(self, trainable: str | LastLayers | LastStages) -> None:
        """Let only the chosen part of the backbone learn. The head always does.

        A frozen layer also keeps its batch-norm statistics: see `train`.
        """
        if trainable == "all":
            return
        learning = _learning(self.backbone, trainable)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name in learning

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

    Args:
        network: changed in place.
        weights: the other version's state.
        file: where they come from, for the error.

    Returns:
        the names of the parameters of the head that did not fit and start anew.

    Raises:
        PipelineError: if the backbones differ.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    fresh = sorted(set(own) - set(fitting))
    if any(name.startswith("backbone.") for name in fresh):
        raise PipelineError(f"{file} has another backbone than the version that shall start from it")
    network.load_state_dict(fitting, strict=False)
    return fresh


def check_backbone(name: str) -> None:
    """Raise PipelineError if timm has no such backbone."""
    if not timm.is_model(name.split(".")[0]):
        raise PipelineError(f"timm has no backbone {name!r}; `timm.list_models('convnext*')` lists what it has")


def _backbone(name: str, pretrained: bool) -> nn.Module:
    check_backbone(name)
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the pretrained weights of {name} can not be had ({' '.join(str(error).split())[:200]}); connect to the "
            f"network once, or set `pretrained: false` in the recipe"
        ) from error
    if not pretrained:
        _silence_branches(backbone)
    return backbone


def _silence_branches(backbone: nn.Module) -> None:
    """Let residual blocks begin as the identity: the last norm of each branch starts at zero (Goyal et al. 2017).

    From scratch, EfficientNet hardly leaves the frequencies of the labels in its first thousand steps otherwise. timm
    does it for its ResNets; ConvNeXt has its layer scale.
    """
    for block in backbone.modules():
        if getattr(block, "has_skip", False):
            *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
            nn.init.zeros_(last.weight)


def _head(layers: tuple[str | dict[str, float], ...], width: int) -> nn.Sequential:
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
    return head.append(nn.Linear(width, len(LABELS)))


def _learning(backbone: Any, trainable: str | LastLayers | LastStages) -> set[str]:
    """Return the names of the backbone's parameters that learn."""
    if isinstance(trainable, LastLayers):
        layers = [name for name, module in backbone.named_modules() if list(module.parameters(recurse=False))]
        last = layers[-trainable.last_layers :]
        return {name for name, _ in backbone.named_parameters() if name.rpartition(".")[0] in last}
    if isinstance(trainable, LastStages):
        # timm's coarse groups: the stem, one a stage, and what follows the last stage, which always learns with it.
        groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))
        stages = sorted(group for group in groups if any("stages" in n or "blocks" in n for n in groups[group]))
        first = stages[-trainable.last_stages]
        return {name for group, names in groups.items() if group >= first for name in names}
    return set()
