import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.recipes import Recipe
from pipeline.training.augment import augmentation_of, build_augmentation

FACE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)


def test_a_named_transform_takes_effect():
    flipped = build_augmentation([{"HorizontalFlip": {"p": 1.0}}], image_size=48)(image=FACE)["image"]
    np.testing.assert_array_equal(flipped, FACE[:, ::-1])


def test_a_random_crop_has_the_size_of_the_networks_input():
    crop = build_augmentation([{"RandomResizedCrop": {"p": 1.0}}], image_size=32)
    assert crop(image=FACE)["image"].shape == (32, 32, 3)


def test_the_seed_decides():
    steps = [{"Rotate": {"limit": 90, "p": 1.0}}]
    first, same, other = (
        build_augmentation(steps, image_size=48, seed=seed)(image=FACE)["image"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_each_step_draws_for_itself():
    augment = build_augmentation([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}], image_size=48)
    ways = [FACE, FACE[:, ::-1], FACE[::-1], FACE[::-1, ::-1]]
    changed = [augment(image=FACE)["image"] for _ in range(400)]
    shares = [np.mean([(face == way).all() for face in changed]) for way in ways]
    assert shares == pytest.approx([0.25] * 4, abs=0.08)


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"HorizontalFlop": {}}, "HorizontalFlop"),
        ({"HorizontalFlip": {"probability": 1}}, "probability"),
        ({"Affine": {"rotate": "much"}}, "rotate"),
        ({"HorizontalFlip": {}, "Rotate": {}}, "one name"),
    ],
)
def test_what_albumentations_would_ignore_is_refused_by_name(step, named):
    with pytest.raises(PipelineError, match=named):
        build_augmentation([step], image_size=48)


@pytest.mark.parametrize(("chance", "share"), [(0.5, 1.0), (0.99, 1.0), (0.01, 1.0), (1.0, 0.5), (1.0, 0.99)])
def test_a_crop_that_only_some_faces_get_is_refused(chance, share):
    crop = [{"RandomCrop": {"height": 44, "width": 44, "p": chance}}]
    with pytest.raises(PipelineError, match="faces of 44x44 and 48x48 pixels; crop all of them"):
        build_augmentation(crop, image_size=48, share=share)


def test_a_crop_is_refused_where_the_backbone_is_built_for_one_size():
    said = {"data": ["fer2013"], "image_size": 48, "augment": [{"RandomCrop": {"height": 44, "width": 44, "p": 1.0}}]}
    augmentation_of(Recipe.model_validate({**said, "backbone": "resnet18"}))
    with pytest.raises(PipelineError, match="gives faces of 44x44 pixels, and basic_cnn is built for those of 48x48"):
        augmentation_of(Recipe.model_validate({**said, "backbone": "basic_cnn"}))


def test_a_crop_that_some_faces_get_and_a_resizing_that_all_get_make_a_batch():
    steps = [{"RandomCrop": {"height": 44, "width": 44, "p": 0.5}}, {"Resize": {"height": 48, "width": 48, "p": 1.0}}]
    assert build_augmentation(steps, image_size=48)(image=FACE)["image"].shape == (48, 48, 3)


@pytest.mark.parametrize("step", [{"Normalize": {"p": 0.1}}, {"ToFloat": {}}, {"ToGray": {"num_output_channels": 1}}])
def test_what_makes_faces_into_other_numbers_is_refused(step):
    with pytest.raises(PipelineError, match="networks take RGB in bytes, which they normalize themselves"):
        build_augmentation([{"HorizontalFlip": {}}, step], image_size=48)


def test_a_crop_that_is_larger_than_the_faces_is_refused():
    with pytest.raises(PipelineError, match="augment can not change faces of 48 pixels"):
        build_augmentation([{"RandomCrop": {"height": 200, "width": 200, "p": 1.0}}], image_size=48)
