"""From the pictures of one part of a dataset to rows of faces: what every worker does, on this machine or another."""

import hashlib
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pandas  # noqa: F401, ICN001  # pyarrow imports it at its first array: once here, not in every process
import PIL.Image
import pyarrow as pa

from pipeline.datasets.tables import SCHEMA
from pipeline.labels import LABEL_IDS
from pipeline.params import FacesParams
from pipeline.sources import SOURCES, Picture
from pipeline.sources.parts import Part
from pipeline.sources.raw import Raw
from pipeline.vision.detectors import load_detector
from pipeline.vision.faces import Detector, Face, choose_face
from pipeline.vision.transforms import Image, ImageError, ImageTooLargeError, UnsupportedImageError, decode, encode
from pipeline.vision.yunet_file import find_yunet

PHASH_SIDE = 16  # 256 bits: with the usual 64, faces of different people come as near as crops of one picture
REASONS = {ImageTooLargeError: "too large", UnsupportedImageError: "no supported image", ImageError: "damaged"}

Row = tuple[Any, ...]


class Harmonized(NamedTuple):
    """What came of a part.

    Its faces; the pictures that were dropped, by reason; its training pictures by native label; and how many of the
    faces were chosen among several that may be meant.
    """

    faces: pa.Table
    dropped: Counter[str]
    native: Counter[str]
    chosen: int


def harmonize_part(part: Part, raw: Raw, dataset: str, labels: dict[str, str], params: FacesParams) -> Harmonized:
    """Turn the pictures of a part into faces.

    Args:
        part: of the dataset's raw file.
        raw: that file.
        dataset: its name.
        labels: native label to one of the seven, or to another name, which drops the picture.
        params: face detection, for datasets of whole pictures, and the smallest face.

    Raises:
        PipelineError: if the raw file is damaged.
    """
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    native: Counter[str] = Counter()
    chosen = 0
    for picture in SOURCES[dataset].pictures(raw, part):
        if isinstance(picture, str):
            dropped[picture] += 1
            continue
        if picture.place.native_split == "train":
            native[picture.place.native_label] += 1
        found = _row_or_reason(picture, dataset, labels, params)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            rows.append(found[0])
            chosen += found[1] > 1
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return Harmonized(pa.Table.from_arrays(arrays, schema=SCHEMA), dropped, native, chosen)


def open_detector(params: FacesParams) -> Detector:
    """Return the detector that the parameters name; YuNet's file is fetched if that is asked for."""
    return load_detector(find_yunet(params.yunet))


_detector = cache(open_detector)  # one a process


def _row_or_reason(
    picture: Picture, dataset: str, labels: dict[str, str], params: FacesParams
) -> tuple[Row, int] | str:
    """Return a face's row, in the order of `SCHEMA`, and among how many it was chosen; or why there is no face."""
    place = picture.place
    label = labels.get(place.native_label)
    if label not in LABEL_IDS:
        return f"label {label or place.native_label}"
    try:
        pixels = decode(picture.data)
    except ImageError as error:
        return REASONS[type(error)]
    height, width = pixels.shape[:2]
    data, face, candidates = picture.data, Face((0, 0, width, height), 1.0), 1
    if not SOURCES[dataset].cropped:
        choice = choose_face(pixels, _detector(params))
        if choice is None:
            return "no face"
        pixels, face, candidates = choice
        data = encode(pixels)
    if min(face.box[2:]) < params.minimum_side:
        return "face too small"
    row = (
        hashlib.sha256(f"{dataset}/{picture.path}".encode()).hexdigest()[:20],
        data,
        label,
        LABEL_IDS[label],
        dataset,
        place.native_split,
        place.native_label,
        None,
        picture.path,
        place.person,
        *_hashes(picture.data, pixels),
        pixels.shape[1],
        pixels.shape[0],
        face.score,
        face.box,
    )
    return row, candidates


def _hashes(data: bytes, pixels: Image) -> tuple[str, str, str]:
    """Return the SHA-256 of a file and of its pixels with their shape, and the pixels' perceptual hash."""
    shaped = repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    near = imagehash.phash(PIL.Image.fromarray(pixels), hash_size=PHASH_SIDE)
    return hashlib.sha256(data).hexdigest(), hashlib.sha256(shaped).hexdigest(), str(near)
