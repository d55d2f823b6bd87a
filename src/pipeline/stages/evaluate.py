"""Stage 6: score one version on every dataset in use; leave metrics, predictions and pictures, here and in MLflow."""

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.command import run
from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_clips, read_split
from pipeline.evaluation.clips import predict_clips, score_clips
from pipeline.evaluation.curves import read_curves
from pipeline.evaluation.diagrams import draw_diagrams
from pipeline.evaluation.gallery import choose_answers, choose_mistakes, draw_answers, draw_mistakes
from pipeline.evaluation.metrics import score_classes
from pipeline.evaluation.pictures import draw_curves
from pipeline.evaluation.predictions import judged, of_classes, own_faces, score_datasets, score_faces, stack
from pipeline.evaluation.reliability import measure_calibration
from pipeline.evaluation.robustness import measure_robustness
from pipeline.evaluation.slices import check_columns, describe, score_slices
from pipeline.evaluation.views import answer
from pipeline.files import write_json, written_whole
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.params import EvaluateParams, Params, load_params
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.sources import SOURCES
from pipeline.sources.numbering import doubt_answers
from pipeline.training.loading import Faces

logger = logging.getLogger(__name__)

BATCH = 64


def predict(checkpoint: Checkpoint, folder: Path, table: pd.DataFrame, workers: int | str) -> pd.DataFrame:
    """Predict the faces of a table, with and without test-time augmentation.

    Args:
        checkpoint: the version.
        folder: with one Parquet file a dataset, where the images are.
        table: the faces, `face_id, label_id, dataset, ...`.
        workers: processes that prepare faces.

    Returns:
        the table with `probabilities` and, where the recipe has it, `tta` (lists of one for each of its classes).
    """
    faces = Faces(folder, table, checkpoint.recipe.image_size)
    loader = DataLoader(faces, BATCH, num_workers=faces.count_workers(workers))
    title, kind = f"{checkpoint.facts['version']}: predict", checkpoint.recipe.tta
    kinds = {"probabilities": "none"} | ({"tta": kind} if kind != "none" else {})
    columns = answer(
        checkpoint,
        tqdm(loader, desc=title, unit=f" x {BATCH} faces", mininterval=1, disable=None),
        lambda shown: {name: (shown, views) for name, views in kinds.items()},
    )
    return table.assign(**{"tta": None, **columns})


def evaluate(predictions: pd.DataFrame, recipe: Recipe, params: EvaluateParams) -> dict[str, Any]:
    """Turn predictions into the metrics of a version.

    Args:
        predictions: of the validation and test faces of all datasets in use, with `split`.
        recipe: of the version: its datasets are its own, and it is judged by faces of its classes alone.
        params: resamples, bins and seed.

    Returns:
        `own` and `overall` scores, and by dataset those on all its faces (`whole`) and on those that stand in no
        training set (`leak_free`); on its test split, or on validation where it has no test faces. `classes` are
        those of `own`. All are without test-time augmentation; scores with it stand beside them as `tta`.
    """
    faces = of_classes(judged(predictions), recipe)
    mine = faces[faces.dataset.isin(recipe.data)]
    return {
        "own": score_faces(mine, params),
        "overall": score_faces(faces, params),
        "datasets": score_datasets(faces, params),
        "classes": score_classes(mine.label_id.to_numpy(), stack(mine.probabilities), recipe.classes),
    }


def look_closer(checkpoint: Checkpoint, folder: Path, faces: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """Find out where a version is weak, how far its confidence can be relied on, and what damage it bears.

    Args:
        checkpoint: the version.
        folder: with one Parquet file a dataset, where the images are.
        faces: predictions of the faces that it is judged on, those of its own datasets and classes.
        params: what to tell faces apart by, bins, resamples, faces to damage and seed.

    Returns:
        `slices`, `calibration` and `robustness`; see the modules of these names (calibration's is `reliability`).
    """
    answers = faces.label_id.to_numpy(), stack(faces.probabilities)
    temperature = checkpoint.facts["temperature"]
    return {
        "slices": score_slices(describe(folder, faces, params.slice_by), params),
        "calibration": measure_calibration(*answers, temperature, params.calibration_bins),
        "robustness": measure_robustness(checkpoint, folder, faces, params),
    }


def doubt_label_maps(predictions: pd.DataFrame, checkpoint: Checkpoint) -> dict[str, str | None]:
    """Hold the numbers of datasets against the answers of a version that learned elsewhere.

    Args:
        predictions: of the validation and test faces, with `native_label`.
        checkpoint: the version.

    Returns:
        for each dataset a sentence, where another label map fits the answers clearly better, else None.
    """
    version, learned = checkpoint.facts["version"], checkpoint.recipe.data
    numbered = ", ".join(name for name in learned if SOURCES[name].numbered)
    doubts: dict[str, str | None] = {}
    for name, faces in predictions.groupby("dataset"):
        doubt = None
        # A version that has parents may know what they learned from.
        elsewhere = name not in learned and not checkpoint.recipe.parents
        if SOURCES[name].numbered and elsewhere and checkpoint.recipe.classes == LABELS:
            codes = faces.groupby("native_label")
            common = codes.label_id.agg(lambda ids: ids.mode()[0])  # single faces may have been corrected
            chosen = {code: LABELS[label_id] for code, label_id in common.items()}
            answers = {code: np.bincount(stack(rows).argmax(1), minlength=7) for code, rows in codes.probabilities}
            doubt = doubt_answers(version, answers, chosen, SOURCES[name])
        if doubt and numbered:
            doubt += f"; or {version} learned from wrong numbers, those of {numbered}"
        doubts[str(name)] = doubt
    return doubts


def draw(
    title: str,
    predictions: pd.DataFrame,
    classes: tuple[str, ...],
    result: dict[str, Any],
    *,
    faces: Path,
    curves: Path,
    pictures: Path,
) -> None:
    """Draw the pictures of a version.

    Args:
        title: which version, on what.
        predictions: of the faces that it is judged on, those of its own datasets and classes.
        classes: their names.
        result: its metrics.
        faces: with one Parquet file a dataset, where the images are.
        curves: of its training.
        pictures: folder for those of `draw_diagrams`, the `curves`, some `answers`, and the surest `mistakes`, as PNG.
    """
    answered = predictions.label_id.to_numpy(), stack(predictions.probabilities)
    draw_diagrams(*answered, result, title, pictures, classes)
    draw_curves(read_curves(curves), f"training of {title}", pictures / "curves.png")
    answers, mistakes = choose_answers(predictions), choose_mistakes(predictions)
    draw_answers(answers, read_images(faces, answers), f"answers of {title}", pictures / "answers.png", classes)
    draw_mistakes(mistakes, read_images(faces, mistakes), f"mistakes of {title}", pictures / "mistakes.png", classes)


def evaluate_faces(
    checkpoint: Checkpoint, params: Params, faces: Path, splits: Path, curves: Path, pictures: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score a version of faces, and draw its pictures; return its metrics and predictions."""
    recipe, version = checkpoint.recipe, checkpoint.facts["version"]
    rows = [
        read_split(faces, splits, name, split).assign(split=split)
        for name in params.use
        for split in ("validation", "test")
    ]
    predictions = predict(checkpoint, faces, pd.concat(rows, ignore_index=True), params.train.workers)
    result = evaluate(predictions, recipe, params.evaluate)
    for name, doubt in doubt_label_maps(predictions, checkpoint).items():
        result["datasets"][name]["label_map_doubt"] = doubt
        if doubt:
            logger.warning("warning: %s: %s", name, doubt)
    mine = judged(own_faces(predictions, recipe))
    result |= look_closer(checkpoint, faces, mine, params.evaluate)
    title = f"{version} on {', '.join(recipe.data)}"
    draw(title, mine, recipe.classes, result, faces=faces, curves=curves, pictures=pictures)
    return result, predictions


def evaluate_clips(
    checkpoint: Checkpoint, params: EvaluateParams, clips: Path, pictures: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score a version of clips, and draw its pictures; return its metrics and predictions."""
    predictions = predict_clips(checkpoint, read_clips(clips, "test"))
    answers = predictions.label_id.to_numpy(), stack(predictions.probabilities)
    result = score_clips(predictions, params)
    result["calibration"] = measure_calibration(*answers, checkpoint.facts["temperature"], params.calibration_bins)
    draw_diagrams(*answers, result, f"{checkpoint.facts['version']} on clips", pictures)
    return result, predictions


def main(
    version: str,
    model: Path,
    faces: Path,
    splits: Path,
    curves: Path,
    metrics: Path,
    table: Path,
    pictures: Path,
    clips: Annotated[Path | None, typer.Option(help="folder of the clips, which a recurrent version reads")] = None,
) -> None:
    """Score VERSION from its MODEL on FACES and SPLITS: METRICS, a TABLE of predictions, a folder of PICTURES.

    Draws the CURVES of its training as well.
    """
    params = load_params()
    check_columns(params.evaluate.slice_by)
    checkpoint = load_checkpoint(model)
    with written_whole(pictures) as folder:
        folder.mkdir()
        if checkpoint.recipe.recurrent:
            result, predictions = evaluate_clips(checkpoint, params.evaluate, clips or faces, folder)
        else:
            result, predictions = evaluate_faces(checkpoint, params, faces, splits, curves, folder)
    result = {"version": version, "scale": checkpoint.facts["scale"], **result}
    with written_whole(table) as file:
        predictions.assign(weights_sha256=checkpoint.sha256()).to_parquet(file, index=False)
    write_json(metrics, result)
    _log(version, checkpoint, result, {"": metrics, "plots": pictures})
    logger.info("%s: macro-F1 %.3f on its own %d faces, %.3f on all %d", version, result["own"]["macro_f1"],
                result["own"]["n"], result["overall"]["macro_f1"], result["overall"]["n"])  # fmt: skip


def _log(version: str, checkpoint: Checkpoint, result: dict[str, Any], files: dict[str, Path]) -> None:
    parts = {"own": result["own"], "overall": result["overall"]}
    parts |= {f"{name}/{part['split']}": part["whole"] for name, part in result["datasets"].items()}
    parts |= {f"{name}/{part['split']}/leak_free": part["leak_free"] for name, part in result["datasets"].items()}
    parts |= {f"static/{name}": part for name, part in result.get("static", {}).items()}
    if result.get("robustness"):
        parts["damaged"] = result["robustness"]["mean"]
    tracking.log_scores(version, checkpoint.facts, checkpoint.sha256(), parts, result["classes"], files)


if __name__ == "__main__":
    run(main)
