"""The page about the data: one self-contained HTML file that opens without a network."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.images import read_images
from pipeline.files import read_output
from pipeline.labels import LABELS
from pipeline.pages.templates import render_page
from pipeline.vision.transforms import decode, encode, is_image, resize

PICTURES_PER_CLASS = 8
GROUPS, COPIES = 24, 8  # shown of the pictures that stand there more than once, and of the faces of each
PAIRS = 10  # shown of those whose pixels differ
THUMBNAIL = 56
SPLITS = ("train", "validation", "test", "none")


def data_page(
    faces: pd.DataFrame, splits: pd.DataFrame, checks: list[dict[str, Any]], harmonized: Path, images: Path
) -> str:
    """Render the page: verdict, classes by dataset and split, what was dropped and why, copies, sample faces.

    Args:
        faces: `face_id, label, dataset, pixel_sha256` of all faces.
        splits: the table of the split stage.
        checks: what `pipeline.datasets.expectations.check` returned.
        harmonized: folder with the counts of the harmonize stage, one JSON file a dataset.
        images: folder with the tables of faces, where the pictures that are shown come from.

    Raises:
        PipelineError: if a dataset's counts are missing or damaged.
    """
    counts = splits.groupby(["dataset", "split", "label"]).size()
    datasets = sorted(splits.dataset.unique())
    # By name: the folder may hold datasets no more in use.
    counted = {name: read_output(harmonized / f"{name}.json", f"harmonize@{name}") for name in datasets}
    rows = [
        {"dataset": dataset, "split": split, "counts": [int(counts.get((dataset, split, name), 0)) for name in LABELS]}
        for dataset in datasets
        for split in SPLITS
        if (dataset, split) in counts.index.droplevel(2)
    ]
    copies = splits[splits.group.duplicated(keep=False)].merge(faces[["face_id", "pixel_sha256"]], on="face_id")
    samples, groups, pairs = _samples(faces), _largest_groups(copies), _near_pairs(copies)
    shown = pd.concat([*samples.values(), *groups, *pairs]).drop_duplicates("face_id")
    pictures = dict(zip(shown.face_id, map(_data_address, read_images(images, shown)), strict=True))
    return render_page(
        "data.html.j2",
        labels=LABELS,
        rows=rows,
        most=max((max(row["counts"]) for row in rows), default=1) or 1,
        checks=sorted(checks, key=lambda entry: (entry["met"], entry["severity"])),
        passed=all(entry["met"] or entry["severity"] != "critical" for entry in checks),
        samples={key: [pictures.get(face_id) for face_id in chosen.face_id] for key, chosen in samples.items()},
        datasets=datasets,
        dropped={name: found["dropped"] for name, found in counted.items()},
        relabelled={name: found.get("corrections", {}).get("relabelled") for name, found in counted.items()},
        several={name: found["several_faces"] for name, found in counted.items() if found.get("several_faces")},
        removed=splits[splits.split == "none"].reason.value_counts().to_dict(),
        copies=_count(copies),
        groups=[[_captioned(face, pictures) for face in group.itertuples()] for group in groups],
        pairs=[[_captioned(face, pictures) for face in pair.itertuples()] for pair in pairs],
        leaked=splits[splits.leaked].groupby(["dataset", "split"]).size().to_dict(),
    )


def _samples(faces: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Choose a few faces of each dataset and label, evenly spread over the table: a rerun shows the same."""
    return {
        key: rows.iloc[:: max(1, len(rows) // PICTURES_PER_CLASS)][:PICTURES_PER_CLASS]
        for key, rows in faces.groupby(["dataset", "label"])
    }


def _count(copies: pd.DataFrame) -> dict[str, int]:
    groups = copies.groupby("group").agg(labels=("label", "nunique"), pixels=("pixel_sha256", "nunique"))
    conflicting, near = int((groups.labels > 1).sum()), int((groups.pixels > 1).sum())
    return {"groups": len(groups), "faces": len(copies), "conflicting": conflicting, "near": near}


def _largest_groups(copies: pd.DataFrame) -> list[pd.DataFrame]:
    """Choose some pictures that stand there more than once: those with conflicting labels first, then the largest."""
    groups = copies.groupby("group").agg(labels=("label", "nunique"), faces=("label", "size"))
    first = groups.sort_values(["labels", "faces"], ascending=False, kind="stable").index[:GROUPS]
    return [copies[copies.group == name].iloc[:COPIES] for name in first]


def _near_pairs(copies: pd.DataFrame) -> list[pd.DataFrame]:
    """Choose pairs of faces that count as one picture though their pixels differ, evenly spread over the table."""
    different = copies.drop_duplicates(["group", "pixel_sha256"])
    near = different[different.group.duplicated(keep=False)]
    names = near.group.drop_duplicates()
    return [near[near.group == name].iloc[:2] for name in names.iloc[:: max(1, len(names) // PAIRS)][:PAIRS]]


def _captioned(face: Any, pictures: dict[str, str | None]) -> tuple[str | None, str]:
    return pictures.get(face.face_id), f"{face.label}, {face.dataset} {face.split}"


def _data_address(data: bytes) -> str | None:
    """Return a small picture as an address that holds it, or nothing where there is no picture."""
    if not is_image(data):
        return None
    small = encode(resize(decode(data), THUMBNAIL))
    return f"data:image/png;base64,{base64.b64encode(small).decode()}"
