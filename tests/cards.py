"""A model's card with everything that can stand there: used by several test files."""

from typing import Any

from pipeline.cards.card import make_card
from pipeline.labels import LABELS
from pipeline.params import CardParams
from pipeline.recipes import Recipe

RECIPE = Recipe.model_validate({
    "data": ["fer2013", "wild"], "backbone": "convnext_atto", "optimizer": {"lr": 0.002}, "tta": "flip",
    "augment": [{"Rotate": {"limit": 15}}], "start_from": ["v3"], "pretrained": False,
})  # fmt: skip


def scores(macro_f1: float | None, n: int = 140, **more: Any) -> dict[str, Any]:
    """Return scores as `evaluate` writes them."""
    interval = None if macro_f1 is None else [macro_f1 - 0.05, macro_f1 + 0.05]
    return {"n": n, "accuracy": macro_f1, "macro_f1": macro_f1, "weighted_f1": macro_f1, "ece": macro_f1 and 0.06125,
            "ci95": {"accuracy": interval, "macro_f1": interval}, "tta": None, **more}  # fmt: skip


def known_facts(**changes: Any) -> dict[str, Any]:
    """Return all that may be known of a version."""
    counts = {"train": dict.fromkeys(LABELS, 1200), "test": dict.fromkeys(LABELS, 10)}
    facts = {
        "name": "expression-classifier", "version": "v7", "weights_sha256": "ab" * 32, "labels": list(LABELS),
        "preprocessing": {"image_size": 64}, "drawn": False, "detector": "yunet", "parameters": 3_542_463,
        "trained_parameters": 1_000_000, "multiply_adds": 94_000_000, "bytes": 13_600_000, "largest_difference": 0.0008,
        "scale": "full", "start_from": "v3", "seed": 7, "device": "cpu", "precision": "bf16-mixed", "processes": 2,
        "batch_parts": 1, "epochs": 6, "seconds": 7200.0, "git_commit": "c0ffee" * 6, "git_dirty": True,
        "validation": {"macro_f1": 0.7}, "temperature": 1.25, "data": {"fer2013": "de" * 32, "wild": "ad" * 32},
        "scores": scores(0.6, tta=scores(0.625)), "overall": scores(0.5),
        "split": {"fer2013": "validation", "wild": "test"},
        "datasets": {
            "fer2013": {"split": "validation", "whole": scores(0.65), "leak_free": scores(0.64, n=99)},
            "wild": {"split": "test", "whole": scores(0.45), "leak_free": scores(None, n=0)},
        },
        "classes": {
            label: {"precision": 0.5, "recall": 0.4, "f1": 0.444, "auc": None, "support": 20} for label in LABELS
        },
        "slices": {
            "brightness": {
                "low": {"from": 8.0, "to": 80.25, **scores(0.41, n=12)},
                "middle": {"from": 80.5, "to": 140.5, **scores(0.62)},
                "high": {"from": 141.0, "to": 250.0, **scores(0.31, n=3)},
            },
            "dataset": {"fer2013": scores(0.65), "wild": scores(0.45, n=4)},
        },
        "inventory": {
            "fer2013": {"drawn": False, "counts": counts, "removed": {"copy of a test face": 4}, "leaked": {"test": 3}},
            "wild": {"drawn": False, "counts": counts, "removed": {}, "leaked": {}},
        },
        "decision": {
            "outcome": "promoted", "reason": "it is better", "forced": None, "faces": 1_662, "looks": 2,
            "at": "2026-11-21", "former": {"version": "4", "recipe": "v3", "macro_f1": 0.5},
            "checks": [
                {"rule": "size", "passed": True, "says": "its file takes 13.6 MB (at most 1000)"},
                {"rule": "every class", "passed": False, "says": "the F1 of fear falls by 0.2"},
            ],
        },
    }  # fmt: skip
    return {**facts, **changes}


def toy_card(**changes: Any) -> dict[str, Any]:
    """Return the card of it."""
    return make_card(known_facts(**changes), RECIPE, CardParams())
