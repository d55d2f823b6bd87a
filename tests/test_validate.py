import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run_stage

from pipeline.datasets.quality import look_at
from pipeline.datasets.tables import SCHEMA
from pipeline.errors import PipelineError
from pipeline.files import read_json, write_json
from pipeline.labels import LABELS
from pipeline.params import SplitParams, ValidateParams
from pipeline.sources import SOURCES
from pipeline.stages.report import write_data_page
from pipeline.stages.split import split
from pipeline.stages.validate import main, validate
from pipeline.vision.transforms import encode

PARAMS = ValidateParams(minimum_train_faces_per_class=4, minimum_side=48)
MAPS = {"fer2013": SOURCES["fer2013"].labels()}
OUTPUTS = [Path(name) for name in ("faces", "splits.parquet", "harmonized", "validation.json", "data.html")]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def sound() -> Tables:
    """Return faces and splits without fault: of each label four to train, one to validate and one to test."""
    rows = []
    for label_id, label in enumerate(LABELS):
        for number, native_split in enumerate(["train"] * 4 + ["validation", "test"]):
            stripes = np.where(np.arange(48) % 8 < 4, 60, 120 + 15 * label_id + number).astype(np.uint8)
            image = encode(np.broadcast_to(stripes[:, None], (48, 48, 3)))
            rows.append(
                {
                    "face_id": f"{label}-{number}",
                    "image": image,
                    "label": label,
                    "label_id": label_id,
                    "dataset": "fer2013",
                    "native_split": native_split,
                    "native_label": label,
                    "corrected_from": None,
                    "person": None,
                    "pixel_sha256": hashlib.sha256(image).hexdigest(),
                    "phash": None,
                    "face_score": 1.0,
                    "width": 48,
                    "height": 48,
                    "box": [0, 0, 48, 48],
                }
            )
    faces = pd.DataFrame(rows)
    return faces, split(faces, SplitParams())


def failed(faces: pd.DataFrame, splits: pd.DataFrame, params: ValidateParams = PARAMS) -> dict[str, dict[str, Any]]:
    """Return what does not hold, by expectation."""
    return {entry["expectation"]: entry for entry in validate(look_at(faces), splits, params, MAPS) if not entry["met"]}


def change_face(column: str, value: Any) -> Callable[[Tables], Tables]:
    def damage(tables: Tables) -> Tables:
        faces, splits = tables
        faces[column] = faces[column].astype(object)
        faces.at[3, column] = value
        return faces, splits

    return damage


def change_split(column: str, value: Any) -> Callable[[Tables], Tables]:
    def damage(tables: Tables) -> Tables:
        tables[1].loc[3, column] = value
        return tables

    return damage


def twice(tables: Tables) -> Tables:
    return pd.concat([tables[0], tables[0].iloc[[3]]], ignore_index=True), tables[1]


def group_in_two_splits(tables: Tables) -> Tables:
    faces, splits = tables
    splits.loc[3, "group"] = splits.group[5]  # a training face, and a test face
    return faces, splits


# What is damaged, the expectation that must say so, and the rows that it must name; angry-3 is the fourth row.
DAMAGE: dict[str, tuple[Callable[[Tables], Tables], str, list[str]]] = {
    "null label": (change_face("label", None), "label: .*not be null", ["angry-3"]),
    "unknown label": (change_face("label", "joy"), "label: .*in set", ["angry-3"]),
    "label and id": (change_face("label_id", 5), "label, label_id", ["angry-3"]),
    "face_id twice": (twice, "face_id: .*unique", ["angry-3", "angry-3"]),
    "group in two splits": (group_in_two_splits, "two splits", ["angry-3", "angry-5"]),
    "native label of another class": (change_face("native_label", "sad"), "native to common", ["angry-3"]),
    "native label that is unknown": (change_face("native_label", "joy"), "native to common", ["angry-3"]),
    "unknown native split": (change_face("native_split", "dev"), "native_split", ["angry-3"]),
    "no such hash": (change_face("pixel_sha256", "x" * 64), "pixel_sha256: .*regex", ["angry-3"]),
    "score above one": (change_face("face_score", 1.5), "face_score: .*between", ["angry-3"]),
    "no hash": (change_face("pixel_sha256", None), "pixel_sha256: .*null", ["angry-3"]),
    "empty image": (change_face("image", b""), "image", ["angry-3"]),
    "null image": (change_face("image", None), "image", ["angry-3"]),
    "split of a face that is nowhere": (
        lambda tables: (tables[0].drop(3), tables[1]),
        "nothing was split but",
        ["angry-3"],
    ),
    "face without a split": (lambda tables: (tables[0], tables[1].drop(3)), "split: .*null", ["angry-3"]),
    "unknown split": (change_split("split", "dev"), "split: .*in set", ["angry-3"]),
    "class without training faces": (
        lambda tables: (tables[0][~tables[0].face_id.str.match("fear-[0-3]")], tables[1]),
        "has training faces",
        ["fer2013: fear"],
    ),
}


def test_sound_tables_pass() -> None:
    assert failed(*sound()) == {}


def test_a_face_that_a_person_relabelled_keeps_its_native_label() -> None:
    (faces, splits), params = sound(), ValidateParams(minimum_train_faces_per_class=3, minimum_side=48)
    faces.loc[3, ["label", "label_id", "corrected_from"]] = "sad", LABELS.index("sad"), "angry"
    assert failed(faces, splits, params) == {}
    faces.loc[3, "corrected_from"] = "fear"  # which `angry` never meant
    (entry,) = failed(faces, splits, params).values()
    assert (entry["expectation"], entry["rows"]) == ("native to common label", ["angry-3"])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_critical_failure_that_names_the_rows(kind: str) -> None:
    damage, expectation, rows = DAMAGE[kind]
    found = failed(*damage(sound()))
    (entry,) = [entry for name, entry in found.items() if re.search(expectation, name)]
    assert entry["severity"] == "critical"
    assert (entry["failed"], entry["rows"]) == (len(rows), rows)


@pytest.mark.parametrize(
    ("params", "row"),
    [
        (ValidateParams(minimum_train_faces_per_class=5), "fer2013: happy"),
        (ValidateParams(minimum_train_faces_per_class=4, minimum_side=49), "happy-0"),
    ],
    ids=["few faces", "small faces"],
)
def test_too_little_is_a_warning(params: ValidateParams, row: str) -> None:
    found = failed(*sound(), params)
    assert {entry["severity"] for entry in found.values()} == {"warning"}
    assert all(row in entry["rows"] or entry["failed"] > 10 for entry in found.values())
    assert found


@pytest.mark.parametrize(
    ("grey", "expectations"),
    [
        (0, {"faces are neither dark nor glaring", "faces are neither blurred nor blank"}),
        (250, {"faces are neither dark nor glaring", "faces are neither blurred nor blank"}),
        (128, {"faces are neither blurred nor blank"}),
    ],
)
def test_a_blank_face_is_a_warning_that_names_it(grey: int, expectations: set[str]) -> None:
    blank = encode(np.full((48, 48, 3), grey, np.uint8))
    found = failed(*change_face("image", blank)(sound()))
    assert set(found) == expectations
    assert {(entry["severity"], *entry["rows"]) for entry in found.values()} == {("warning", "angry-3")}


def test_only_the_first_ten_rows_are_named() -> None:
    faces, splits = sound()
    (entry,) = failed(faces.assign(native_split="dev"), splits).values()
    assert (entry["failed"], len(entry["rows"])) == (42, 10)


@pytest.fixture
def place(tmp_path: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with params for one dataset, as the working directory."""
    write_params({"use": ["fer2013"], "validate.minimum_train_faces_per_class": 4})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_tables(folder: Path, tables: Tables) -> None:
    (folder / "faces").mkdir()
    faces = pa.Table.from_pandas(tables[0].reindex(columns=SCHEMA.names), SCHEMA, preserve_index=False)
    pq.write_table(faces, folder / "faces" / "fer2013.parquet")
    tables[1].to_parquet(folder / "splits.parquet")
    counts = {"dropped": {"unreadable": 1234}, "corrections": {"relabelled": 56}}
    write_json(folder / "harmonized" / "fer2013.json", counts)


def render(folder: Path) -> str:
    """Render the page as the stage `report` does, and return it."""
    faces, splits, harmonized, result, page = OUTPUTS
    write_data_page(["fer2013"], faces, splits, result, harmonized, page)
    return (folder / page).read_text()


def test_page_opens_without_a_network_and_shows_what_was_dropped(place: Path) -> None:
    write_tables(place, sound())
    main(*OUTPUTS)
    assert not (place / "data.html").exists()
    page = render(place)
    assert "http://" not in page
    assert "https://" not in page
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'>) ]*)""", page)
    assert len(sources) == 42  # every toy face is shown
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "passed" in page
    assert "1,234 pictures dropped: unreadable" in page
    assert "56 faces have another label by a person" in page
    checked = read_json(place / "validation.json")
    assert (checked["passed"], checked["failures"], checked["warnings"]) == (True, [], [])


def test_page_shows_pairs_whose_pixels_differ(place: Path) -> None:
    faces, splits = sound()
    for number in range(14):  # pairs of training faces of a label
        splits.loc[3 * number + 1, "group"] = splits.group[3 * number]
    for number in range(0, 42, 3):
        splits.loc[number : number + 2, "split"] = "train"
    write_tables(place, (faces, splits))
    with suppress(PipelineError):  # there are no test faces now
        main(*OUTPUTS)
    page = render(place)
    assert "28 faces show 14 pictures" in page
    pairs = page.split("Copies that are not alike in every pixel")[1].split("<h2>")[0]
    assert "14 of these pictures" in pairs
    assert pairs.count("<figure>") == pairs.count("<img src=") == 20


def test_command_line_stops_on_damage_with_the_rows_named(place: Path) -> None:
    write_tables(place, change_face("label_id", 5)(sound()))
    said = run_stage(main, *OUTPUTS)
    assert isinstance(said, str)
    assert said.startswith("error: ")
    assert "\n" not in said
    assert "label, label_id" in said
    assert "angry-3" in said
    page = (place / "data.html").read_text()
    assert "angry-3" in page
    assert 'Data validation: <span class="critical">failed' in page
    (failure,) = read_json(place / "validation.json")["failures"]
    assert failure["rows"] == ["angry-3"]


@pytest.mark.parametrize("content", [None, b"PAR1 cut off", "other columns"])
def test_table_of_splits_that_is_none_is_named(content: bytes | str | None, place: Path) -> None:
    write_tables(place, sound())
    (place / "splits.parquet").unlink()
    if isinstance(content, str):
        pd.DataFrame({"one": [1]}).to_parquet(place / "splits.parquet")
    elif content:
        (place / "splits.parquet").write_bytes(content)
    with pytest.raises(PipelineError, match=r"splits\.parquet is missing or damaged .*; run `dvc repro split`"):
        main(*OUTPUTS)


@pytest.mark.parametrize("content", [None, "", '{"dropped": {'], ids=["missing", "empty", "cut off"])
def test_counts_that_can_not_be_read_are_named_with_the_command_that_makes_them(
    content: str | None, place: Path
) -> None:
    write_tables(place, sound())
    main(*OUTPUTS)
    counts = place / "harmonized" / "fer2013.json"
    counts.unlink()
    if content is not None:
        counts.write_text(content)
    with pytest.raises(
        PipelineError, match=r"fer2013\.json is missing or damaged .*; run `dvc repro harmonize@fer2013"
    ):
        render(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda faces: faces.drop_columns("label_id"),
        lambda faces: faces.set_column(3, "label_id", faces["label_id"].cast("int64")),
    ],
    ids=["missing", "other type"],
)
def test_table_with_other_columns_is_refused_by_name(change: Callable[[pa.Table], pa.Table], place: Path) -> None:
    write_tables(place, sound())
    table = place / "faces" / "fer2013.parquet"
    pq.write_table(change(pq.read_table(table)), table)
    with pytest.raises(PipelineError, match=r"columns of `harmonize`, with their types \(fer2013: label_id\)"):
        main(*OUTPUTS)


@pytest.mark.parametrize("image", [b"", None, b"a text"], ids=["empty", "null", "text"])
def test_damaged_image_is_reported_too(image: bytes | None, place: Path) -> None:
    write_tables(place, change_face("image", image)(sound()))
    with pytest.raises(PipelineError, match="angry-3"):
        main(*OUTPUTS)


def test_names_from_the_data_are_no_markup_on_the_page(place: Path) -> None:
    write_tables(place, change_face("face_id", "<script>alert(1)</script>")(sound()))
    with pytest.raises(PipelineError):
        main(*OUTPUTS)
    assert "<script" not in (place / "data.html").read_text()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_table_that_is_cut_off_is_named(share: float, place: Path) -> None:
    write_tables(place, sound())
    table = place / "faces" / "fer2013.parquet"
    table.write_bytes(table.read_bytes()[: int(share * table.stat().st_size)])
    with pytest.raises(PipelineError, match=r"fer2013\.parquet is missing or damaged"):
        main(*OUTPUTS)
