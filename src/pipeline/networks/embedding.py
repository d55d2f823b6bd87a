"""What is told of a face's features: their norm, and their place on the axes along which validation faces differ most.

A few numbers are enough to see that faces come from elsewhere than those the network learned from, and too few to make
a face of them again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pipeline.datasets.images import iter_images
from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.vision.transforms import decode, resize

COMPONENTS = 4
SMALLEST = 1e-6  # variance of an axis, as a share of the first one's: below, it is rounding
FITTED, BATCH = 512, 64


@dataclass(frozen=True)
class Projection:
    """Principal components of pooled features: their `mean` (width,), and `components` (k, width), float32."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]


def features_of(network: ExpressionNetwork, faces: torch.Tensor) -> torch.Tensor:
    """Return the backbone's pooled features (batch, width) for uint8 faces (batch, side, side, 3)."""
    return network.backbone(network.normalize(faces))


@torch.inference_mode()
def fit_projection(checkpoint: Checkpoint, folder: Path, faces: pd.DataFrame) -> Projection | None:
    """Find the axes along which the features of some faces differ most, by PCA.

    Args:
        checkpoint: the version whose features they are.
        folder: with one Parquet file a dataset, where the images are.
        faces: `face_id, dataset`, each once; the first `FITTED` of them are enough.

    Returns:
        at most `COMPONENTS` axes, each scaled to a deviation of 1 on these faces; nothing where there are too few
        faces to have any.
    """
    network, size = checkpoint.network(), checkpoint.recipe.image_size
    parts = []
    for images in iter_images(folder, faces[:FITTED]):
        for start in range(0, len(images), BATCH):
            batch = np.stack([resize(decode(image), size) for image in images[start : start + BATCH]])
            parts.append(features_of(network, torch.from_numpy(batch)).numpy())
    features = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    count = min(COMPONENTS, len(features) - 1, features.shape[1])
    if count < 1:
        return None
    pca = PCA(count, svd_solver="full").fit(features.astype(np.float64))
    kept = pca.explained_variance_ > SMALLEST * pca.explained_variance_[0]
    axes = pca.components_[kept] / np.sqrt(pca.explained_variance_[kept, None])
    return Projection(pca.mean_.astype(np.float32), axes.astype(np.float32)) if kept.any() else None
