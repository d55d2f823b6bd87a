"""What is left of a version's scores when faces are blurred, noisy, compressed, dark, turned or covered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.evaluation.metrics import macro_f1
from pipeline.networks.checkpoint import Checkpoint
from pipeline.params import EvaluateParams
from pipeline.training.loading import Faces

BATCH = 64

Transform = Callable[..., dict[str, Any]]


def _blur(share: float, side: int) -> Transform:
    return albumentations.GaussianBlur(sigma_limit=(share * side, share * side), p=1)


def _noise(deviation: float, _: int) -> Transform:
    return albumentations.GaussNoise(std_range=(deviation, deviation), p=1)


def _jpeg(quality: float, _: int) -> Transform:
    return albumentations.ImageCompression(quality_range=(int(quality), int(quality)), p=1)


def _darkness(light: float, _: int) -> Transform:
    return albumentations.MultiplicativeNoise(multiplier=(light, light), p=1)


def _rotation(degrees: float, _: int) -> Transform:
    either = (degrees, -degrees)
    ways = [albumentations.Rotate((way, way), border_mode=cv2.BORDER_REPLICATE, p=1) for way in either]
    return albumentations.OneOf(ways, p=1)


def _occlusion(share: float, _: int) -> Transform:
    size = (share, share)
    return albumentations.CoarseDropout((1, 1), hole_height_range=size, hole_width_range=size, p=1)


# Fixed, so that versions compare. In order: the deviation of the Gaussian as a share of the side; that of the noise as
# a share of white; JPEG's quality; the share of the light that is left; degrees, either way; the side of a black square
# as a share of the face's, anywhere.
CORRUPTIONS: dict[str, tuple[Callable[[float, int], Transform], tuple[float, float, float]]] = {
    "blur": (_blur, (0.01, 0.02, 0.04)),
    "noise": (_noise, (0.05, 0.1, 0.2)),
    "jpeg": (_jpeg, (30, 15, 7)),
    "darkness": (_darkness, (0.6, 0.35, 0.15)),
    "rotation": (_rotation, (10, 20, 40)),
    "occlusion": (_occlusion, (0.2, 0.35, 0.5)),
}


def build_corruption(name: str, grade: int, side: int, seed: int) -> albumentations.Compose:
    """Return what damages faces of this side in pixels by a grade, 1 to 3; the same for the same seed and order."""
    build, strengths = CORRUPTIONS[name]
    corruption = albumentations.Compose([build(strengths[grade - 1], side)])
    corruption.set_random_seed(seed)
    return corruption


def measure_robustness(
    checkpoint: Checkpoint, folder: Path, faces: pd.DataFrame, params: EvaluateParams
) -> dict[str, Any] | None:
    """Score a version on damaged faces, in the spirit of Hendrycks and Dietterich (2019, ICLR).

    Unlike there, the damage is done at the size that the network takes, to faces that it then sees as they are, so that
    versions of one size meet the very same pixels. Answers are without test-time augmentation.

    Args:
        checkpoint: the version.
        folder: with one Parquet file a dataset, where the images are.
        faces: those that it is judged on, `face_id, dataset, label_id` of its classes.
        params: how many of them, drawn at random, and the seed.

    Returns:
        `n`; `clean`, `accuracy` and `macro_f1` of these faces as they are; `corruptions`, the same by kind and grade,
        `1` to `3`; and `mean`, over all of those. None where no faces are asked for or there are none.
    """
    some = faces.sample(min(len(faces), params.robustness_faces), random_state=params.seed).sort_index()
    if some.empty:
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = checkpoint.network().to(device)
    shown = Faces(folder, some, checkpoint.recipe.image_size, classes=len(checkpoint.recipe.classes))

    def answer() -> NDArray[np.int64]:
        # In this process and in order: what is random about a face depends on those before it.
        with torch.inference_mode():
            return torch.cat(
                [network(batch.to(device)).argmax(1).cpu() for batch, _ in DataLoader(shown, BATCH)]
            ).numpy()

    clean = _score(shown.label_ids, answer())
    damaged: dict[str, dict[str, dict[str, float]]] = {name: {} for name in CORRUPTIONS}
    grades = [(name, grade) for name in CORRUPTIONS for grade in (1, 2, 3)]
    title = f"{checkpoint.facts['version']}: damaged faces"
    for name, grade in tqdm(grades, desc=title, unit=f" x {len(some)} faces", mininterval=1, disable=None):
        shown.augment = build_corruption(name, grade, checkpoint.recipe.image_size, params.seed)
        damaged[name][str(grade)] = _score(shown.label_ids, answer())
    scores = pd.DataFrame([damaged[name][str(grade)] for name, grade in grades])
    mean = {key: float(scores[key].mean()) for key in clean}
    return {"n": len(some), "clean": clean, "mean": mean, "corruptions": damaged}


def _score(label_ids: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    return {"accuracy": float(accuracy_score(label_ids, predicted)), "macro_f1": macro_f1(label_ids, predicted)}
