"""Small tables of faces, as the stages before training would leave them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.datasets.tables import SCHEMA, STORAGE
from pipeline.labels import LABELS

SPLITS = {"train": 4, "validation": 2, "test": 2}


def write_tables(
    root: Path, datasets: tuple[str, ...] = ("fer2013",), drawn: bool = True, counts: dict[str, int] = SPLITS
) -> tuple[Path, Path]:
    """Write faces and splits, some of each label and split; a label is told by the brightness of its faces.

    Returns:
        the folder of the faces, and the file of the splits.
    """
    faces, splits = root / "data" / "faces", root / "data" / "splits.parquet"
    faces.mkdir(parents=True)
    random, assigned = np.random.default_rng(0), []
    for dataset in datasets:
        rows = []
        for split, count in counts.items():
            for label_id, label in enumerate(LABELS):
                for number in range(count):
                    face_id = f"{dataset}-{split}-{label}-{number}"
                    rows.append(_row(face_id, dataset, label, random.normal(20 + 35 * label_id, 4, (48, 48, 1))))
                    leaked = split == "test" and number == 0
                    assigned.append((face_id, dataset, label, face_id, split, "", leaked))
        schema = SCHEMA.with_metadata({"drawn": str(drawn), "detector": "None"})
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), faces / f"{dataset}.parquet", **STORAGE)
    columns = ["face_id", "dataset", "label", "group", "split", "reason", "leaked"]
    pd.DataFrame(assigned, columns=columns).to_parquet(splits)
    return faces, splits


def write_made_from(root: Path, version: str, datasets: tuple[str, ...] = ("fer2013",), **parents: float) -> Path:
    """Write what the stage `inputs` would: hashes of data, and the validation macro-F1 of possible parents."""
    folder = root / "data" / "inputs" / version
    folder.mkdir(parents=True)
    (folder / "faces.json").write_text(json.dumps(dict.fromkeys(datasets, "0" * 64)))
    for parent, macro_f1 in parents.items():
        (folder / f"{parent}.json").write_text(
            json.dumps({"weights_sha256": "0", "validation_macro_f1": macro_f1, "drawn": True})
        )
    return folder


def _row(face_id: str, dataset: str, label: str, pixels: np.ndarray) -> dict[str, object]:
    image = cv2.imencode(".png", np.repeat(pixels.clip(0, 255), 3, axis=2).astype(np.uint8))[1].tobytes()
    return {
        "face_id": face_id,
        "image": image,
        "label": label,
        "label_id": LABELS.index(label),
        "dataset": dataset,
        "native_label": label,
        "pixel_sha256": face_id,
        "box": [0, 0, 48, 48],
        "width": 48,
        "height": 48,
    }
