"""Score an ensemble: combine the predictions of several systems."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.command import run
from pipeline.datasets.tables import read_all_splits
from pipeline.errors import PipelineError, did_you_mean
from pipeline.evaluation import ensembles
from pipeline.evaluation.ensembles import Answers
from pipeline.evaluation.metrics import confusion, score_classes
from pipeline.evaluation.pictures import draw_confusion
from pipeline.evaluation.predictions import judged, read_predictions, score_datasets, score_faces, stack
from pipeline.files import write_json
from pipeline.labels import LABELS
from pipeline.params import Params, load_params

logger = logging.getLogger(__name__)


def combine(name: str, params: Params, given: dict[str, Answers], faces: pd.DataFrame) -> Answers:
    """Return what a system or an ensemble answers.

    Args:
        name: which.
        params: what ensembles are made of.
        given: by system, probabilities (faces, classes).
        faces: `label_id, split, group`; what has to be fitted is fitted on those of validation.

    Returns:
        probabilities (faces, labels); of one system, as given.

    Raises:
        PipelineError: if a member tells one label from the rest where all are needed, or the other way round.
    """
    if name not in params.ensembles:
        return given[name]
    how, of = params.ensembles[name].how, params.ensembles[name].of
    answers = [combine(member, params, given, faces) for member in of]
    if how == "one_against_rest":
        labels = [str(params.recipes[member].one_against_rest) if member in params.recipes else "" for member in of]
        if sorted(labels) != sorted(LABELS):
            raise PipelineError(f"ensembles.{name}.of must name one recipe of `one_against_rest` for each label")
        return ensembles.one_against_rest(np.stack([answers[labels.index(label)][:, 1] for label in LABELS], axis=1))
    if narrow := [member for member, answer in zip(of, answers, strict=True) if answer.shape[1] != len(LABELS)]:
        raise PipelineError(f"ensembles.{name}.of: {narrow[0]} does not tell the seven labels apart; leave it out")
    together = np.stack(answers, axis=1)
    if how == "average":
        return ensembles.average(together)
    validation = (faces.split == "validation").to_numpy()
    known = ensembles.Known(together, faces.label_id.to_numpy(), faces.group.to_numpy()).at(validation)
    result = np.empty((len(faces), len(LABELS)))
    result[validation] = ensembles.answer_crossed(how, known)
    if not validation.all():
        result[~validation] = ensembles.fit(how, known).predict_proba(together[~validation])
    return result


def _read(folder: Path, systems: tuple[str, ...], datasets: set[str]) -> tuple[pd.DataFrame, dict[str, Answers]]:
    """Return the faces of some datasets that all systems answered for, and their answers."""
    tables = {system: read_predictions(folder / f"{system}.parquet") for system in systems}
    tables = {system: table[table.dataset.isin(datasets)] for system, table in tables.items()}
    first, *others = tables.values()
    if any(list(other.face_id) != list(first.face_id) for other in others):
        raise PipelineError(f"the systems in {folder} answered for different faces; run `dvc repro evaluate`")
    return first, {system: stack(table.probabilities).astype(np.float64) for system, table in tables.items()}


def main(name: str, predictions: Path, splits: Path, metrics: Path, pictures: Path) -> None:
    """Score the ensemble NAME from its systems' PREDICTIONS on SPLITS: METRICS, and PICTURES."""
    params = load_params()
    if name not in params.ensembles:
        raise PipelineError(f"there is no ensemble {name!r}{did_you_mean(name, params.ensembles)}")
    systems = params.systems(name)
    datasets = {str(dataset) for system in systems for dataset in params.recipes[system].data}
    faces, given = _read(predictions, systems, datasets)
    faces = faces.merge(read_all_splits(splits)[["face_id", "group"]], on="face_id", how="left", validate="1:1")
    faces = judged(faces.assign(probabilities=list(combine(name, params, given, faces)), tta=None))
    label_ids, probabilities = faces.label_id.to_numpy(), stack(faces.probabilities)
    own, parts = score_faces(faces, params.evaluate), score_datasets(faces, params.evaluate)
    classes = score_classes(label_ids, probabilities)
    title = f"{name} on {', '.join(sorted(datasets))}"
    draw_confusion(confusion(label_ids, probabilities.argmax(1)), title, pictures / "confusion.png")
    write_json(metrics, {"version": name, "scale": params.scale, "own": own, "datasets": parts, "classes": classes})
    logger.info("%s: macro-F1 %.3f on %d faces", name, own["macro_f1"], own["n"])


if __name__ == "__main__":
    run(main)
