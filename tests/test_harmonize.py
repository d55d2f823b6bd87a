import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest

from pipeline.datasets.images import StoredImages
from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.params import FacesParams
from pipeline.sample import draw
from pipeline.sources import SOURCES
from pipeline.stages.harmonize import harmonize
from pipeline.vision.faces import Face, crop
from pipeline.vision.transforms import decode, encode

COLUMNS = {
    "face_id": "string",
    "image": "binary",
    "label": "string",
    "label_id": "int8",
    "dataset": "string",
    "native_split": "string",
    "native_label": "string",
    "corrected_from": "string",
    "native_path": "string",
    "person": "string",
    "file_sha256": "string",
    "pixel_sha256": "string",
    "phash": "string",
    "width": "int32",
    "height": "int32",
    "face_score": "float",
    "box": "fixed_size_list<element: int32>[4]",
}
Files = dict[str, bytes]


def image(seed: int, suffix: str = ".jpg", shape: tuple[int, ...] = (100, 90, 3)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def rafdb_files() -> Files:
    return {f"DATASET/train/{code}/{code}_aligned.jpg": image(code) for code in range(1, 8)}


def write_raw(folder: Path, dataset: str, files: Files, drawn: bool = False) -> Path:
    """Write what the stage `download` would leave."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{dataset}.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    write_json(folder / "manifest.json", {"dataset": dataset, "drawn": drawn, "file": {"name": f"{dataset}.zip"}})
    return folder


def run(
    tmp_path: Path, dataset: str, files: Files, label_map: str | None = None, **params: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the counts and the rows of a dataset with these files."""
    raw, maps = write_raw(tmp_path / "raw", dataset, files), SOURCES[dataset].label_maps
    labels = maps[label_map or next(iter(maps))]
    counts = harmonize(dataset, raw, tmp_path / "out" / "faces.parquet", labels, FacesParams(**params))
    return counts, pq.read_table(tmp_path / "out" / "faces.parquet").to_pylist()


def refused(tmp_path: Path, dataset: str, files: Files, **params: Any) -> str:
    (tmp_path / "out").mkdir()
    with pytest.raises(PipelineError) as error:
        run(tmp_path, dataset, files, **params)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []
    return str(error.value)


def test_cropped_face_keeps_its_bytes_and_gets_a_whole_row(tmp_path: Path) -> None:
    files = {"DATASET/test/4/test_0001_aligned.jpg": image(1)}
    counts, rows = run(tmp_path, "rafdb", files)
    assert counts["labels"]["happy"] == counts["faces"] == 1
    (row,) = rows
    (path,), (data,) = files.keys(), files.values()
    assert row.pop("image") == data
    hashes = [row.pop(name) for name in ("face_id", "pixel_sha256", "phash")]
    assert [len(value) for value in hashes] == [20, 64, 64]
    assert hashes[2] == str(imagehash.phash(PIL.Image.open(io.BytesIO(data)), hash_size=16))
    assert row == {
        "label": "happy",
        "label_id": 3,
        "dataset": "rafdb",
        "native_split": "test",
        "native_label": "4",
        "corrected_from": None,
        "native_path": path,
        "person": None,
        "file_sha256": hashlib.sha256(data).hexdigest(),
        "width": 90,
        "height": 100,
        "face_score": 1.0,
        "box": [0, 0, 90, 100],
    }


def test_table_has_the_documented_columns_in_the_order_of_the_paths(tmp_path: Path) -> None:
    _, rows = run(tmp_path, "rafdb", dict(reversed(rafdb_files().items())))
    schema = pq.read_schema(tmp_path / "out" / "faces.parquet")
    assert {field.name: str(field.type) for field in schema} == COLUMNS
    assert [row["native_path"] for row in rows] == sorted(rafdb_files())
    assert [row["label"] for row in rows] == ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]
    assert [row["label_id"] for row in rows] == [6, 2, 1, 3, 5, 0, 4]
    assert len({row["face_id"] for row in rows}) == 7


def test_each_image_can_be_read_by_itself(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", "rafdb", rafdb_files())
    harmonize("rafdb", raw, tmp_path / "rafdb.parquet", SOURCES["rafdb"].labels(), FacesParams())
    table = pq.read_table(tmp_path / "rafdb.parquet").to_pandas().iloc[::-1]
    assert list(StoredImages(tmp_path, table)) == table.image.tolist() == list(rafdb_files().values())[::-1]


def test_table_says_whether_it_was_drawn_and_which_detector_ran(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", "rafdb", rafdb_files(), drawn=True)
    harmonize("rafdb", raw, tmp_path / "faces.parquet", SOURCES["rafdb"].label_maps["codes"], FacesParams())
    metadata = pq.read_schema(tmp_path / "faces.parquet").metadata
    assert (metadata[b"drawn"], metadata[b"detector"]) == (b"True", b"None")


def test_drops_are_counted_by_reason(tmp_path: Path) -> None:
    files = {
        "AffectNet/train/0/a.jpg": image(1),
        "AffectNet/train/7/b.jpg": image(2),
        "AffectNet/val/7/c.jpg": image(3),
        "AffectNet/val/8/d.jpg": image(4),
        "AffectNet/test/1/cut.jpg": image(5)[:900],
        "AffectNet/test/1/empty.jpg": b"",
        "AffectNet/test/1/text.jpg": b"a text",
        "AffectNet/labels.csv": b"no picture at all",
    }
    counts, rows = run(tmp_path, "affectnet", files)
    assert counts["dropped"] == {"damaged": 2, "label 8": 1, "label contempt": 2, "no supported image": 1}
    assert (counts["pictures"], counts["faces"], len(rows)) == (7, 1, 1)


def test_label_map_decides_what_a_code_means(tmp_path: Path) -> None:
    files = {f"AffectNet/train/{code}/a.jpg": image(code) for code in range(8)}
    counts, rows = run(tmp_path, "affectnet", files, label_map="alphabetical")
    assert {row["native_label"]: row["label"] for row in rows}["2"] == "disgust"
    assert counts["dropped"] == {"label contempt": 1}


def test_pixels_are_recognized_in_another_encoding(tmp_path: Path) -> None:
    pixels = decode(image(1))
    files = {
        "DATASET/train/1/a.png": cv2.imencode(".png", pixels)[1].tobytes(),
        "DATASET/train/1/b.bmp": cv2.imencode(".bmp", pixels)[1].tobytes(),
        "DATASET/train/1/c.png": image(2, ".png"),
    }
    _, (png, bmp, other) = run(tmp_path, "rafdb", files)
    assert png["pixel_sha256"] == bmp["pixel_sha256"] != other["pixel_sha256"]
    assert png["file_sha256"] != bmp["file_sha256"]


def test_grey_fer2013_face_is_48_pixels_and_keeps_its_official_split(tmp_path: Path) -> None:
    _, (row,) = run(tmp_path, "fer2013", {"test/sad/PublicTest_7.jpg": image(1, shape=(48, 48))})
    assert (row["width"], row["height"], row["native_split"], row["label"]) == (48, 48, "validation", "sad")


def test_whole_pictures_are_cropped_to_the_face_that_was_found(tmp_path: Path) -> None:
    portraits = dict(islice(draw("wild", 3), 8))  # one person's
    counts, rows = run(tmp_path, "wild", {**portraits, "sad/wall.png": image(0, ".png", (2, 2, 3))})
    assert counts["dropped"] == {"label contempt": 1, "no face": 1}
    assert (counts["detector"], counts["several_faces"]) == ("haar", 0)
    assert {row["label"] for row in rows} == set(counts["labels"])
    assert {row["person"] for row in rows} == {"0"}
    for row in rows:
        whole, face = decode(portraits[row["native_path"]]), decode(row["image"])
        np.testing.assert_array_equal(face, crop(whole, Face(tuple(row["box"]), 1.0)))
        assert (row["height"], row["width"]) == face.shape[:2]
        assert row["width"] == row["height"] < min(whole.shape[:2])
        assert 0 < row["face_score"] <= 1
        assert row["file_sha256"] == hashlib.sha256(portraits[row["native_path"]]).hexdigest()


def test_pictures_with_several_faces_that_may_be_meant_are_counted(tmp_path: Path) -> None:
    one, other = (decode(content) for content in dict(islice(draw("wild", 3), 2)).values())
    height = min(len(one), len(other))
    two = cv2.imencode(".png", np.hstack([one[:height], other[:height]])[..., ::-1])[1].tobytes()
    counts, rows = run(tmp_path, "wild", {"happy/two.png": two, "sad/one.png": encode(one)})
    assert (counts["faces"], counts["several_faces"]) == (2, 1)
    assert set(rows[0]) == set(COLUMNS)


def test_small_faces_are_dropped_and_counted(tmp_path: Path) -> None:
    said = refused(tmp_path, "wild", dict(islice(draw("wild", 3), 1)), minimum_side=1000)
    assert "{'face too small': 1}" in said


@pytest.mark.parametrize("dataset", SOURCES)
def test_another_layout_is_refused_with_the_expected_one(dataset: str, tmp_path: Path) -> None:
    said = refused(tmp_path, dataset, {"face.jpg": image(1), "README": b""})
    assert said.startswith(f"{dataset}.zip as {dataset}: no picture fits; expected {SOURCES[dataset].layout}")


@pytest.mark.parametrize("dataset", SOURCES)
def test_empty_folder_is_refused_with_the_expected_layout(dataset: str, tmp_path: Path) -> None:
    assert "no picture fits; expected" in refused(tmp_path, dataset, {})


def test_only_dropped_pictures_are_an_error_with_the_reasons(tmp_path: Path) -> None:
    said = refused(tmp_path, "rafdb", {"DATASET/train/angry/a.jpg": image(1), "DATASET/train/1/b.jpg": b""})
    assert "all 2 pictures were dropped" in said
    assert "'label angry': 1" in said


def test_missing_download_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(PipelineError, match="no whole download; run `dvc repro download@rafdb`"):
        harmonize("rafdb", tmp_path / "rafdb", tmp_path / "out" / "faces.parquet", {}, FacesParams())


def test_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    raw, labels = write_raw(tmp_path / "raw", "rafdb", rafdb_files()), SOURCES["rafdb"].label_maps["codes"]
    for name in ("one", "two"):
        harmonize("rafdb", raw, tmp_path / name, labels, FacesParams())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def damaged(raw: Path) -> Path:
    """Change one byte of the last picture of a raw zip; its table of contents stays whole."""
    file = raw / "rafdb.zip"
    with zipfile.ZipFile(file) as archive:
        last = max(archive.infolist(), key=lambda entry: entry.filename)
    content = bytearray(file.read_bytes())
    content[last.header_offset + 500] ^= 0xFF
    file.write_bytes(content)
    return raw


def test_failure_in_the_middle_leaves_the_former_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stages.harmonize.GROUP_ROWS", 3)
    monkeypatch.setattr("pipeline.sources.parts.PICTURES", 3)  # two groups are written before the third fails
    raw = damaged(write_raw(tmp_path / "raw", "rafdb", rafdb_files()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "faces.parquet").write_bytes(b"the former table")
    with pytest.raises((PipelineError, zipfile.BadZipFile)):
        harmonize("rafdb", raw, tmp_path / "out" / "faces.parquet", {"1": "surprise"}, FacesParams())
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["faces.parquet"]
    assert (tmp_path / "out" / "faces.parquet").read_bytes() == b"the former table"


def test_damaged_download_is_an_error_that_names_it(tmp_path: Path) -> None:
    raw = damaged(write_raw(tmp_path / "raw", "rafdb", rafdb_files()))
    with pytest.raises(PipelineError, match=r"rafdb\.zip"):
        harmonize("rafdb", raw, tmp_path / "faces.parquet", SOURCES["rafdb"].label_maps["codes"], FacesParams())


def test_detector_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    said = refused(tmp_path, "wild", dict(islice(draw("wild", 3), 1)), yunet=tmp_path / "nix.onnx")
    assert "nix.onnx" in said


def test_numbers_that_do_not_fit_the_official_class_counts_are_doubted(tmp_path: Path) -> None:
    maps = SOURCES["affectnet"].label_maps
    files = {
        f"AffectNet/train/{code}/{number}.jpg": image(number, shape=(24, 24, 3))
        for code, label in maps["official"].items()
        for number in range(SOURCES["affectnet"].train_counts[label] // 3000)
    }
    counts, _ = run(tmp_path, "affectnet", files, label_map="ferplus-order")
    assert "(label_map: official)" in counts["label_map_doubt"]
    (tmp_path / "again").mkdir()
    counts, _ = run(tmp_path / "again", "affectnet", files, label_map="official")
    assert counts["label_map_doubt"] is None


def test_many_kinds_of_unknown_labels_are_summed_up(tmp_path: Path) -> None:
    files = {f"train/{number}/a.jpg": image(1, shape=(24, 24, 3)) for number in range(60)}
    counts, _ = run(tmp_path, "affectnet", files)
    assert len(counts["dropped"]) == 21
    assert sum(counts["dropped"].values()) + counts["faces"] == 60
    assert counts["dropped"]["other reasons"] == 60 - 7 - 20


def harmonized_apart(raw: Path, table: Path, pause: float = 0) -> subprocess.Popen[str]:
    """Start the stage's function in a process of its own, every picture taking that many seconds more."""
    program = (
        "import sys, time; from pathlib import Path; from pipeline.datasets import harmonization as h\n"
        "from pipeline.stages.harmonize import harmonize; from pipeline.params import FacesParams\n"
        "from pipeline.sources import SOURCES; decode = h.decode\n"
        "h.decode = lambda data: (time.sleep(float(sys.argv[3])), decode(data))[1]\n"
        "print('ready', flush=True)\n"
        "harmonize('rafdb', Path(sys.argv[1]), Path(sys.argv[2]), SOURCES['rafdb'].labels(), FacesParams())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, raw, table, str(pause)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_killed_at_any_moment_and_run_again_it_gives_the_same_file(tmp_path: Path) -> None:
    files = {f"train/{n % 7 + 1}/{n}.jpg": image(n, shape=(24, 24, 3)) for n in range(600)}
    raw = write_raw(tmp_path / "raw", "rafdb", files)
    labels = SOURCES["rafdb"].labels()
    harmonize("rafdb", raw, tmp_path / "whole" / "rafdb.parquet", labels, FacesParams())
    table = tmp_path / "out" / "rafdb.parquet"
    for after in (0.0, 0.3):
        process = harmonized_apart(raw, table, pause=0.1)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not table.exists()
    harmonize("rafdb", raw, table, labels, FacesParams())
    assert table.read_bytes() == (tmp_path / "whole" / "rafdb.parquet").read_bytes()
    assert [file.name for file in table.parent.iterdir()] == ["rafdb.parquet"]  # no rest of the killed ones


def test_killed_worker_is_an_error_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.datasets.harmonization.decode", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    said = refused(tmp_path, "rafdb", rafdb_files())
    assert said == "a process was killed while it worked, perhaps for want of memory"


def test_full_disk_is_an_error_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    files = {f"train/1/{n}.png": image(n, ".png") for n in range(10)}
    raw = write_raw(tmp_path / "raw", "rafdb", files)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # what a disk with no more room answers
    try:
        with pytest.raises(PipelineError, match=r"out/rafdb\.parquet can not be written: File too large"):
            harmonize("rafdb", raw, tmp_path / "out" / "rafdb.parquet", SOURCES["rafdb"].labels(), FacesParams())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").iterdir()) == []


def test_folder_that_may_not_be_written_to_is_an_error_in_a_sentence(tmp_path: Path, unprivileged: Path) -> None:
    raw = write_raw(unprivileged / "raw", "rafdb", rafdb_files())
    (unprivileged / "out").mkdir(mode=0o555)
    with pytest.raises(PipelineError, match=r"out/rafdb\.parquet can not be written: Permission denied"):
        harmonize("rafdb", raw, unprivileged / "out" / "rafdb.parquet", SOURCES["rafdb"].labels(), FacesParams())


def test_raw_file_that_may_not_be_read_is_an_error_in_a_sentence(unprivileged: Path) -> None:
    raw = write_raw(unprivileged / "raw", "rafdb", rafdb_files())
    (raw / "rafdb.zip").chmod(0)
    with pytest.raises(PipelineError, match=r"rafdb\.zip can not be read: .*Permission denied"):
        harmonize("rafdb", raw, unprivileged / "rafdb.parquet", SOURCES["rafdb"].labels(), FacesParams())
