"""Stage 2: turn a dataset's pictures into one table of faces with the seven labels; count what is dropped and why."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import faces
from pipeline.archive import open_raw
from pipeline.command import run
from pipeline.errors import PipelineError
from pipeline.files import write_json, written_whole
from pipeline.labels import LABEL_IDS
from pipeline.params import FacesParams, load_params
from pipeline.sources import SOURCES, Picture
from pipeline.sources.counts import doubt
from pipeline.transforms import Image, ImageError, decode, encode

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {
        "face_id": pa.string(),
        "image": pa.binary(),
        "label": pa.string(),
        "label_id": pa.int8(),
        "dataset": pa.string(),
        "native_split": pa.string(),
        "native_label": pa.string(),
        "native_path": pa.string(),
        "person": pa.string(),
        "file_sha256": pa.string(),
        "pixel_sha256": pa.string(),
        "phash": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "face_score": pa.float32(),
        "box": pa.list_(pa.int32(), 4),
    }
)
PHASH_SIDE = 16  # 256 bits: with the usual 64, faces of different people come as near as crops of one picture
AT_ONCE = 2048  # pictures in memory, and faces in a row group

Row = dict[str, Any]


def harmonize(dataset: str, raw: Path, table: Path, labels: dict[str, str], params: FacesParams) -> dict[str, Any]:
    """Write a dataset's faces as Parquet, one row a face, ordered by path.

    Args:
        dataset: its name.
        raw: its folder from `download`.
        table: the Parquet file to write; its metadata says which detector ran and whether the faces were drawn.
        labels: native label to one of the seven, or to another name, which drops the picture.
        params: face detection, for datasets of whole pictures.

    Returns:
        counts: pictures read, faces kept, faces by label, pictures dropped by reason; and a sentence where the class
        counts speak against the label map.

    Raises:
        PipelineError: if the raw file is damaged, or holds nothing in the dataset's layout.
    """
    source = SOURCES[dataset]
    archive, manifest = open_raw(raw)
    kept: Counter[str] = Counter()
    native: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    to_row = partial(_row_or_reason, dataset=dataset, labels=labels, params=None if source.cropped else params)
    facts = {"drawn": manifest["drawn"], "detector": None if source.cropped else faces.detector_name(params.yunet)}
    schema = SCHEMA.with_metadata({key: str(value) for key, value in facts.items()})
    with (
        closing(archive),
        written_whole(table) as file,
        pq.ParquetWriter(file, schema) as writer,
        ProcessPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        pictures = tqdm(
            source.read(archive), desc=f"harmonize {dataset}", unit=" pictures", mininterval=1, disable=None
        )
        for some in _in_groups(pictures, AT_ONCE):
            native.update(picture.place.native_label for picture in some if picture.place.native_split == "train")
            results = list(pool.map(to_row, some, chunksize=64))
            rows = [result for result in results if not isinstance(result, str)]
            dropped.update(result for result in results if isinstance(result, str))
            kept.update(row["label"] for row in rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        if not kept:
            why = f"all {dropped.total()} pictures were dropped ({dict(dropped)})" if dropped else "no picture fits"
            raise PipelineError(f"{manifest['file']['name']} as {dataset}: {why}; expected {source.layout}")
    logger.info("%s: %d faces, dropped: %s", dataset, kept.total(), dict(dropped) or "none")
    doubted = doubt(native, source.train_counts, labels, source.label_maps) if source.train_counts and native else None
    if doubted:
        logger.warning("warning: %s: %s", dataset, doubted)
    return {
        "pictures": kept.total() + dropped.total(),
        "faces": kept.total(),
        "labels": {label: kept[label] for label in LABEL_IDS},
        "dropped": dict(sorted(dropped.items())),
        "label_map_doubt": doubted,
        **facts,
    }


@cache
def _detector(yunet: Path | None) -> faces.Detector:
    return faces.load_detector(yunet)


def _in_groups(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    pictures = iter(pictures)
    while some := list(islice(pictures, size)):
        yield some


def _row_or_reason(picture: Picture, dataset: str, labels: dict[str, str], params: FacesParams | None) -> Row | str:
    """Return the row of a picture's face, or the reason why there is none."""
    label = labels.get(picture.place.native_label)
    if label not in LABEL_IDS:
        return f"label {label or picture.place.native_label}"
    try:
        pixels = decode(picture.data)
    except ImageError:
        return "unreadable"
    data, face = picture.data, faces.Face((0, 0, pixels.shape[1], pixels.shape[0]), 1.0)
    if params:
        found = _detector(params.yunet)(pixels)
        if not found:
            return "no face"
        face = found[0]
        if min(face.box[2:]) < params.minimum_side:
            return "face too small"
        pixels = faces.crop(pixels, face.box)
        data = encode(pixels)
    return {
        "face_id": hashlib.sha256(f"{dataset}/{picture.path}".encode()).hexdigest()[:20],
        "image": data,
        "label": label,
        "label_id": LABEL_IDS[label],
        "dataset": dataset,
        "native_split": picture.place.native_split,
        "native_label": picture.place.native_label,
        "native_path": picture.path,
        "person": picture.place.person,
        "file_sha256": hashlib.sha256(picture.data).hexdigest(),
        "pixel_sha256": _pixel_hash(pixels),
        "phash": str(imagehash.phash(PIL.Image.fromarray(pixels), hash_size=PHASH_SIDE)),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "face_score": face.score,
        "box": list(face.box),
    }


def _pixel_hash(pixels: Image) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def main(dataset: str, raw: Path, table: Path, metrics: Path) -> None:
    """Turn the pictures of DATASET in RAW into the TABLE of its faces, and write its counts to METRICS."""
    params = load_params()
    labels = SOURCES[dataset].labels(params.label_map(dataset))
    write_json(metrics, harmonize(dataset, raw, table, labels, params.faces))


if __name__ == "__main__":
    run(main)
