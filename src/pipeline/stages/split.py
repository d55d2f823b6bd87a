"""Stage 3: put every face into one split, over all datasets at once, so that no picture is learned and tested on."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.command import run
from pipeline.datasets.duplicates import group_pictures
from pipeline.datasets.holdout import hold_out
from pipeline.datasets.tables import read_faces, read_origin
from pipeline.files import write_json, written_whole
from pipeline.params import SplitParams, load_params

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")  # a copy goes where the later of two splits has its face
MAJORITY = 3
COLUMNS = ("face_id", "dataset", "label", "native_split", "person", "pixel_sha256", "phash")


def split(faces: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Assign every face to a split.

    Official splits are kept. A dataset without an official validation split gets one cut off its training faces; one
    without any split is cut three ways; both by whole people and pictures, stratified by label (see
    `pipeline.datasets.holdout`). Then no picture stands in two splits, also not cropped or compressed in another way
    (see `pipeline.datasets.duplicates`): test wins over validation, validation over train. An evaluation face stays and
    is marked as leaked, its training copies go; so do training copies that disagree about the label, unless one label
    has a majority of at least three.

    Args:
        faces: columns `face_id, dataset, label, native_split, person, pixel_sha256, phash`.
        params: the shares to cut off, the seed of the choice, and how near copies are looked for.

    Returns:
        one row a face, in the order given: `face_id, dataset, label, split` (train, validation, test or none),
        `group, leaked, reason`.
    """
    table = faces[["face_id", "dataset", "label", "native_split"]].copy()
    table["group"] = group_pictures(faces.pixel_sha256, faces.phash, params.near_duplicate_bits)
    datasets = faces.assign(group=table.group).groupby("dataset")
    table = table.join(pd.concat([_assign(one, params) for _, one in datasets]))
    return _without_conflicts(_without_leaks(table)).drop(columns="native_split")


def summarize(table: pd.DataFrame) -> dict[str, Any]:
    """Count a split table: faces by dataset and split, leaked faces, training faces that went and why."""
    counts = table.groupby(["dataset", "split"]).size()
    labels = table.groupby("group").label.nunique()
    conflicting = table[table.group.isin(labels[labels > 1].index)]
    return {
        "faces": {
            dataset: {name: int(counts.get((dataset, name), 0)) for name in (*SPLITS, "none")}
            for dataset in sorted(table.dataset.unique())
        },
        "distinct": int(table.group.nunique()),
        "leaked": {name: int(((table.split == name) & table.leaked).sum()) for name in SPLITS[1:]},
        "removed": table[table.split == "none"].reason.value_counts().sort_index().to_dict(),
        "conflicting": {"groups": int(conflicting.group.nunique()), "faces": len(conflicting)},
    }


def _assign(faces: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return `split, reason` of the faces of one dataset, before anything is compared between splits."""
    official = set(faces.native_split) - {"none"}
    assigned = pd.DataFrame({"split": faces.native_split, "reason": "official split"})
    assigned.loc[faces.native_split == "none", "reason"] = ""
    if not official:
        held = hold_out(faces, {"test": params.test, "validation": params.validation}, params.seed)
        assigned["split"], assigned["reason"] = held, "held-out split"
    elif "validation" not in official and "train" in official:
        held = hold_out(faces[faces.native_split == "train"], {"validation": params.validation}, params.seed)
        assigned.loc[held.index[held == "validation"]] = "validation", "held-out split"
    return assigned


def _without_leaks(table: pd.DataFrame) -> pd.DataFrame:
    order = table.split.map({name: position for position, name in enumerate(SPLITS)})
    last = order.groupby(table.group).transform("max")
    first = order.groupby(table.group).transform("min")
    elsewhere = _native_training_elsewhere(table)
    table["leaked"] = (order == last) & (order > 0) & ((first == 0) | elsewhere)
    copies = order < last
    table.loc[copies, "reason"] = "copy of a " + last[copies].map(dict(enumerate(SPLITS))) + " face"
    table.loc[copies, "split"] = "none"
    return table


def _native_training_elsewhere(table: pd.DataFrame) -> pd.Series:
    """Return whether a copy of the face stands in another dataset's own training set, wherever that copy went."""
    native = table[table.native_split == "train"].groupby("group").dataset.agg(set)
    datasets = table.group.map(native)
    return pd.Series(
        [bool(isinstance(found, set) and found - {own}) for found, own in zip(datasets, table.dataset, strict=True)],
        index=table.index,
    )


def _without_conflicts(table: pd.DataFrame) -> pd.DataFrame:
    train = table[table.split == "train"]
    votes = train.groupby(["group", "label"]).size().unstack(fill_value=0)
    votes = votes[(votes > 0).sum(axis=1) > 1]
    top = votes.max(axis=1)
    majority = votes.idxmax(axis=1).where((top >= MAJORITY) & (top > votes.sum(axis=1) / 2), "")
    dropped = train.index[train.group.isin(votes.index) & (train.label != train.group.map(majority))]
    table.loc[dropped, ["split", "reason"]] = "none", "conflicting labels"
    return table


def main(faces: Path, table: Path, metrics: Path) -> None:
    """Split the faces of all datasets in use, found in the folder FACES, into TABLE; write counts to METRICS."""
    params = load_params()
    tables = [read_faces(faces, name, COLUMNS) for name in params.use]
    for name, rows in zip(params.use, tables, strict=True):
        if read_origin(faces, name).drawn:
            # Drawn heads are so alike that those of different people come as near as copies of a photograph.
            rows["phash"] = None
    together = pd.concat(tables, ignore_index=True)
    result = split(together, params.split)
    with written_whole(table) as file:
        result.to_parquet(file, index=False)
    summary = summarize(result)
    by_pixels = summarize(split(together, params.split.model_copy(update={"near_duplicate_bits": -1})))
    write_json(metrics, summary | {"by_pixels_alone": {name: by_pixels[name] for name in by_pixels if name != "faces"}})
    for dataset, counts in summary["faces"].items():
        logger.info("%s: %s", dataset, ", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
