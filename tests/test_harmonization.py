import struct
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.datasets.harmonization import harmonize_part
from pipeline.datasets.tables import SCHEMA
from pipeline.params import FacesParams
from pipeline.sources import SOURCES
from pipeline.sources.picture import ELSEWHERE
from pipeline.sources.raw import Raw


def image(suffix: str = ".jpg", height: int = 100, width: int = 90) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


RUBBISH = {
    "zero bytes": (b"", "damaged"),
    "JPEG cut in half": (image()[:3000], "damaged"),
    "text named .jpg": (b"a text that somebody named so", "no supported image"),
    "GIF named .jpg": (b"GIF89a" + bytes(100), "no supported image"),
    "target of a symbolic link in a zip": (b"../other.jpg", "no supported image"),
    "fork of a file, as a Mac packs it": (b"\x00\x05\x16\x07" + bytes(100), "no supported image"),
    "20,000 x 20,000 announced": (
        image(".png").replace(struct.pack(">II", 90, 100), struct.pack(">II", 20_000, 20_000)),
        "too large",
    ),
    "1 x 1": (image(".png", 1, 1), "face too small"),
}


def harmonized(tmp_path: Path, files: dict[str, bytes], dataset: str = "rafdb") -> tuple[list[str], Counter[str]]:
    """Return the paths of the faces, and the reasons why others were dropped."""
    with zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    raw, kept, dropped = Raw(tmp_path / "raw.zip"), [], Counter()
    for part in SOURCES[dataset].parts(raw):
        done = harmonize_part(part, raw, dataset, SOURCES[dataset].labels(), FacesParams())
        assert done.faces.schema == SCHEMA
        kept += done.faces["native_path"].to_pylist()
        dropped.update(done.dropped)
    return kept, dropped


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_is_dropped_and_counted_and_spoils_nothing_else(kind: str, tmp_path: Path) -> None:
    content, reason = RUBBISH[kind]
    kept, dropped = harmonized(tmp_path, {"train/1/a.jpg": image(), "train/1/b.jpg": content, "train/1/c.jpg": image()})
    assert kept == ["train/1/a.jpg", "train/1/c.jpg"]
    assert dropped == {reason: 1}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("train/8/b.jpg", "label 8"),
        ("train/angry/b.jpg", "label angry"),
        ("elsewhere/b.jpg", ELSEWHERE),
        ("train/1/deeper/b.jpg", ELSEWHERE),
        ("train/1/b.gif", "no supported image"),
        ("train/1/b.TIFF", "no supported image"),
    ],
)
def test_pictures_in_odd_places_are_counted_too(path: str, reason: str, tmp_path: Path) -> None:
    content = b"GIF89a" if reason == "no supported image" else image()
    assert harmonized(tmp_path, {"train/1/a.jpg": image(), path: content}) == (["train/1/a.jpg"], {reason: 1})


def test_name_of_a_picture_does_not_decide_about_its_content(tmp_path: Path) -> None:
    kept, dropped = harmonized(tmp_path, {"train/1/png.jpg": image(".png"), "train/1/jpg.webp": image()})
    assert (len(kept), dropped) == (2, {})


def test_file_that_grows_without_end_is_dropped_unread(tmp_path: Path) -> None:
    kept, dropped = harmonized(tmp_path, {"train/1/a.jpg": image(), "train/1/bomb.jpg": bytes(101 << 20)})
    assert (kept, dropped) == (["train/1/a.jpg"], {"too large": 1})


def test_macs_own_files_are_no_pictures(tmp_path: Path) -> None:
    files = {"train/1/a.jpg": image(), "__MACOSX/train/1/._a.jpg": RUBBISH["fork of a file, as a Mac packs it"][0]}
    assert harmonized(tmp_path, files) == (["train/1/a.jpg"], {"no supported image": 1})
