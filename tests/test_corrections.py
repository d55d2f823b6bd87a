import csv
import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from commands import run_stage

from pipeline.datasets.corrections import COLUMNS, read_corrections, read_sheet
from pipeline.errors import PipelineError
from pipeline.files import read_json, write_json
from pipeline.labels import LABEL_IDS
from pipeline.params import FacesParams, SampleParams
from pipeline.sources import SOURCES
from pipeline.stages.download import download
from pipeline.stages.harmonize import harmonize, main

ROOT = Path(__file__).parents[1]
PICTURES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(3)]


def write(file: Path, *rows: tuple[str, str, str]) -> Path:
    """Write a sheet of datasets, hashes of pixels and decisions."""
    cells = (dict(zip(("dataset", "pixel_sha256", "decision"), row, strict=True)) for row in rows)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(cells)
    return file


def test_decisions_are_read_for_one_dataset(tmp_path: Path) -> None:
    rows = [("rafdb", PICTURES[0], "sad"), ("rafdb", PICTURES[1], ""), ("fer2013", PICTURES[2], "drop")]
    file = write(tmp_path / "corrections.csv", *rows)
    corrections = read_corrections(file, "rafdb")
    assert (corrections.decided, corrections.undecided) == ({PICTURES[0]: "sad"}, 1)
    assert read_corrections(file, "wild").decided == {}


def test_what_spreadsheets_do_to_a_file_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "corrections.csv"
    lines = ["pixel_sha256,note,decision,dataset", f"{PICTURES[0].upper()},mine, Sad ,rafdb", ",,,", ""]
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert read_corrections(file, "rafdb").decided == {PICTURES[0]: "sad"}


HEADER = ",".join(COLUMNS)
BAD = {
    "missing": (None, r"is missing; `git checkout .*corrections\.csv` brings it back"),
    "empty": ("", "has no column dataset, pixel_sha256, decision, or has it twice"),
    "semicolons": (HEADER.replace(",", ";"), "with commas between them"),
    "column twice": (HEADER + ",decision", "has no column decision, or has it twice"),
    "no text": (b"\xff\xfe\x00", "is no CSV in UTF-8"),
    "quote left open": (f'{HEADER}\n"fer2013', "is no CSV in UTF-8: unexpected end of data"),
    "row cut off": (f"{HEADER}\nfer2013,x", "line 2: more or fewer columns than the header"),
    "row too long": (f"{HEADER}\nfer2013,,{PICTURES[0]},,,,,sad,x", "line 2: more or fewer columns than the header"),
    "unknown dataset": (
        f"{HEADER}\nfer13,,{PICTURES[0]},,,,,",
        r"line 2: there is no dataset 'fer13' \(did you mean fer",
    ),
    "no hash": (f"{HEADER}\nfer2013,,12ab,,,,,sad", "line 2: pixel_sha256 has to be 64 hexadecimal digits, got '12ab'"),
    "unknown label": (
        f"{HEADER}\n\nfer2013,,{PICTURES[0]},,,,,suprise",
        r"line 3: the decision 'suprise' is none \(did you mean surprise\?\); write angry, .* drop or keep, or nothing",
    ),
    "contradiction": (
        f"{HEADER}\nwild,,{PICTURES[0]},,,,,sad\nwild,,{PICTURES[0]},,,,,\nwild,,{PICTURES[0]},,,,,keep",
        "line 2 says sad and line 4 keep about the same picture; leave one of them",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_is_an_error_in_a_sentence(kind: str, tmp_path: Path) -> None:
    (content, said), file = BAD[kind], tmp_path / "corrections.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError, match=said) as error:
        read_corrections(file, "rafdb")  # rows of other datasets count as well
    assert str(file) in str(error.value)


def test_same_decision_twice_and_one_picture_in_two_datasets_contradict_nothing(tmp_path: Path) -> None:
    rows = [("rafdb", PICTURES[0], "sad"), ("rafdb", PICTURES[0], "sad"), ("wild", PICTURES[0], "keep")]
    assert read_corrections(write(tmp_path / "corrections.csv", *rows), "rafdb").decided == {PICTURES[0]: "sad"}


def test_the_repository_begins_without_decisions_and_harmonize_depends_on_them() -> None:
    assert read_sheet(ROOT / "data" / "corrections.csv").columns == COLUMNS
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["harmonize"]["do"]
    assert stage["cmd"].endswith(" --corrections data/corrections.csv")
    assert "data/corrections.csv" in stage["deps"]
    ignored = subprocess.run(["git", "check-ignore", "data/corrections.csv"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == ""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the drawn RAF-DB as `download` leaves it."""
    folder = tmp_path_factory.mktemp("raw") / "rafdb"
    download("rafdb", "sample", folder, SampleParams(faces_per_class=10))
    return folder


def harmonized(raw: Path, table: Path, *decisions: tuple[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the counts and the rows of the drawn RAF-DB with decisions about the pixels of faces."""
    sheet = write(table.with_suffix(".csv"), *(("rafdb", *decision) for decision in decisions))
    labels, corrections = SOURCES["rafdb"].labels(), read_corrections(sheet, "rafdb")
    counts = harmonize("rafdb", raw, table, labels, FacesParams(), corrections=corrections)
    return counts, pq.read_table(table).to_pylist()


def test_harmonize_applies_decisions(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain, before = harmonized(raw, tmp_path / "plain.parquet")
    assert plain["corrections"] == {"relabelled": 0, "dropped": 0, "kept": 0, "undecided": 0, "unmatched": 0}
    first, second, third, fourth, fifth = before[::14]
    other = "sad" if first["label"] != "sad" else "happy"
    decisions = [(first, other), (second, "drop"), (third, "keep"), (fourth, fourth["label"]), (fifth, "")]
    told = [(face["pixel_sha256"], decision) for face, decision in decisions]
    counts, after = harmonized(raw, tmp_path / "decided.parquet", *told, (PICTURES[0], "sad"))
    assert counts["corrections"] == {"relabelled": 1, "dropped": 1, "kept": 2, "undecided": 1, "unmatched": 1}
    assert counts["dropped"] == {"a person's decision": 1}
    assert (counts["pictures"], counts["faces"], len(after)) == (70, 69, 69)
    assert counts["labels"][other] == plain["labels"][other] + 1 - (second["label"] == other)
    relabelled = {**first, "label": other, "label_id": LABEL_IDS[other], "corrected_from": first["label"]}
    assert after == [relabelled if row == first else row for row in before if row != second]
    assert f"1 of 5 decisions about labels meet no face, as that about the pixels {PICTURES[0][:12]}" in caplog.text
    assert pq.read_schema(tmp_path / "decided.parquet") == pq.read_schema(tmp_path / "plain.parquet")


def test_same_decisions_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    _, rows = harmonized(raw, tmp_path / "plain.parquet")
    decisions = [(rows[0]["pixel_sha256"], "drop"), (rows[1]["pixel_sha256"], "fear")]
    for name in ("one", "two"):
        harmonized(raw, tmp_path / name, *decisions)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_copy_of_a_picture_is_met_by_its_pixels_wherever_it_lies(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 60, 3)).astype(np.uint8)
    copy, other = ({suffix: cv2.imencode(suffix, one)[1].tobytes() for suffix in (".png", ".bmp")} for one in pixels)
    files = {"train/1/a.png": copy[".png"], "test/5/b.bmp": copy[".bmp"], "train/5/c.png": other[".png"]}
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "rafdb.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    write_json(raw / "manifest.json", {"dataset": "rafdb", "drawn": False, "file": {"name": "rafdb.zip"}})
    _, before = harmonized(raw, tmp_path / "plain.parquet")
    picture = next(row["pixel_sha256"] for row in before if row["native_path"] == "train/1/a.png")
    counts, after = harmonized(raw, tmp_path / "decided.parquet", (picture, "fear"))
    assert counts["corrections"]["relabelled"] == 2
    labels = {row["native_path"]: (row["label"], row["corrected_from"], row["native_label"]) for row in after}
    assert labels == {
        "train/1/a.png": ("fear", "surprise", "1"),
        "test/5/b.bmp": ("fear", "sad", "5"),
        "train/5/c.png": ("sad", None, "5"),
    }


def test_command_line_of_the_stage_takes_the_file(
    raw: Path, tmp_path: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params({"use": ["rafdb"]})
    _, rows = harmonized(raw, tmp_path / "plain.parquet")
    sheet = write(tmp_path / "corrections.csv", ("rafdb", rows[0]["pixel_sha256"], "drop"))
    monkeypatch.chdir(tmp_path)
    order = ("rafdb", raw, "faces.parquet", "counts.json", "--corrections", sheet)
    assert run_stage(main, *order) == 0
    assert read_json(tmp_path / "counts.json")["corrections"]["dropped"] == 1
    sheet.write_text(sheet.read_text().replace("drop", "dorp"))
    (tmp_path / "faces.parquet").unlink()
    said = run_stage(main, *order)
    assert isinstance(said, str)
    assert said.startswith(f"error: {sheet}, line 2: the decision 'dorp' is none (did you mean drop?)")
    assert not (tmp_path / "faces.parquet").exists()
