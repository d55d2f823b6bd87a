"""Stage 2: turn a dataset's pictures into one table of faces with the seven labels; count what is dropped and why."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.command import run
from pipeline.datasets.corrections import Corrections, Outcome, read_corrections
from pipeline.datasets.engines import ENGINES
from pipeline.datasets.harmonization import harmonize_part, open_detector
from pipeline.datasets.tables import SCHEMA, STORAGE
from pipeline.errors import PipelineError
from pipeline.files import write_json, written_whole
from pipeline.labels import LABEL_IDS
from pipeline.params import FacesParams, load_params
from pipeline.sources import SOURCES
from pipeline.sources.numbering import doubt_counts
from pipeline.sources.picture import ELSEWHERE
from pipeline.sources.raw import open_raw

logger = logging.getLogger(__name__)

GROUP_ROWS, GROUP_BYTES = 2048, 64 << 20  # of a row group: what a reader holds in memory at once
MOST_REASONS = 20
DECIDED = "a person's decision"


def harmonize(
    dataset: str,
    raw: str | Path,
    table: str | Path,
    labels: dict[str, str],
    params: FacesParams,
    engine: str = "local",
    corrections: Corrections = Corrections(),  # noqa: B008  # it never changes
) -> dict[str, Any]:
    """Write a dataset's faces as Parquet, one row a face, ordered by path.

    Args:
        dataset: its name.
        raw: its folder from `download`, or an address that fsspec reads (`s3://...`).
        table: the Parquet file to write, or an address; its metadata says which detector ran and whether the faces
            were drawn. Written whole, or not at all.
        labels: native label to one of the seven, or to another name, which drops the picture.
        params: face detection, for datasets of whole pictures, and the smallest face.
        engine: who does the work, one of `pipeline.datasets.engines.ENGINES`; the rows are the same.
        corrections: what a person decided about labels of the dataset.

    Returns:
        counts: pictures read, faces kept, faces by label, pictures dropped by reason, faces that were chosen among
        several, corrections by kind; and a sentence where the class counts speak against the label map.

    Raises:
        PipelineError: if the raw file is damaged, or holds nothing in the dataset's layout.
    """
    source = SOURCES[dataset]
    opened, manifest = open_raw(raw)
    facts = {"drawn": manifest["drawn"], "detector": None if source.cropped else open_detector(params).name}
    work = partial(harmonize_part, raw=opened, dataset=dataset, labels=labels, params=params)
    parts = source.parts(opened)
    kept: Counter[str] = Counter()
    native: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    corrected: Outcome = Counter()
    several = 0
    total = sum(map(len, parts)) if isinstance(parts, list) else None
    with (
        written_whole(table) as file,
        _Table(file, facts) as writer,
        tqdm(desc=f"harmonize {dataset}", total=total, unit=" pictures", mininterval=1, disable=None) as progress,
    ):
        for done in ENGINES[engine](work, parts):
            faces, outcome = corrections.apply(done.faces)
            corrected.update(outcome)
            dropped.update(done.dropped)
            native.update(done.native)
            several += done.chosen
            kept.update(faces["label"].to_pylist())
            writer.write(faces)
            progress.update(len(done.faces) + done.dropped.total())
        decided = corrections.summarize(corrected, dataset)
        dropped += Counter({DECIDED: decided["dropped"]})
        if not kept:
            why = f"all {dropped.total()} pictures were dropped ({_shortened(dropped)})"
            why = "no picture fits" if set(dropped) <= {ELSEWHERE} else why
            raise PipelineError(f"{opened.name} as {dataset}: {why}; expected {source.layout}")
    logger.info("%s: %d faces, dropped: %s", dataset, kept.total(), _shortened(dropped) or "none")
    doubted = (
        doubt_counts(native, source.train_counts, labels, source.label_maps) if source.train_counts and native else None
    )
    if doubted:
        logger.warning("warning: %s: %s", dataset, doubted)
    return {
        "pictures": kept.total() + dropped.total(),
        "faces": kept.total(),
        "labels": {label: kept[label] for label in LABEL_IDS},
        "dropped": _shortened(dropped),
        "several_faces": several,
        "corrections": decided,
        "label_map_doubt": doubted,
        **facts,
    }


class _Table:
    """A Parquet file that grows part by part, in row groups of the same rows whoever delivers them."""

    def __init__(self, file: Path, facts: dict[str, Any]) -> None:
        metadata = {key: str(value) for key, value in facts.items()}
        self._writer = pq.ParquetWriter(file, SCHEMA.with_metadata(metadata), **STORAGE)
        self._waiting: list[pa.Table] = []

    def write(self, faces: pa.Table) -> None:
        self._waiting.append(faces)
        rows, size = (sum(getattr(part, name) for part in self._waiting) for name in ("num_rows", "nbytes"))
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._waiting:
            self._flush()
        self._writer.close()


def _shortened(dropped: Counter[str]) -> dict[str, int]:
    """Return the counts by reason; beyond the most frequent, as where every label is a word of its own, only a sum."""
    frequent = dropped.most_common(MOST_REASONS)
    rest = dropped.total() - sum(count for _, count in frequent)
    return dict(sorted(frequent)) | ({"other reasons": rest} if rest else {})


def main(dataset: str, raw: str, table: str, metrics: Path, corrections: Path | None = None) -> None:
    """Turn the pictures of DATASET in RAW into the TABLE of its faces, and write its counts to METRICS.

    CORRECTIONS are a person's decisions about labels, as `pipeline label-errors` lists them.
    """
    params = load_params()
    label_map = params.label_map(dataset)  # knows which datasets there are
    labels = SOURCES[dataset].labels(label_map)
    decisions = read_corrections(corrections, dataset) if corrections else Corrections()
    write_json(metrics, harmonize(dataset, raw, table, labels, params.faces, params.harmonize.engine, decisions))


if __name__ == "__main__":
    run(main)
