"""The losses that recipes name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.recipes import Loss


class FocalLoss(nn.Module):
    """Cross-entropy in which what is known already counts less (Lin et al. 2017, "Focal Loss", ICCV).

    Each label's term is weighted by (1 - p) ** `exponent`, p the probability that the network gives it; as there, the
    mean is over the faces, whatever the classes weigh.
    """

    weights: Tensor | None

    def __init__(self, exponent: float, weights: Tensor | None, label_smoothing: float) -> None:
        """Take the exponent, one weight a class or none, and the share of a label that goes to all alike."""
        super().__init__()
        self.exponent = exponent
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits (batch, classes) for ids (batch) or shares (batch, classes)."""
        shares = targets if targets.is_floating_point() else nn.functional.one_hot(targets, logits.shape[1])
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        known = logits.log_softmax(1)
        unknown = (1 - known.exp()).clamp_min(torch.finfo(known.dtype).eps)  # powers below 1 have no slope at 0
        terms = -shares * unknown**self.exponent * known
        return (terms if self.weights is None else terms * self.weights).sum(1).mean()


def build_loss(loss: Loss, class_counts: Sequence[int]) -> nn.Module:
    """Build the training loss of a recipe.

    It takes logits (batch, classes) and label ids (batch) or, after mixup, label shares (batch, classes).

    Args:
        loss: smoothing, class weights and the focal exponent.
        class_counts: training faces of each class, in their order.
    """
    weights = inverse_frequency(class_counts) if loss.class_weights == "inverse_frequency" else None
    if loss.focal:
        return FocalLoss(loss.focal, weights, loss.label_smoothing)
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=loss.label_smoothing)


def inverse_frequency(class_counts: Sequence[int]) -> Tensor:
    """Return one weight a class, faces / (classes * its faces), as scikit-learn's "balanced"; 0 if it has no faces."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    weights = counts.sum() / (len(counts) * counts)
    return torch.where(counts > 0, weights, torch.zeros(()))
