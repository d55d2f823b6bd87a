"""What a person decided about labels: a CSV file of faces, told by their pixels, and applying it to tables of faces."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.datasets.tables import SCHEMA
from pipeline.errors import PipelineError, did_you_mean
from pipeline.labels import LABEL_IDS, LABELS
from pipeline.params import DATASETS

logger = logging.getLogger(__name__)

COLUMNS = ("dataset", "face_id", "pixel_sha256", "native_path", "label", "suggested", "quality", "decision")
NEEDED = ("dataset", "pixel_sha256", "decision")
DROP, KEEP = "drop", "keep"
DECISIONS = (*LABELS, DROP, KEEP)
KINDS = ("relabelled", "dropped", "kept")  # of what becomes of a face
Row = dict[str, str]
Outcome = Counter[tuple[str, str]]  # faces by their pixels' hash and by what became of them


class Sheet(NamedTuple):
    """A file of corrections: its columns, a person's own ones among them, and its rows by their line."""

    columns: tuple[str, ...]
    rows: dict[int, Row]


@dataclass(frozen=True)
class Corrections:
    """The decisions about the faces of one dataset, and how many rows wait for one."""

    decided: Mapping[str, str] = field(default_factory=dict)  # by the hash of the pixels
    undecided: int = 0

    def apply(self, faces: pa.Table) -> tuple[pa.Table, Outcome]:
        """Give faces the labels that were decided on, and leave out those that are to be dropped.

        Args:
            faces: rows of `SCHEMA`. Every copy of a picture is met, wherever it lies.

        Returns:
            the faces that stay, those relabelled with the former label as `corrected_from`; and what became of those
            that a decision is about: `relabelled`, `dropped`, or `kept` where the label was the decided one already.
        """
        hashes, labels = faces["pixel_sha256"].to_pylist(), faces["label"].to_pylist()
        decisions = [self.decided.get(pixels) for pixels in hashes]
        outcome: Outcome = Counter()
        former: list[str | None] = [None] * len(labels)
        for row, (pixels, decision) in enumerate(zip(hashes, decisions, strict=True)):
            if decision == DROP:
                outcome[pixels, "dropped"] += 1
            elif decision in (KEEP, labels[row]):
                outcome[pixels, "kept"] += 1
            elif decision:
                outcome[pixels, "relabelled"] += 1
                former[row], labels[row] = labels[row], decision
        if not outcome:
            return faces, outcome
        columns = {"label": labels, "label_id": [LABEL_IDS[label] for label in labels], "corrected_from": former}
        for name, values in columns.items():
            place = SCHEMA.get_field_index(name)
            faces = faces.set_column(place, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type))
        return faces.filter(pa.array([decision != DROP for decision in decisions])), outcome

    def summarize(self, outcome: Outcome, dataset: str) -> dict[str, int]:
        """Count faces by what became of them, rows without a decision, and decisions that met no face; warn of these.

        Args:
            outcome: of all the dataset's faces.
            dataset: its name.
        """
        missed = [pixels for pixels in self.decided if not any((pixels, kind) in outcome for kind in KINDS)]
        if missed:
            logger.warning(
                "warning: %s: %d of %d decisions about labels meet no face, as that about the pixels %s...; the "
                "source is another one, or its pictures are cut out or encoded otherwise",
                dataset, len(missed), len(self.decided), missed[0][:12],
            )  # fmt: skip
        faces = {kind: sum(count for (_, became), count in outcome.items() if became == kind) for kind in KINDS}
        return {**faces, "undecided": self.undecided, "unmatched": len(missed)}


def read_corrections(file: Path, dataset: str) -> Corrections:
    """Read what was decided about a dataset's faces.

    Raises:
        PipelineError: naming the line, if the file can not be read, or a row of any dataset can not be understood, or
            two rows decide differently about the same picture.
    """
    rows = [row for row in read_sheet(file).rows.values() if row["dataset"] == dataset]
    decided = {row["pixel_sha256"]: row["decision"] for row in rows if row["decision"]}
    return Corrections(decided, sum(not row["decision"] for row in rows))


def read_sheet(file: Path) -> Sheet:
    """Read a file of corrections, decisions in lower case, and check every row of it; see `read_corrections`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets put a mark in front
            reader = csv.DictReader(stream, strict=True)
            columns = tuple(reader.fieldnames or ())
            missing = [name for name in NEEDED if columns.count(name) != 1]
            if missing:
                raise PipelineError(
                    f"{file} has no column {', '.join(missing)}, or has it twice; expected {','.join(COLUMNS)}, with "
                    f"commas between them"
                )
            read = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise PipelineError(f"{file} is missing; `git checkout {file}` brings it back") from error
    except OSError as error:
        raise PipelineError(f"{file} can not be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"{file} is no CSV in UTF-8: {error}") from error
    rows = {line: _check(row, f"{file}, line {line}") for line, row in read if any(row.values())}
    _check_together(rows, file)
    return Sheet(columns, rows)


def _check(row: Row, place: str) -> Row:
    if None in row or None in row.values():
        raise PipelineError(f"{place}: more or fewer columns than the header")
    row = {**row, **{name: row[name].strip().lower() for name in NEEDED}}
    if row["dataset"] not in DATASETS:
        raise PipelineError(
            f"{place}: there is no dataset {row['dataset']!r}{did_you_mean(row['dataset'], DATASETS)}; there are "
            f"{', '.join(DATASETS)}"
        )
    if not re.fullmatch("[0-9a-f]{64}", row["pixel_sha256"]):
        raise PipelineError(f"{place}: pixel_sha256 has to be 64 hexadecimal digits, got {row['pixel_sha256']!r}")
    if row["decision"] and row["decision"] not in DECISIONS:
        raise PipelineError(
            f"{place}: the decision {row['decision']!r} is none{did_you_mean(row['decision'], DECISIONS)}; write "
            f"{', '.join(LABELS)}, {DROP} or {KEEP}, or nothing"
        )
    return row


def _check_together(rows: Mapping[int, Row], file: Path) -> None:
    first: dict[tuple[str, str], int] = {}
    for line, row in rows.items():
        if not row["decision"]:
            continue
        before = first.setdefault((row["dataset"], row["pixel_sha256"]), line)
        if rows[before]["decision"] != row["decision"]:
            raise PipelineError(
                f"{file}: line {before} says {rows[before]['decision']} and line {line} {row['decision']} about the "
                f"same picture; leave one of them"
            )
