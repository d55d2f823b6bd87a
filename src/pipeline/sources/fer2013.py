"""FER2013 (Goodfellow et al. 2013): 48x48 grey faces, as folders or as one CSV file of pixels.

Folders: `train/<class>/Training_<n>.jpg`, `test/<class>/{PublicTest,PrivateTest}_<n>.jpg`; the prefix is the official
split. CSV: `emotion,pixels,Usage`, in either of the two column orders that circulate; its codes are not alphabetical.
"""

import csv
import re
from collections.abc import Iterator

import numpy as np

from pipeline.labels import LABELS
from pipeline.sources.parts import Lines
from pipeline.sources.picture import NativeSplit, Picture, Place, Reason, Source
from pipeline.vision.transforms import encode

SPLITS: dict[str, NativeSplit] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
CSV_CODES = dict(zip("0123456", ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), strict=True))
SIDE = 48
FILE = re.compile(r"(?:^|/)(?:train|test)/(?P<label>[^/]+)/(?P<prefix>Training|PublicTest|PrivateTest)_[^/]+$")


def _locate(path: str) -> Place | None:
    match = FILE.search(path)
    return Place(match["label"].lower(), SPLITS[match["prefix"]]) if match else None


def _rows(part: Lines) -> Iterator[Picture | Reason]:
    for number, line in enumerate(part.lines, start=part.first):
        text = line.decode("utf-8", errors="replace").strip()
        if text:
            yield _row(f"row {number}", text, part.header)


def _row(path: str, line: str, header: tuple[str, ...]) -> Picture | Reason:
    """Return a line's picture; each line is read on its own, so that a quote left open spoils no other."""
    try:
        (values,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError):
        return "row that is no CSV"
    if len(values) != len(header):
        return "row with more or fewer columns than the header"
    row = {name: value.strip() for name, value in zip(header, values, strict=True)}
    if row["Usage"] not in SPLITS:
        return "unknown Usage"
    data = _picture(row["pixels"])
    if not data:
        return f"pixels that are not {SIDE}x{SIDE} numbers of 0 to 255"
    return Picture(path, data, Place(CSV_CODES.get(row["emotion"], "unknown code"), SPLITS[row["Usage"]]))


def _picture(pixels: str) -> bytes | None:
    """Return the pixels of a row as PNG, or nothing where they are not 48x48 numbers of 0..255."""
    try:
        values = np.array(pixels.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return None
    if values.size != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        return None
    grey = values.astype(np.uint8).reshape(SIDE, SIDE)
    return encode(np.repeat(grey[:, :, None], 3, axis=2))


SOURCE = Source(
    name="fer2013",
    handle="msambare/fer2013",
    layout="train/<class>/Training_<n>.jpg and test/<class>/PublicTest_<n>.jpg, or fer2013.csv",
    cropped=True,
    label_maps={"names": {label: label for label in LABELS}},
    locate=_locate,
    columns=("emotion", "pixels", "Usage"),
    rows=_rows,
)
