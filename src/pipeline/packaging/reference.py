"""What a version answered for validation faces, kept beside its exported model: what its service is compared with."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.datasets.images import iter_images
from pipeline.datasets.tables import read_faces
from pipeline.files import written_whole
from pipeline.inference.answer_table import LABEL, SCHEMA, tabulate
from pipeline.inference.answers import Answered, Look, now
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.packaging.parity import some_of


def known_faces(predictions: pd.DataFrame, datasets: tuple[str, ...], count: int) -> pd.DataFrame:
    """Return at most so many of the validation faces among predictions, of some datasets: `face_id, dataset, label_id`.

    They are drawn at random, but always the same.
    """
    chosen = (predictions.split == "validation") & predictions.dataset.isin(datasets)
    return some_of(predictions.loc[chosen, ["face_id", "dataset", "label_id"]], count).reset_index(drop=True)


def write_reference(file: Path, predictor: Predictor, folder: Path, faces: pd.DataFrame) -> None:
    """Write a table of `pipeline.inference.answer_table.SCHEMA` and the true `label`, one row a face, without pixels.

    Args:
        file: the result.
        predictor: with the exported model.
        folder: with one Parquet file a dataset, where the images are.
        faces: `face_id, dataset, label_id`, each once.
    """
    looks = [Look(*[math.nan] * len(Look._fields))] * len(faces)
    outputs: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(faces)
    for images in iter_images(folder, faces):
        found = [predictor.faces(image, detect=False)[0] for image in images]
        said = predictor.outputs(predictor.stack(found))
        for row, (face, pixels), output in zip(images.index, found, said, strict=True):
            looks[row], outputs[row] = Look.at(face, pixels, detected=False), output
    table = tabulate([Answered(now(), predictor.name, predictor.version, looks, np.stack(outputs))])
    for name, values in _as_found(folder, faces).items():
        column = pa.array(values.to_numpy(), mask=values.isna().to_numpy())
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    labels = pa.array([LABELS[label_id] for label_id in faces.label_id], LABEL.type)
    with written_whole(file) as partial:
        pq.write_table(table.append_column(LABEL, labels), partial)


def _as_found(folder: Path, faces: pd.DataFrame) -> pd.DataFrame:
    """Return `width`, `height` and `score` of faces as the detector found them; NaN for those that came cropped."""
    columns = ["face_id", "width", "height", "face_score", "box"]
    tables = [read_faces(folder, dataset, columns) for dataset in faces.dataset.unique()]
    table = pd.concat(tables).set_index("face_id").loc[faces.face_id]
    boxes = np.stack(table.box.to_list())
    whole = (boxes == np.stack([np.zeros(len(table)), np.zeros(len(table)), table.width, table.height], 1)).all(1)
    found = pd.DataFrame({"width": boxes[:, 2], "height": boxes[:, 3], "score": table.face_score}, dtype=np.float32)
    found.loc[whole] = np.nan
    return found.reset_index(drop=True)
