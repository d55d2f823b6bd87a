"""Real faces whose labels are known, laid out by hand as each download has them: all give the same seven labels."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.files import write_json
from pipeline.labels import LABELS
from pipeline.params import FacesParams
from pipeline.sources import SOURCES
from pipeline.sources.picture import PICTURE_SUFFIXES
from pipeline.stages.harmonize import harmonize

# Written down once more, from the documentation of the downloads, so that a mistake in an adapter shows.
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
RAFDB = ("", "surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
AFFECTNET = {
    "ferplus-order": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"),
    "official": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "alphabetical": ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
}
Real = list[tuple[str, str, np.ndarray]]  # label, FER2013's official split, grey pixels


@pytest.fixture(scope="module")
def real(shared: Path) -> Real:
    with (shared / "data" / "fer2013_excerpt.csv").open(newline="") as file:
        return [
            (FER2013[int(row["emotion"])], row["Usage"], np.array(row["pixels"].split(), np.uint8).reshape(48, 48))
            for row in csv.DictReader(file)
        ]


def encoded(pixels: np.ndarray, suffix: str, side: int = 48) -> bytes:
    return cv2.imencode(suffix, cv2.resize(pixels, (side, side)))[1].tobytes()


def folders(real: Real) -> dict[str, bytes]:
    return {
        f"{'train' if usage == 'Training' else 'test'}/{label}/{usage}_{number}.jpg": encoded(pixels, ".jpg")
        for number, (label, usage, pixels) in enumerate(real)
    }


def table(header: str, order: Callable[[str, str, str], str]) -> Callable[[Real], dict[str, bytes]]:
    def write(real: Real) -> dict[str, bytes]:
        rows = (
            order(str(FER2013.index(label)), usage, " ".join(map(str, pixels.ravel()))) for label, usage, pixels in real
        )
        return {"faces.csv": "\n".join([header, *rows]).encode()}

    return write


def numbered(folder: str, split: str, codes: tuple[str, ...], name: str) -> Callable[[Real], dict[str, bytes]]:
    return lambda real: {
        f"{folder}/{split}/{codes.index(label)}/{name.format(number)}": encoded(pixels, Path(name).suffix, 100)
        for number, (label, _, pixels) in enumerate(real)
    }


LAYOUTS = {
    "fer2013, folders": ("fer2013", None, folders),
    "fer2013.csv": ("fer2013", None, table("emotion,pixels,Usage", lambda code, usage, text: f"{code},{text},{usage}")),
    "icml_face_data.csv": (
        "fer2013", None, table("emotion, Usage, pixels", lambda code, usage, text: f"{code},{usage},{text}")
    ),
    "rafdb": ("rafdb", None, numbered("DATASET", "train", RAFDB, "train_{:05}_aligned.jpg")),
    **{
        f"affectnet, {name}": ("affectnet", name, numbered("AffectNet", "val", codes, "image{:07}.png"))
        for name, codes in AFFECTNET.items()
    },
}  # fmt: skip


def harmonized(tmp_path: Path, dataset: str, label_map: str | None, files: dict[str, bytes]) -> list[dict[str, object]]:
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "raw.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    write_json(tmp_path / "raw" / "manifest.json", {"drawn": False, "file": {"name": "raw.zip"}})
    labels = SOURCES[dataset].labels(label_map)
    harmonize(dataset, tmp_path / "raw", tmp_path / "faces.parquet", labels, FacesParams())
    return pq.read_table(tmp_path / "faces.parquet").to_pylist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_labels_that_the_faces_have(layout: str, real: Real, tmp_path: Path) -> None:
    dataset, label_map, write = LAYOUTS[layout]
    rows = harmonized(tmp_path, dataset, label_map, write(real))
    counts = {label: sum(known == label for known, _, _ in real) for label in LABELS}
    assert min(counts.values()) > 0
    assert {label: sum(row["label"] == label for row in rows) for label in LABELS} == counts
    for row in rows:
        face = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_GRAYSCALE)
        nearest = min(real, key=lambda known: np.abs(cv2.resize(face, (48, 48)) - known[2].astype(float)).sum())
        assert row["label"] == nearest[0]


def test_portraits_give_the_labels_of_their_files_and_of_their_folders(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "data" / "wild_images.zip") as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(PICTURE_SUFFIXES)]
        portraits = [(Path(name).parent.name, archive.read(name)) for name in names[::5]]
    files, expected = {}, {}
    for number, (label, content) in enumerate(portraits):
        as_kaggle = {"angry": "Anger", "surprise": "Surprised"}.get(label, label.capitalize())
        for path in (f"images/{number}/{as_kaggle}.jpg", f"{label}/{number}.jpg"):
            files[path], expected[path] = content, label
    rows = harmonized(tmp_path, "wild", None, files)
    assert {row["native_path"]: row["label"] for row in rows}.items() <= expected.items()
    assert {row["label"] for row in rows} == set(LABELS)
    of_kaggle = {row["pixel_sha256"] for row in rows if row["person"]}
    assert of_kaggle == {row["pixel_sha256"] for row in rows if not row["person"]}
    assert len(of_kaggle) > 0.5 * len(portraits)  # Haar misses some
