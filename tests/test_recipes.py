from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.params import load_params
from pipeline.recipes import Recipe, smallest_backbone
from pipeline.training.augment import augmentation_of, build_augmentation

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
RECIPES = {name: recipe for name, recipe in PARAMS.recipes.items() if recipe.promote}
COMPARED = {name: PARAMS.recipes[name] for name in PARAMS.comparison}

# What the reports say about each version; what a row leaves out is as in `DEFAULT`.
DEFAULT: dict[str, Any] = {
    "trainable": "all",
    "optimizer": "adamw",
    "weight_decay": 0.0,
    "schedule": [],
    "accumulate": 1,
    "batch_size": 64,
    "epochs": 20,
    "patience": None,
    "stages": (),
    "checkpoint_every": None,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "sampler": "shuffle",
    "mixup": 0.0,
    "swa": False,
    "tta": "none",
    "compile": False,
    "start_from": (),
    "augment": [],
}
REPORTED: dict[str, dict[str, Any]] = {
    "v1": {
        "data": ("fer2013",),
        "backbone": "efficientnet_b0",
        "trainable": "none",
        "head": ({"linear": 512}, "relu", {"dropout": 0.5}, "batch_norm"),
        "optimizer": "adam",
        "lr": 1e-4,
        "batch_size": 32,
        "epochs": 50,
    },
    "v2": {
        "data": ("affectnet",),
        "backbone": "efficientnet_b4",
        "trainable": {"last_layers": 50},
        "head": ({"linear": 256}, "relu", {"dropout": 0.3}),
        "optimizer": "adam",
        "lr": 1e-5,
        "schedule": ["plateau"],
        "batch_size": 16,
        "epochs": 50,
        "patience": 3,
        "stages": (20, 35, 40, 50),
        "augment": ["HorizontalFlip", "Affine", "ColorJitter"],
    },
    "v3": {
        "data": ("rafdb",),
        "backbone": "convnext_large",
        "head": (),
        "lr": 1e-4,
        "weight_decay": 0.01,
        "schedule": ["plateau"],
        "batch_size": 8,
        "accumulate": 2,
        "checkpoint_every": 5,
    },
    "v4": {
        "data": ("affectnet",),
        "backbone": "convnext_small",
        "head": ({"dropout": 0.4},),
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "schedule": ["one_cycle", "warm_restarts"],
        "label_smoothing": 0.1,
        "epochs": 70,
        "patience": 5,
        "augment": ["HorizontalFlip", "Rotate", "ColorJitter", "ToGray", "RandomResizedCrop"],
    },
    "v5": {
        "data": ("affectnet",),
        "backbone": "convnext_base",
        "head": ({"dropout": 0.3},),
        "lr": 5e-5,
        "weight_decay": 1e-6,
        "schedule": ["cosine"],
        "label_smoothing": 0.05,
        "class_weights": "inverse_frequency",
        "sampler": "balanced",
        "augment": ["HorizontalFlip", "ColorJitter", "ToGray"],
    },
    "v6": {
        "data": ("affectnet",),
        "backbone": "convnext_large",
        "head": ({"dropout": 0.5}, {"linear": 512}, "relu", "batch_norm", {"dropout": 0.4}),
        "lr": 5e-5,
        "weight_decay": 1e-6,
        "schedule": ["cosine"],
        "label_smoothing": 0.1,
        "class_weights": "inverse_frequency",
        "batch_size": 32,  # "64, accumulated"
        "accumulate": 2,
        "epochs": 60,
        "mixup": 0.2,
        "swa": True,
        "tta": "five_crop",
        "compile": True,
    },
    "v7": {
        "data": ("fer2013", "rafdb", "affectnet", "wild"),
        "backbone": "convnext_large",
        "trainable": {"last_stages": 2},
        "head": ({"linear": 512}, "relu"),
        "lr": 1e-4,
        "weight_decay": 0.01,
        "schedule": ["warm_restarts"],
        "label_smoothing": 0.1,
        "patience": 3,
        "sampler": "balanced",
        "start_from": ("v3", "v6"),
        "augment": ["Rotate", "ColorJitter", "RandomResizedCrop"],
    },
}
SHRUNK = {
    "backbone",
    "backbone_args",
    "pretrained",
    "image_size",
    "trainable",
    "compile",
    "epochs",
    "batch_size",
    "patience",
    "stages",
    "checkpoint_every",
    "augment_share",
    "most_steps",
}
PARTLY = {"optimizer", "schedule"}  # their rates and periods change


def facts(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's main facts in the words of the table."""
    return {
        **recipe.model_dump(include=DEFAULT.keys() | {"data", "head"}),
        "backbone": recipe.architecture.removeprefix("tf_"),
        "optimizer": recipe.optimizer.name,
        "lr": recipe.optimizer.lr,
        "weight_decay": recipe.optimizer.weight_decay,
        "schedule": [phase.name for phase in recipe.schedule],
        "label_smoothing": recipe.loss.label_smoothing,
        "class_weights": recipe.loss.class_weights,
        "swa": recipe.swa is not None,
        "augment": [name for step in recipe.augment for name in step],
    }


@pytest.mark.parametrize("version", REPORTED)
def test_version_is_as_reported(version: str) -> None:
    assert facts(RECIPES[version]) == {**DEFAULT, **REPORTED[version]}
    assert RECIPES[version].pretrained
    assert RECIPES[version].image_size == 224


def test_only_v3_starts_from_more_than_imagenet() -> None:
    named = {
        name: recipe.backbone.partition(".")[2] for name, recipe in {**RECIPES, **COMPARED}.items() if recipe.pretrained
    }
    more = {name for name, weights in named.items() if any(data in weights for data in ("in21k", "in22k", "jft"))}
    assert more == {"v3", "vit"}  # of ViT's weights nothing is reported
    assert all("in1k" in weights for weights in named.values())


@pytest.mark.parametrize("grey", [20, 100])
def test_v2_makes_a_face_half_to_one_and_a_half_times_as_bright(grey: int) -> None:
    augment = augmentation_of(RECIPES["v2"])
    face = np.full((48, 48, 3), grey, np.uint8)
    seen = [augment(image=face)["image"].mean() for _ in range(100)]
    assert 0.5 * grey - 1 <= min(seen) < 0.6 * grey
    assert 1.4 * grey < max(seen) <= 1.5 * grey + 1


@pytest.mark.parametrize("steps", [COMPARED["separable_cnn"].augment, COMPARED["separable_cnn"].balance.augment])
def test_the_zooms_of_the_separable_cnn_keep_what_is_round_round(steps: tuple[dict[str, dict[str, Any]], ...]) -> None:
    augment = build_augmentation([step for step in steps if "Affine" in step], image_size=96)
    disc = cv2.circle(np.zeros((96, 96, 3), np.uint8), (48, 48), 20, (255, 255, 255), -1)
    for _ in range(50):
        shortest, longest = np.linalg.eigvalsh(np.cov(np.nonzero(augment(image=disc)["image"][..., 0] > 127)))
        assert shortest > 0.9 * longest


def test_brightness_and_contrast_of_the_separable_cnn_are_drawn_each_for_itself() -> None:
    steps = COMPARED["separable_cnn"].balance.augment
    augment = build_augmentation([step for step in steps if "RandomBrightnessContrast" in step], image_size=48)
    face = np.random.default_rng(0).integers(60, 180, (48, 48, 3), np.uint8)
    as_it_was = np.mean([(augment(image=face)["image"] == face).all() for _ in range(300)])
    assert as_it_was == pytest.approx(0.3**2, abs=0.05)


def test_schedules_have_the_reported_periods() -> None:
    (cosine,), (restarts,) = RECIPES["v6"].schedule, RECIPES["v7"].schedule
    assert (cosine.period, cosine.minimum_lr) == (15, 1e-7)
    assert (restarts.period, restarts.growth) == (5, 2)


def test_v7_gives_its_backbone_a_tenth_of_the_rate() -> None:
    assert RECIPES["v7"].optimizer.backbone_lr == 1e-5


@pytest.mark.parametrize("version", RECIPES)
def test_full_scale_changes_nothing(version: str) -> None:
    assert RECIPES[version].at("full") == RECIPES[version]


@pytest.mark.parametrize("version", RECIPES)
def test_sample_scale_keeps_what_a_recipe_is(version: str) -> None:
    full, sample = RECIPES[version], RECIPES[version].at("sample")
    assert sample.model_dump(exclude=SHRUNK | PARTLY) == full.model_dump(exclude=SHRUNK | PARTLY)
    rates = {"lr", "backbone_lr"}
    assert sample.optimizer.model_dump(exclude=rates) == full.optimizer.model_dump(exclude=rates)
    changed = {"period", "minimum_lr"}
    for shortened, phase in zip(sample.schedule, full.schedule, strict=True):
        assert shortened.model_dump(exclude=changed) == phase.model_dump(exclude=changed)


@pytest.mark.parametrize("version", RECIPES)
def test_sample_scale_shrinks_what_costs_time(version: str) -> None:
    sample, own = RECIPES[version].at("sample"), RECIPES[version].at_sample
    family = {"test_efficientnet": "efficientnet", "convnext_atto": "convnext", "resnet18": "resnet"}[sample.backbone]
    assert family in RECIPES[version].backbone
    assert sample.image_size == min(64, RECIPES[version].image_size)
    assert (sample.pretrained, sample.trainable, sample.compile) == (False, "all", False)
    assert (sample.epochs, sample.patience) == (own.epochs, None)
    assert (sample.augment_share, sample.most_steps) == (own.augment_share or 1, own.most_steps)
    assert sample.batch_size == min(own.batch_size, RECIPES[version].batch_size)


def test_sample_scale_multiplies_the_rates() -> None:
    v1, v7 = RECIPES["v1"].at("sample").optimizer, RECIPES["v7"].at("sample").optimizer
    assert (v1.lr, v1.backbone_lr) == (pytest.approx(30 * 1e-4), None)
    assert (v7.lr, v7.backbone_lr) == (pytest.approx(20 * 1e-4), pytest.approx(20 * 1e-5))


def test_sample_scale_multiplies_the_lowest_rate_as_the_highest() -> None:
    full, (cosine,) = RECIPES["v6"], RECIPES["v6"].at("sample").schedule
    assert cosine.minimum_lr == pytest.approx(full.at_sample.lr_scale * full.schedule[0].minimum_lr)


def test_sample_scale_makes_nothing_larger() -> None:
    balance = {"faces_per_class": 20, "augment": [{"HorizontalFlip": {}}]}
    little = {
        "epochs": 5,
        "most_steps": 100,
        "augment_share": 0.5,
        "batch_size": 4,
        "image_size": 32,
        "balance": balance,
    }
    recipe = Recipe.model_validate({"data": ["fer2013"], "backbone": "resnet18", **little})
    assert {key: recipe.at("sample").model_dump()[key] for key in little} == {
        key: recipe.model_dump()[key] for key in little
    }


def test_sample_scale_shortens_periods_with_the_epochs_but_not_below_one() -> None:
    recipe = Recipe(
        data=("fer2013",),
        backbone="convnext_large",
        epochs=100,
        schedule=({"name": "one_cycle", "share": 0.2}, {"name": "cosine", "period": 50, "share": 0.4},
                  {"name": "warm_restarts", "period": 4, "share": 0.4}),
        at_sample={"epochs": 10},
    )  # fmt: skip
    assert [getattr(phase, "period", None) for phase in recipe.at("sample").schedule] == [None, 5, 1]


def test_stages_shrink_with_the_epochs_to_what_is_a_recipe_again() -> None:
    for epochs, ends in ((10, (4, 7, 8, 10)), (2, (1, 2))):
        shorter = RECIPES["v2"].lasting(epochs)
        assert shorter.stages == ends
        assert Recipe.model_validate(shorter.model_dump()) == shorter


def test_backbone_of_no_known_family_stays() -> None:
    assert smallest_backbone("densenet121.ra_in1k") == ("densenet121.ra_in1k", {})


def test_a_large_dataset_gets_fewer_epochs_at_sample_scale_only() -> None:
    recipe = RECIPES["v1"]
    small = recipe.at("sample")
    assert small.for_faces(300).epochs == small.epochs
    assert small.for_faces(28_000).epochs == 3  # 1750 steps each, and none begins after 4000
    assert small.for_faces(10_000_000).epochs == 1
    few = small.model_copy(update={"batch_size": 64, "most_steps": 10, "epochs": 20})
    assert few.for_faces(65).epochs == 10  # the last face is no batch of its own
    assert few.model_copy(update={"accumulate": 2}).for_faces(64 * 3).epochs == 5
    assert recipe.at("full").for_faces(10_000_000).epochs == recipe.epochs
