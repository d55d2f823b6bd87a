"""Score a recurrent version on its test clips, and beside that on single frames of them: does it use the sequence?"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.command import run
from pipeline.errors import PipelineError
from pipeline.evaluation.diagrams import draw_diagrams
from pipeline.evaluation.metrics import score_classes
from pipeline.evaluation.predictions import score_faces, stack
from pipeline.evaluation.reliability import measure_calibration
from pipeline.evaluation.scorecard import version_page
from pipeline.evaluation.views import Kind, answer
from pipeline.files import write_json, written_whole
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.params import EvaluateParams, load_params
from pipeline.recipes import CLIPS
from pipeline.registry import tracking
from pipeline.training.clips import Clips, read_clips

logger = logging.getLogger(__name__)

BATCH = 32
STATIC = {"first": 0, "last": -1}


def predict(checkpoint: Checkpoint, table: pd.DataFrame) -> pd.DataFrame:
    """Predict clips: as they are, with test-time augmentation, and with one frame of each in the place of all.

    Args:
        checkpoint: the version.
        table: the clips, as `read_clips` gives them.

    Returns:
        `clip_id, person, label_id, split`, and lists of seven probabilities: `probabilities`; `first` and `last`
        where the recipe shows several frames (that frame again and again, so that the network sees as many as it
        learned from); and `tta` where the recipe has it.

    Raises:
        PipelineError: if the version reads faces, not clips.
    """
    recipe = checkpoint.recipe
    if not recipe.recurrent:
        raise PipelineError(f"{checkpoint.folder} reads faces, not clips; score it with pipeline.stages.evaluate")
    several = recipe.recurrent.frames > 1  # else it sees nothing but the last frame anyway

    def ask(shown: Tensor) -> dict[str, tuple[Tensor, Kind]]:
        asked: dict[str, tuple[Tensor, Kind]] = {"probabilities": (shown, "none")}
        if several:
            asked |= {name: (shown[:, [place]].expand_as(shown), "none") for name, place in STATIC.items()}
        if recipe.tta != "none":
            asked["tta"] = (shown, recipe.tta)
        return asked

    clips = Clips(table, recipe.recurrent.frames, recipe.image_size)
    columns = answer(checkpoint, DataLoader(clips, BATCH), ask)
    return table[["clip_id", "person", "label_id", "split"]].assign(**{"tta": None, **columns})


def evaluate_clips(predictions: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """Turn the predictions of test clips into the metrics of a version.

    Args:
        predictions: see `predict`.
        params: resamples, bins and seed.

    Returns:
        what `evaluate` gives for faces, over the one dataset `clips` (no person stands in two splits, so that none has
        leaked); and `static`, the scores of the same network where all it sees of each clip is its `first` or its
        `last` frame (none, where the recipe shows one frame anyway). It never learned from such stills: whether a
        network gains by the sequence at all, only another recipe tells, the same with `recurrent.frames` 1. Intervals
        take clips for independent, though seven are of one person.
    """
    whole = score_faces(predictions, params)
    stills = {
        name: predictions.assign(probabilities=predictions[name], tta=None) for name in STATIC if name in predictions
    }
    return {
        "own": whole,
        "overall": whole,
        "datasets": {CLIPS: {"split": "test", "whole": whole, "leak_free": whole}},
        "classes": score_classes(predictions.label_id.to_numpy(), stack(predictions.probabilities)),
        "static": {name: score_faces(still, params) for name, still in stills.items()},
    }


def main(version: str, model: Path, clips: Path, metrics: Path, table: Path, pictures: Path, page: Path) -> None:
    """Score VERSION from its MODEL on CLIPS: METRICS, the TABLE of predictions, a folder of PICTURES, a PAGE."""
    params = load_params().evaluate
    checkpoint = load_checkpoint(model, "train_clips")
    predictions = predict(checkpoint, read_clips(clips, "test"))
    answers = predictions.label_id.to_numpy(), stack(predictions.probabilities)
    result = {"version": version, "scale": checkpoint.facts["scale"], **evaluate_clips(predictions, params)}
    result["calibration"] = measure_calibration(*answers, checkpoint.facts["temperature"], params.calibration_bins)
    with written_whole(table) as file:
        predictions.assign(weights_sha256=checkpoint.sha256()).to_parquet(file, index=False)
    with written_whole(pictures) as folder:
        draw_diagrams(*answers, result, f"{version} on clips", folder)
    with written_whole(page) as file:
        file.write_text(version_page(checkpoint, result, pictures), encoding="utf-8")
    write_json(metrics, result)
    _log(version, checkpoint, result, {"": metrics, "report": page, "plots": pictures})
    own, static = result["own"], result["static"]
    alone = "".join(f"; {part['macro_f1']:.3f} on their {name} frames alone" for name, part in static.items())
    logger.info("%s: macro-F1 %.3f on %d clips%s", version, own["macro_f1"], own["n"], alone)


def _log(version: str, checkpoint: Checkpoint, result: dict[str, Any], files: dict[str, Path]) -> None:
    parts = {"own": result["own"], "overall": result["overall"], "clips/test": result["own"]}
    parts |= {f"static/{name}": part for name, part in result["static"].items()}
    tracking.log_scores(version, checkpoint.facts, checkpoint.sha256(), parts, result["classes"], files)


if __name__ == "__main__":
    run(main)
