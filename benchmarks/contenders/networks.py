"""The two networks that are served: the ready-made model, and a large one that learned nothing."""

from pathlib import Path

import torch

from pipeline.labels import LABELS
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.export import export_onnx
from pipeline.params import load_params
from pipeline.recipes import Recipe

ROOT = Path(__file__).parents[2]
LARGE = "convnext_tiny"
NAMES = ("v8", LARGE)
LARGE_FROM = "v4"  # the recipe that is closest to it


def recipe_of(name: str) -> Recipe:
    """Return the recipe of one of `NAMES` at full scale."""
    full = load_params(ROOT / "params.yaml").model_copy(update={"scale": "full"})
    if name == LARGE:
        return full.recipe(LARGE_FROM).model_copy(update={"backbone": LARGE, "pretrained": False})
    return full.recipe(name)


def build(name: str) -> ExpressionNetwork:
    """Return a network of one of `NAMES` with random weights, the same each time."""
    torch.manual_seed(0)
    return ExpressionNetwork(recipe_of(name), pretrained=False).eval()


def model_file(name: str, folder: Path) -> Path:
    """Return the exported model of one of `NAMES`; the one that learned nothing is exported into a folder."""
    if name != LARGE:
        return ROOT / "models" / "ready-made" / "model.onnx"
    file, size = folder / f"{name}.onnx", recipe_of(name).image_size
    facts = {"version": name, "labels": list(LABELS), "image_size": size, "detector": None}
    export_onnx(build(name), file, image_size=size, facts=facts)
    return file
