"""The page about the data: one self-contained HTML file that opens without a network."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from pipeline.files import read_json
from pipeline.labels import LABELS
from pipeline.transforms import decode, encode, is_image, resize

PICTURES_PER_CLASS = 8
GROUPS, COPIES = 24, 8  # shown of the pictures that stand there more than once, and of the faces of each
THUMBNAIL = 56
SPLITS = ("train", "validation", "test", "none")


def data_page(faces: pd.DataFrame, splits: pd.DataFrame, checks: list[dict[str, Any]], harmonized: Path) -> str:
    """Render the page: verdict, classes by dataset and split, what was dropped and why, copies, sample faces.

    Args:
        faces: `face_id, image, label, dataset` of all faces.
        splits: the table of the split stage.
        checks: what `pipeline.expectations.check` returned.
        harmonized: folder with the counts of the harmonize stage, one JSON file a dataset.
    """
    counts = splits.groupby(["dataset", "split", "label"]).size()
    datasets = sorted(splits.dataset.unique())
    counted = {name: harmonized / f"{name}.json" for name in datasets}  # the folder may hold datasets no more in use
    rows = [
        {"dataset": dataset, "split": split, "counts": [int(counts.get((dataset, split, name), 0)) for name in LABELS]}
        for dataset in datasets
        for split in SPLITS
        if (dataset, split) in counts.index.droplevel(2)
    ]
    template = Environment(loader=PackageLoader("pipeline", "pages"), autoescape=True).get_template("data.html.j2")
    return template.render(
        labels=LABELS,
        rows=rows,
        most=max((max(row["counts"]) for row in rows), default=1) or 1,
        checks=sorted(checks, key=lambda entry: (entry["met"], entry["severity"])),
        passed=all(entry["met"] or entry["severity"] != "critical" for entry in checks),
        pictures={name: _pictures(faces[faces.dataset == name]) for name in datasets},
        dropped={name: read_json(file)["dropped"] for name, file in counted.items() if file.exists()},
        removed=splits[splits.split == "none"].reason.value_counts().to_dict(),
        copies=_copies(faces, splits),
        leaked=splits[splits.leaked].groupby(["dataset", "split"]).size().to_dict(),
    )


def _pictures(faces: pd.DataFrame) -> dict[str, list[str]]:
    """Return, by label, a few faces as data addresses; evenly spread over the table, so that a rerun shows the same."""
    chosen = {}
    for label in LABELS:
        images = faces.image[faces.label == label]
        step = max(1, len(images) // PICTURES_PER_CLASS)
        shown = [_data_address(data) for data in images.iloc[::step][:PICTURES_PER_CLASS]]
        chosen[label] = [address for address in shown if address]
    return chosen


def _copies(faces: pd.DataFrame, splits: pd.DataFrame) -> dict[str, Any]:
    """Count the pictures that stand there more than once, and show some: those with conflicting labels first."""
    copies = splits[splits.group.duplicated(keep=False)].merge(faces[["face_id", "image"]], on="face_id")
    groups = copies.groupby("group").agg(labels=("label", "nunique"), faces=("label", "size"))
    first = groups.sort_values(["labels", "faces"], ascending=False, kind="stable").index[:GROUPS]
    return {
        "groups": len(groups),
        "faces": len(copies),
        "conflicting": int((groups.labels > 1).sum()),
        "shown": [
            [
                (_data_address(face.image), f"{face.label}, {face.dataset} {face.split}")
                for face in copies[copies.group == name].iloc[:COPIES].itertuples()
            ]
            for name in first
        ],
    }


def _data_address(data: bytes) -> str | None:
    """Return a small picture as an address that holds it, or nothing where there is no picture."""
    if not is_image(data):
        return None
    small = encode(resize(decode(data), THUMBNAIL))
    return f"data:image/png;base64,{base64.b64encode(small).decode()}"
