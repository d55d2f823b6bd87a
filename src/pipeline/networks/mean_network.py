"""Networks that answer together, as one network: the mean of their probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.networks.network import ExpressionNetwork

SMALLEST = 1e-7  # probability, so that its logarithm is finite


class MeanNetwork(nn.Module):
    """Faces in, one logit a class out, whose softmax at a temperature of 1 is the mean of the members' probabilities.

    `forward` takes uint8 faces (batch, side, side, 3), RGB. Each member is as sure as it is right, so their mean is
    less sure than it could be: it has a `temperature` of its own, by which the logits are divided.
    """

    temperature: Tensor

    def __init__(self, members: Sequence[ExpressionNetwork], side: int) -> None:
        """Take networks of the same classes, for faces of the same side in pixels."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperature", torch.ones(()))
        with torch.no_grad():
            faces = torch.zeros(2, side, side, 3, dtype=torch.uint8)
            self._shapes = [tuple(member.eval().places(faces).shape[1:]) for member in members]

    def forward(self, faces: Tensor) -> Tensor:
        """Return logits (batch, classes), float."""
        return self._mean([member(faces) for member in self.members])

    def places(self, faces: Tensor) -> Tensor:
        """Return the members' last features that have a place, side by side: (batch, channels, height, width).

        Raises:
            PipelineError: if they have not the same places.
        """
        if len({shape[1:] for shape in self._shapes}) > 1:
            raise PipelineError("the last features of its members have different places")
        return torch.cat([member.places(faces) for member in self._each()], 1)

    def conclude(self, places: Tensor) -> Tensor:
        """Return logits (batch, classes) for what `places` returned."""
        parts = places.split([shape[0] for shape in self._shapes], 1)
        return self._mean([member.conclude(part) for member, part in zip(self._each(), parts, strict=True)])

    def _each(self) -> list[ExpressionNetwork]:
        return [member for member in self.members if isinstance(member, ExpressionNetwork)]

    def _mean(self, logits: list[Tensor]) -> Tensor:
        mean = torch.stack([each.float().softmax(1) for each in logits]).mean(0)
        return (mean + SMALLEST).log() / self.temperature
