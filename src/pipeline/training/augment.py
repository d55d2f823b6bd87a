"""Random changes to training faces, built from a recipe's list of albumentations transforms."""

import random
import warnings
from collections.abc import Sequence
from typing import Any

import albumentations
import numpy as np
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.networks.backbones import has_fixed_size
from pipeline.recipes import Recipe
from pipeline.vision.transforms import Image

TRIES = 8  # of transforms that draw the size of what they give

Step = dict[str, dict[str, Any]]


def augmentation_of(recipe: Recipe, seed: int = 0) -> albumentations.Compose:
    """Build the augmentation of a recipe, as `build_augmentation` does.

    Raises:
        PipelineError: also if it gives faces of another size than the one that the backbone is built for.
    """
    side = recipe.image_size
    augment = build_augmentation(recipe.augment, image_size=side, share=recipe.augment_share, seed=seed)
    if has_fixed_size(recipe.backbone):
        ((height, width),) = _sizes(augment, side)
        if (height, width) != (side, side):
            raise PipelineError(
                f"augment gives faces of {height}x{width} pixels, and {recipe.backbone} is built for those of "
                f"{side}x{side}"
            )
        seed_augmentation(augment, seed)
    return augment


def build_augmentation(
    steps: Sequence[Step], *, image_size: int, share: float = 1.0, seed: int = 0
) -> albumentations.Compose:
    """Build an augmentation.

    Args:
        steps: albumentations transforms, each `{Name: {argument: value}}`; crops get the network's size by themselves.
        image_size: side of the network's input in pixels.
        share: of the faces that are changed at all, 0..1.
        seed: of the random changes.

    Returns:
        a callable for RGB uint8 arrays (height, width, 3).

    Raises:
        PipelineError: for a transform that albumentations does not have, an argument that it would ignore, a crop that
            only some faces get, so that they make no batch, or what makes them into other numbers than RGB in bytes.
    """
    augment = albumentations.Compose([_build(step, image_size) for step in steps], p=share, seed=seed)
    sizes = _sizes(augment, image_size)
    if len(sizes) > 1:
        said = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise PipelineError(
            f"augment gives faces of {said} pixels; crop all of them (p: 1.0, augment_share: 1) or none"
        )
    seed_augmentation(augment, seed)
    return augment


def seed_augmentation(augment: albumentations.Compose, seed: int) -> None:
    """Seed the random changes of an augmentation, all of whose steps draw from one sequence.

    albumentations' `set_random_seed` gives each step a sequence of its own from the same seed, so steps that draw as
    many numbers draw the same ones: faces would be made grey only where they are mirrored.
    """
    augment.seed = seed
    augment.set_random_state(np.random.default_rng(seed), random.Random(seed))


def _sizes(augment: albumentations.Compose, image_size: int) -> set[tuple[int, ...]]:
    """Return the sizes, height and width, that faces may have behind an augmentation."""
    always = [step for step in augment.transforms if step.p == 1]
    ways = [[], always] if augment.p < 1 else [always]  # as few steps as may be, and below all of them
    face = np.zeros((image_size, image_size, 3), np.uint8)
    try:
        changed = [albumentations.Compose(way)(image=face)["image"] for way in ways for _ in range(TRIES)]
        changed += [_changed_by_all(augment, face) for _ in range(TRIES)]
    except Exception as error:  # each transform raises its own kinds
        raise PipelineError(f"augment can not change faces of {image_size} pixels ({error})") from error
    for image in changed:
        if image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise PipelineError(
                f"augment gives faces of type {image.dtype} and shape {image.shape}, and networks take RGB in bytes, "
                "which they normalize themselves; take out what makes faces into other numbers, as Normalize does"
            )
    return {image.shape[:2] for image in changed}


def _changed_by_all(augment: albumentations.Compose, face: Image) -> Image:
    for step in augment.transforms:
        face = step(image=face, force_apply=True)["image"]
    return face


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
