"""The network for clips: the backbone sees each frame, an LSTM what they amount to, the head says what that is."""

import torch
from torch import Tensor, nn

from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe, Recurrent


class ClipNetwork(ExpressionNetwork):
    """Clips in, seven logits out (CNN-LSTM; Donahue et al. 2015, "Long-term recurrent convolutional networks", CVPR).

    `forward` takes uint8 clips (batch, frames, side, side, 3) of any number of frames, one too. Normalized, the frames
    lie one behind the other in the channels: what mixes, crops or mirrors pictures takes a clip for one, and does the
    same to all its frames. The LSTM belongs to the head: it is never frozen, and learns at the head's rate.
    """

    def build_head(self, recipe: Recipe, width: int) -> nn.Sequential:
        """Return the LSTM and what the recipe puts behind it."""
        assert recipe.recurrent  # see `build_network`
        return nn.Sequential(LastState(width, recipe.recurrent), *super().build_head(recipe, recipe.recurrent.width))

    def normalize(self, faces: Tensor) -> Tensor:
        """Return clips (batch, frames x channels, side, side), for uint8 (batch, frames, side, side, 3)."""
        return super().normalize(faces.flatten(0, 1)).unflatten(0, faces.shape[:2]).flatten(1, 2)

    def logits(self, faces: Tensor) -> Tensor:
        """Return logits (batch, 7), as learned, for normalized clips (batch, frames x channels, side, side)."""
        frames = faces.unflatten(1, (-1, len(self.mean)))
        # A network whose weights lie with channels last would turn every layer's input around otherwise.
        pictures = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.backbone(pictures).unflatten(0, frames.shape[:2]))


class LastState(nn.Module):
    """An LSTM over features (batch, frames, features), of which the state after the last frame (batch, width) is kept.

    It begins with the forget gate open, so that what the first frames show lasts (Jozefowicz et al. 2015).
    """

    def __init__(self, features: int, recurrent: Recurrent) -> None:
        """Build it for this many features a frame."""
        super().__init__()
        self.lstm = nn.LSTM(features, recurrent.width, recurrent.layers, batch_first=True)
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias_ih"):
                nn.init.ones_(bias.data[recurrent.width : 2 * recurrent.width])  # its gates: in, forget, cell, out

    def forward(self, features: Tensor) -> Tensor:
        """Return the state after the last frame."""
        states, _ = self.lstm(features)
        return states[:, -1]


def build_network(recipe: Recipe, *, pretrained: bool | None = None) -> ExpressionNetwork:
    """Build the network of a recipe, for faces or for clips; see `ExpressionNetwork`."""
    return (ClipNetwork if recipe.recurrent else ExpressionNetwork)(recipe, pretrained=pretrained)
