"""The losses that recipes name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.labels import LABELS
from pipeline.recipes import Loss


def build_loss(loss: Loss, class_counts: Sequence[int]) -> nn.CrossEntropyLoss:
    """Build the training loss of a recipe.

    It takes logits (batch, 7) and label ids (batch) or, after mixup, label shares (batch, 7).

    Args:
        loss: smoothing and class weights.
        class_counts: training faces of each label, in label order.
    """
    weights = inverse_frequency(class_counts) if loss.class_weights == "inverse_frequency" else None
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=loss.label_smoothing)


def inverse_frequency(class_counts: Sequence[int]) -> Tensor:
    """Return one weight a label, faces / (labels * its faces), as scikit-learn's "balanced"; 0 if it has no faces."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    weights = counts.sum() / (len(LABELS) * counts)
    return torch.where(counts > 0, weights, torch.zeros(()))
