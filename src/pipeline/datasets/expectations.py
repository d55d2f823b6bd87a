"""What the data must hold, as Great Expectations suites: over the tables' columns, the faces, the training classes."""

from collections.abc import Mapping
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.metadata_types import FailureSeverity

from pipeline.labels import LABEL_IDS, LABELS
from pipeline.params import ValidateParams

WARNING = FailureSeverity.WARNING
SPLITS = ["train", "validation", "test", "none"]


def face_expectations(params: ValidateParams, maps: Mapping[str, Mapping[str, str]]) -> list[gxe.Expectation]:
    """Return the expectations on faces, one row a face with its split and what `validate` adds to it.

    Args:
        params: what is to be met.
        maps: by dataset, what its native labels mean.
    """
    native = {(f"{dataset}: {native}", label) for dataset, labels in maps.items() for native, label in labels.items()}
    return [
        gxe.ExpectColumnValuesToNotBeNull(column="face_id"),
        gxe.ExpectColumnValuesToBeUnique(column="face_id"),
        gxe.ExpectColumnValuesToNotBeNull(column="pixel_sha256"),
        gxe.ExpectColumnValuesToMatchRegex(column="pixel_sha256", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(LABELS)),
        gxe.ExpectColumnPairValuesToBeInSet(
            column_A="label", column_B="label_id", value_pairs_set=list(LABEL_IDS.items())
        ),
        gxe.ExpectColumnPairValuesToBeInSet(
            column_A="native", column_B="meant", value_pairs_set=sorted(native), description="native to common label"
        ),
        gxe.ExpectColumnValuesToBeInSet(column="native_split", value_set=SPLITS),
        gxe.ExpectColumnValuesToNotBeNull(column="split"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=SPLITS),
        gxe.ExpectColumnValuesToBeBetween(
            column="splits_of_group", max_value=1, description="no picture stands in two splits"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="image_readable", value_set=[True], description="every image can be decoded"
        ),
        gxe.ExpectColumnValuesToBeBetween(column="face_score", min_value=0, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=params.minimum_side, severity=WARNING),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=params.minimum_side, severity=WARNING),
        gxe.ExpectColumnValuesToBeBetween(
            column="brightness",
            min_value=params.brightness[0],
            max_value=params.brightness[1],
            severity=WARNING,
            description="faces are neither dark nor glaring",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="sharpness",
            min_value=params.minimum_sharpness,
            severity=WARNING,
            description="faces are neither blurred nor blank",
        ),
    ]


def schema_expectations() -> list[gxe.Expectation]:
    """Return the expectations on the columns of the tables, one row a column with its type and that it must have."""
    return [
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="type",
            column_B="expected",
            description="every table has the columns of `harmonize`, with their types",
        )
    ]


def split_expectations() -> list[gxe.Expectation]:
    """Return the expectations on the table of splits, one row a face with whether a table has it."""
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="in_a_table", value_set=[True], description="nothing was split but what the tables hold"
        )
    ]


def class_expectations(params: ValidateParams) -> list[gxe.Expectation]:
    """Return the expectations on the training faces of each class, one row a dataset and label."""
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="train_faces", min_value=1, description="every label of a dataset has training faces"
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="train_faces",
            min_value=params.minimum_train_faces_per_class,
            severity=WARNING,
            description="every label of a dataset has enough training faces",
        ),
    ]


def check(table: pd.DataFrame, expectations: list[gxe.Expectation], row_name: str) -> list[dict[str, Any]]:
    """Hold a table against expectations.

    Args:
        table: the rows.
        expectations: what they must meet; `severity` tells hard failures from warnings.
        row_name: the column whose values name the rows that fail.

    Returns:
        one dict an expectation: `expectation`, `severity` (critical or warning), `met`, `failed` (rows) and `rows`
        (the names of the first ten of them).
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset(row_name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    suite = gx.ExpectationSuite(name=row_name, expectations=expectations)
    outcome = batch.validate(
        suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [row_name]}
    )
    return [_describe(result, row_name) for result in outcome.results]


def _describe(result: Any, row_name: str) -> dict[str, Any]:
    config = result.expectation_config
    # An expectation that can not even be computed (a column is missing, say) counts as failed, with its error's text.
    errors = [entry["exception_message"] for entry in result.exception_info.values() if isinstance(entry, dict)]
    rows = [row[row_name] for row in result.result.get("unexpected_index_list") or []]
    columns = [config.kwargs[key] for key in ("column", "column_A", "column_B") if key in config.kwargs]
    name = config.type.removeprefix("expect_").replace("_", " ")
    return {
        "expectation": config.description or f"{', '.join(columns)}: {name}",
        "severity": config.severity.value,
        "met": bool(result.success),
        "failed": result.result.get("unexpected_count", 0),
        "rows": [str(row) for row in rows[:10]] + errors,
    }
