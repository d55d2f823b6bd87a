"""What a version learned from and is judged on, counted: by dataset, split and label, and what was taken out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.tables import read_all_splits, read_origin
from pipeline.labels import LABELS

SPLITS = ("train", "validation", "test")


def take_inventory(datasets: Iterable[str], faces: Path, splits: Path) -> dict[str, dict[str, Any]]:
    """Count the faces of some datasets.

    Args:
        datasets: their names.
        faces: folder with one Parquet file a dataset.
        splits: the table of the split stage.

    Returns:
        by dataset: `drawn`; `counts` by split and label; `removed`, faces in no split by reason; `leaked`, by split
        the faces that stay there though they also stand in a native training set.

    Raises:
        PipelineError: if a table is missing or damaged.
    """
    table = read_all_splits(splits)
    return {
        name: {"drawn": read_origin(faces, name).drawn, **_count(table[table.dataset == name])} for name in datasets
    }


def _count(table: pd.DataFrame) -> dict[str, Any]:
    counts = pd.crosstab(table.split, table.label).reindex(index=SPLITS, columns=LABELS, fill_value=0)
    removed = table[table.split == "none"].reason.replace("", "no official split").value_counts()
    leaked = table[table.leaked & (table.split != "none")].split.value_counts()
    return {
        "counts": {split: counts.loc[split].astype(int).to_dict() for split in SPLITS if counts.loc[split].any()},
        "removed": {str(reason): int(count) for reason, count in removed.items()},
        "leaked": {split: int(leaked[split]) for split in SPLITS if split in leaked},
    }
