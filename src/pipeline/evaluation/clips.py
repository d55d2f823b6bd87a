"""Scores of a recurrent version on its test clips, and on single frames of them: does it use the sequence?"""

from typing import Any

import pandas as pd
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.evaluation.metrics import score_classes
from pipeline.evaluation.predictions import score_faces, stack
from pipeline.evaluation.views import Kind, answer
from pipeline.networks.checkpoint import Checkpoint
from pipeline.params import EvaluateParams
from pipeline.recipes import CLIPS
from pipeline.training.clips import Clips

BATCH = 32
STATIC = {"first": 0, "last": -1}


def predict_clips(checkpoint: Checkpoint, table: pd.DataFrame) -> pd.DataFrame:
    """Predict clips: as they are, with test-time augmentation, and with one frame of each in the place of all.

    Args:
        checkpoint: the version.
        table: the clips, as `read_clips` gives them.

    Returns:
        `clip_id, person, label_id, split`, and lists of seven probabilities: `probabilities`; `first` and `last`
        where the recipe shows several frames (that frame again and again, so that the network sees as many as it
        learned from); and `tta` where the recipe has it.
    """
    recipe = checkpoint.recipe
    assert recipe.recurrent  # without, a version reads faces
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


def score_clips(predictions: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """Turn the predictions of test clips into the metrics of a version.

    Args:
        predictions: see `predict_clips`.
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
