"""The page about one version: one self-contained HTML file that opens without a network."""

import base64
from pathlib import Path
from typing import Any

import yaml

from pipeline.pages.templates import render_page
from pipeline.recipes import Recipe


def version_page(facts: dict[str, Any], weights_sha256: str, metrics: dict[str, Any], pictures: Path) -> str:
    """Render the page: facts, scores, slices, robustness, calibration, classes, training, answers.

    Args:
        facts: the version's `model.json`.
        weights_sha256: of its weights.
        metrics: what its evaluation found; clips have no `slices` and no `robustness`.
        pictures: folder with its pictures as PNG, which are put into the page; those that are missing are left out.
    """
    recipe = Recipe.model_validate(facts["recipe"])
    changes = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"at_sample"})
    return render_page(
        "version.html.j2",
        metrics=metrics,
        parts=_parts(metrics),
        facts=facts,
        recipe=recipe,
        recipe_yaml=yaml.safe_dump(changes, sort_keys=False, default_flow_style=None, width=110),
        weights_sha256=weights_sha256,
        pictures={file.stem: base64.b64encode(file.read_bytes()).decode() for file in pictures.glob("*.png")},
    )


def _parts(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what was scored by how it is called; a part of no faces is left out."""
    parts = {"its own": metrics["own"], "all in use": metrics["overall"]}
    for name, scores in metrics["datasets"].items():
        parts[f"{name}, {scores['split']}"] = scores["whole"]
        if scores["leak_free"]["n"] not in (0, scores["whole"]["n"]):
            parts[f"{name}, {scores['split']}, in no training set"] = scores["leak_free"]
    return parts | {f"its own, {name} frame alone": part for name, part in metrics.get("static", {}).items()}
