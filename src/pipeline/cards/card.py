"""The model card (Mitchell et al. 2019) that goes with a model wherever it goes: as JSON, Markdown and an HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.cards import caveats
from pipeline.cards.footprint import estimate_footprint
from pipeline.files import write_json, written_whole
from pipeline.inference.card_files import FACTS_FILE, PAGE_FILE, TEXT_FILE
from pipeline.pages.changes import changes_of
from pipeline.pages.templates import render_markdown, render_page
from pipeline.params import CardParams
from pipeline.recipes import Recipe

READY_MADE_LICENCE = (
    "The weights are under the Apache License 2.0, like the code. The faces that they learned from have terms of their "
    "own (see the data), and none of them is part of the file."
)
LICENCE = (
    "The code is under the Apache License 2.0. What the weights may be used for depends on the terms of the faces that "
    "they learned from as well (see the data); none of these is part of the file."
)
MODEL = ("labels", "preprocessing", "detector", "parameters", "trained_parameters", "multiply_adds", "bytes",
         "largest_difference")  # fmt: skip
TRAINING = ("version", "weights_sha256", "scale", "start_from", "teachers", "seed", "device", "precision", "processes",
            "batch_parts", "epochs", "seconds", "git_commit", "git_dirty", "validation")  # fmt: skip
SCORES = ("overall", "datasets", "classes", "split")


def make_card(facts: Mapping[str, Any], recipe: Recipe, params: CardParams) -> dict[str, Any]:
    """Return the card of a version, ready for JSON; what is not known is None there, and left out when it is written.

    Args:
        facts: the version's `model.json`, with `name` (of the registered model) and `weights_sha256`, and, of what
            follows, whatever is known: `scores` on the version's own datasets, `overall`, `datasets`, `classes`,
            `slices` and `split` (by dataset, the one it is judged on) as in `metrics/<version>.json`; `inventory`, see
            `pipeline.cards.inventory`; `seconds`, `git_commit`, `git_dirty` of the training; `bytes`, `multiply_adds`,
            `largest_difference` of the exported file; `decision`, that of the gate by which it became champion. Where
            several versions answer together, `members` has such facts of each, and its `recipe`.
        recipe: as it ran; of several, the first one's.
        params: what the estimate of energy and carbon assumes.
    """

    def known(*keys: str) -> dict[str, Any]:
        return {key: facts.get(key) for key in keys}

    inventory = facts.get("inventory") or {}
    train = [sum(found["counts"].get("train", {}).values()) for found in inventory.values()]
    drawn = bool(facts["drawn"])
    trainings = [_training(facts, recipe, params)]
    if members := facts.get("members"):
        trainings = [_training(member, Recipe.model_validate(member["recipe"]), params) for member in members]
    card: dict[str, Any] = {
        **known("name", "version", "weights_sha256"),
        "drawn": drawn,
        "model": {**known(*MODEL), "colour": recipe.colour},
        "data": [_dataset(name, facts, inventory.get(name, {})) for name in recipe.data],
        "training_faces": facts.get("training_faces") or sum(train) or None,
        "trainings": trainings,
        "scores": {
            **known(*SCORES),
            "own": facts.get("scores"),
            "views": _views(recipe),
            "slices": _slices(facts),
        },
        "calibration": {
            "temperature": facts.get("temperature"),
            "ece": (facts.get("scores") or {}).get("ece"),
        },
        "decision": facts.get("decision"),
        "limits": [*([caveats.DRAWN_LIMIT] if drawn else []), *caveats.LIMITS],
        "untested": list(caveats.UNTESTED),
        "intended": list(caveats.INTENDED),
        "forbidden": list(caveats.FORBIDDEN),
        "licence": facts.get("licence", LICENCE),
    }
    return {**card, "brief": render_markdown("card_brief.md.j2", card=card).strip()}


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card as `card.md`, `card.html` and `card.json` into a model's folder."""
    texts = {
        TEXT_FILE: render_markdown("card.md.j2", card=card),
        PAGE_FILE: render_page("card.html.j2", card=card),
    }
    for name, text in texts.items():
        with written_whole(folder / name) as file:
            file.write_text(text.strip() + "\n", encoding="utf-8")
    write_json(folder / FACTS_FILE, card)  # the last one, so that it exists only beside the others


def _training(facts: Mapping[str, Any], recipe: Recipe, params: CardParams) -> dict[str, Any]:
    """Return what is told of one training."""
    seconds = facts.get("seconds")
    return {
        **{key: facts.get(key) for key in TRAINING},
        "backbone": recipe.backbone,
        "pretrained": recipe.pretrained,
        "recipe": changes_of(recipe),
        "footprint": seconds
        and estimate_footprint(seconds, facts.get("processes", 1), facts.get("device", "cpu"), params),
    }


def _dataset(name: str, facts: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a dataset; where nothing was counted, all are said to be drawn if any is."""
    drawn = bool(found.get("drawn", facts["drawn"]))
    about, terms = caveats.SOURCES[name]
    return {
        "name": name,
        "drawn": drawn,
        "about": caveats.DRAWN if drawn else about,
        "terms": None if drawn else terms,
        "sha256": (facts.get("data") or {}).get(name),
        **{key: found.get(key) for key in ("counts", "removed", "leaked")},
    }


def _views(recipe: Recipe) -> str:
    """Return what its test-time augmentation is called, with its number if it has one."""
    kind = recipe.model_dump(mode="json")["tta"]
    return kind if isinstance(kind, str) else ", ".join(f"{name} {value}" for name, value in kind.items())


def _slices(facts: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]] | None:
    """Return the scores by slice, as `pipeline.evaluation.slices` gives them, each with what it is called, or none."""
    return {
        what: [{"name": name + _range(part), **part} for name, part in parts.items()]
        for what, parts in (facts.get("slices") or {}).items()
    } or None


def _range(part: Mapping[str, Any]) -> str:
    return f" ({part['from']:.4g} to {part['to']:.4g})" if "from" in part else ""
