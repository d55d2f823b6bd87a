"""Random changes to training faces, built from a recipe's list of albumentations transforms."""

import warnings
from collections.abc import Sequence
from typing import Any

import albumentations
import numpy as np
from pydantic import ValidationError

from pipeline.errors import PipelineError

TRIES = 32  # of which some are cropped and some are not, where only a share is

Step = dict[str, dict[str, Any]]


def build_augmentation(
    steps: Sequence[Step], *, image_size: int, share: float = 1.0, seed: int = 0
) -> albumentations.Compose:
    """Build the augmentation of a recipe.

    Args:
        steps: albumentations transforms, each `{Name: {argument: value}}`; crops get the network's size by themselves.
        image_size: side of the network's input in pixels.
        share: of the faces that are changed at all, 0..1.
        seed: of the random changes.

    Returns:
        a callable for RGB uint8 arrays (height, width, 3).

    Raises:
        PipelineError: for a transform that albumentations does not have, an argument that it would ignore, or a crop
            that only some faces get, so that they make no batch.
    """
    augment = albumentations.Compose([_build(step, image_size) for step in steps], p=share, seed=seed)
    blank = np.zeros((image_size, image_size, 3), np.uint8)
    sizes = {augment(image=blank)["image"].shape[:2] for _ in range(TRIES)}
    if len(sizes) > 1:
        said = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise PipelineError(
            f"augment gives faces of {said} pixels; crop all of them (p: 1.0, augment_share: 1) or none"
        )
    augment.set_random_seed(seed)
    return augment


def _build(step: Step, image_size: int) -> albumentations.BasicTransform:
    if len(step) != 1:
        raise PipelineError(f"an augmentation is one name with its arguments, not {step!r}")
    (name, arguments), *_ = step.items()
    transform = getattr(albumentations, name, None)
    if not (isinstance(transform, type) and issubclass(transform, albumentations.BasicTransform)):
        raise PipelineError(f"albumentations has no transform {name!r}")
    if name == "RandomResizedCrop":
        arguments = {"size": (image_size, image_size), **arguments}
    with warnings.catch_warnings():
        # albumentations only warns about arguments it does not know, and then ignores them.
        warnings.simplefilter("error", UserWarning)
        try:
            return transform(**arguments)
        except ValidationError as error:
            first = error.errors()[0]
            raise PipelineError(f"{name}: {first['loc'][0]}: {first['msg']}, got {first['input']!r}") from error
        except (UserWarning, TypeError, ValueError) as error:
            raise PipelineError(f"{name}: {error}") from error
