"""Stage 4: check faces and splits against expectations; a hard failure stops the pipeline with the rows named."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.command import run
from pipeline.datasets.expectations import (
    check,
    class_expectations,
    face_expectations,
    schema_expectations,
    split_expectations,
)
from pipeline.datasets.quality import look_at
from pipeline.datasets.tables import SCHEMA, iter_faces, read_all_splits, read_types
from pipeline.errors import PipelineError
from pipeline.files import write_json, written_whole
from pipeline.labels import LABELS
from pipeline.pages.data import data_page
from pipeline.params import ValidateParams, load_params
from pipeline.sources import SOURCES

logger = logging.getLogger(__name__)


def validate(
    faces: pd.DataFrame, splits: pd.DataFrame, params: ValidateParams, maps: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Check the faces of all datasets together with their splits.

    Args:
        faces: the tables of `harmonize`, one below the other, as `pipeline.datasets.quality.look_at` returns them.
        splits: the table of `split`.
        params: sizes and counts to be met.
        maps: by dataset, what its native labels mean.

    Returns:
        one dict an expectation, as `pipeline.datasets.expectations.check` describes it.
    """
    table = faces.merge(splits[["face_id", "split", "group"]], on="face_id", how="left")
    used = table[table.split != "none"]
    table = table.assign(
        native=table.dataset + ": " + table.native_label,
        meant=table.corrected_from.fillna(table.label),
        image_readable=table.brightness.notna(),
        splits_of_group=table.group.map(used.groupby("group").split.nunique()).fillna(0),
    )
    classes = (
        table[table.split == "train"]
        .groupby(["dataset", "label"])
        .size()
        .reindex(pd.MultiIndex.from_product([sorted(table.dataset.unique()), LABELS]), fill_value=0)
        .rename_axis(["dataset", "label"])
        .reset_index(name="train_faces")
    )
    classes["class"] = classes.dataset + ": " + classes.label
    return [
        *check(splits.assign(in_a_table=splits.face_id.isin(faces.face_id)), split_expectations(), "face_id"),
        *check(table, face_expectations(params, maps), "face_id"),
        *check(classes, class_expectations(params), "class"),
    ]


def _columns(faces: Path, datasets: Iterable[str]) -> pd.DataFrame:
    """Return the columns of all tables, with the type that each has and must have; `none` where there is none."""
    expected = {field.name: str(field.type) for field in SCHEMA}
    found = {name: read_types(faces, name) for name in datasets}
    return pd.DataFrame(
        (f"{name}: {column}", types.get(column, "none"), expected.get(column, "none"))
        for name, types in found.items()
        for column in sorted({*types, *expected})
    ).set_axis(["column", "type", "expected"], axis="columns")


def _failures(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in checks if not entry["met"] and entry["severity"] == "critical"]


def _stop_at(checks: list[dict[str, Any]], advice: str) -> None:
    failures = _failures(checks)
    if failures:
        named = "; ".join(f"{entry['expectation']} ({', '.join(entry['rows'])})" for entry in failures)
        raise PipelineError(f"the data does not hold: {named}; {advice}")


def main(faces: Path, splits: Path, harmonized: Path, result: Path, page: Path) -> None:
    """Check the tables in FACES against SPLITS, and write the RESULT.

    A hard failure stops the pipeline before the stage that renders pages: then the PAGE about the data, with the counts
    in HARMONIZED, is written here.
    """
    params = load_params()
    columns = ("face_id", "image", "label", "label_id", "dataset", "native_split", "native_label", "corrected_from",
               "pixel_sha256", "face_score", "width", "height")  # fmt: skip
    _stop_at(check(_columns(faces, params.use), schema_expectations(), "column"), "run `dvc repro --force harmonize`")
    looked_at = (look_at(some) for name in params.use for some in iter_faces(faces, name, columns))
    table = pd.concat(looked_at, ignore_index=True)
    split_table = read_all_splits(splits)
    maps: dict[str, dict[str, str]] = {name: SOURCES[name].labels(params.label_map(name)) for name in params.use}
    checks = validate(table, split_table, params.validate_, maps)
    failures = _failures(checks)
    warnings = [entry for entry in checks if not entry["met"] and entry["severity"] != "critical"]
    counts = {"passed": not failures, "failures": failures, "warnings": warnings, "checked": len(checks)}
    write_json(result, {**counts, "expectations": checks})
    if failures:
        with written_whole(page) as file:
            file.write_text(data_page(table, split_table, checks, harmonized, faces), encoding="utf-8")
    for entry in warnings:
        logger.warning("warning: %s (%d: %s)", entry["expectation"], entry["failed"], ", ".join(entry["rows"]))
    _stop_at(checks, f"see {page}")
    logger.info("%d expectations met, %d warnings", len(checks) - len(warnings), len(warnings))


if __name__ == "__main__":
    run(main)
