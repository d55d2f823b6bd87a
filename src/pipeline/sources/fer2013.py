"""FER2013 (Goodfellow et al. 2013): 48x48 grey faces, as folders or as one CSV file of pixels.

Folders: `train/<class>/Training_<n>.jpg`, `test/<class>/{PublicTest,PrivateTest}_<n>.jpg`; the prefix is the official
split. CSV: `emotion,pixels,Usage`, in either of the two column orders that circulate; its codes are not alphabetical.
"""

import csv
import io
import re
from collections.abc import Iterator

import numpy as np

from pipeline.archive import Archive
from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.sources.picture import NativeSplit, Picture, Place, Source, located
from pipeline.transforms import encode

SPLITS: dict[str, NativeSplit] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
CSV_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 48
FILE = re.compile(r"(?:^|/)(?:train|test)/(?P<label>[^/]+)/(?P<prefix>Training|PublicTest|PrivateTest)_[^/]+$")


def _locate(path: str) -> Place | None:
    match = FILE.search(path)
    return Place(match["label"].lower(), SPLITS[match["prefix"]]) if match else None


def _rows(archive: Archive, path: str) -> Iterator[Picture]:
    lines = csv.reader(io.StringIO(archive.read(path).decode("utf-8", errors="replace")))
    header = [name.strip() for name in next(lines, [])]
    missing = {"emotion", "pixels", "Usage"} - set(header)
    if missing:
        raise PipelineError(f"{path} has no column {', '.join(sorted(missing))}; its header is {', '.join(header)}")
    for number, line in enumerate(lines, start=2):
        row = dict(zip(header, line, strict=False))
        code, usage = row.get("emotion", "").strip(), row.get("Usage", "").strip()
        label = CSV_CODES[int(code)] if code.isdecimal() and int(code) < len(CSV_CODES) else f"code {code}"
        place = Place(label, SPLITS.get(usage, "none"))
        yield Picture(f"{path}#{number}", _picture(row.get("pixels", "")), place)


def _picture(pixels: str) -> bytes:
    """Return the pixels of a row as PNG, or nothing where they are not 48x48 numbers of 0..255."""
    try:
        values = np.array(pixels.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return b""
    if values.size != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        return b""
    grey = values.astype(np.uint8).reshape(SIDE, SIDE)
    return encode(np.repeat(grey[:, :, None], 3, axis=2))


def _read(archive: Archive) -> Iterator[Picture]:
    tables = [path for path in archive.paths() if path.lower().endswith(".csv")]
    if tables:
        for path in tables:
            yield from _rows(archive, path)
    else:
        yield from located(archive, _locate)


SOURCE = Source(
    name="fer2013",
    handle="msambare/fer2013",
    layout="train/<class>/Training_<n>.jpg and test/<class>/PublicTest_<n>.jpg, or fer2013.csv",
    cropped=True,
    label_maps={"names": {label: label for label in LABELS}},
    read=_read,
)
