"""Test-time augmentation as it is served: a face and its mirror image, `flip` in `pipeline.evaluation.views`."""

import numpy as np
from numpy.typing import NDArray


def shown(faces: NDArray[np.uint8], tta: bool) -> NDArray[np.uint8]:
    """Return what is shown to the network of faces (n, size, size, 3): with `tta` (2n, ...), mirror images last."""
    return np.concatenate([faces, faces[:, :, ::-1]]) if tta else faces


def averaged(rows: NDArray[np.float32], tta: bool) -> NDArray[np.float32]:
    """Return the mean (n, k) of what it said of `shown` faces, (2n, k); without `tta` both are (n, k)."""
    return rows.reshape(2, -1, rows.shape[1]).mean(axis=0) if tta else rows
