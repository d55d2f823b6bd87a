import csv

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tables import write_tables
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.datasets.corrections import COLUMNS, read_corrections, read_sheet
from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.evaluation.review import review_labels
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe

PLANTED = {"angry": "sad", "happy": "neutral", "fear": "surprise"}  # a test face of each label that is another one


@pytest.fixture
def answers(tmp_path):
    """Return what a version answers that knows the faces of a small dataset, of which three are labelled wrongly."""
    counts = {"train": 1, "validation": 10, "test": 10}
    folder, splits = write_tables(tmp_path, ("fer2013", "rafdb"), counts=counts)
    for name in ("fer2013", "rafdb"):
        _change(
            folder / f"{name}.parquet", lambda face: {"pixel_sha256": face["face_id"].encode().hex().zfill(64)[-64:]}
        )
    rows = [read_split(folder, splits, "fer2013", split).assign(split=split) for split in ("validation", "test")]
    faces = pd.concat(rows, ignore_index=True)
    truth = faces.label_id.to_numpy(copy=True)
    for number, (given, true) in enumerate(PLANTED.items()):
        truth[faces.face_id == f"fer2013-test-{given}-5"] = LABELS.index(true)
        sureness = 0.95 - 0.05 * number
        faces.loc[faces.face_id == f"fer2013-test-{given}-5", "sureness"] = sureness
    sure = faces.sureness.fillna(0.75).to_numpy()[:, None]
    probabilities = np.where(np.arange(7) == truth[:, None], sure, (1 - sure) / 6)
    return folder, faces.assign(probabilities=list(probabilities.astype(np.float32)))


def _change(file, values):
    """Change values of the faces in a table."""
    table = pq.read_table(file)
    rows = [{**face, **values(face)} for face in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), file)


def review(answers, sheet, most=100):
    return review_labels("v1", answers[1], answers[0], most, sheet)


def decide(sheet, **decisions):
    """Fill in decisions, by the label that a face has."""
    with sheet.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "note"])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "decision": decisions.get(row["label"], row["decision"]), "note": ""})


def listed(sheet):
    return [(row["label"], row["suggested"], row["decision"]) for row in read_sheet(sheet).rows.values()]


def test_planted_errors_are_listed_with_all_that_harmonize_needs(answers, tmp_path):
    assert review(answers, tmp_path / "sheet.csv") == (140, 3, 0, 3)
    sheet = read_sheet(tmp_path / "sheet.csv")
    assert sheet.columns == COLUMNS
    assert listed(tmp_path / "sheet.csv") == [(given, true, "") for given, true in PLANTED.items()]
    first = sheet.rows[2]
    assert first["face_id"] == "fer2013-test-angry-5"
    assert float(first["quality"]) == pytest.approx((0.05 / 6 - 0.95 + 1) / 2, abs=1e-4)
    assert first["pixel_sha256"] in pq.read_table(answers[0] / "fer2013.parquet")["pixel_sha256"].to_pylist()


def test_a_second_run_changes_nothing_and_no_decision_is_ever_lost(answers, tmp_path):
    sheet = tmp_path / "sheet.csv"
    review(answers, sheet)
    before = sheet.read_bytes()
    review(answers, sheet)
    assert sheet.read_bytes() == before
    decide(sheet, happy="neutral", fear="KEEP")
    assert review(answers, sheet) == (140, 3, 2, 1)
    decided = [("happy", "neutral", "neutral"), ("fear", "surprise", "keep")]
    assert listed(sheet) == [*decided, ("angry", "sad", "")]
    review((answers[0], answers[1][answers[1].split == "validation"]), sheet)  # nothing is doubted there
    assert listed(sheet) == decided
    assert len(read_corrections(sheet, "fer2013").decided) == 2


def test_what_a_person_wrote_into_columns_of_their_own_stays(answers, tmp_path):
    sheet = tmp_path / "sheet.csv"
    review(answers, sheet)
    decide(sheet)
    sheet.write_text(sheet.read_text().rstrip("\r\n") + "ask Ada\n")  # into the last row
    review(answers, sheet, most=1)
    notes = [(row["label"], row["note"]) for row in read_sheet(sheet).rows.values()]
    assert notes == [("fear", "ask Ada"), ("angry", "")]


def test_those_that_wait_for_a_decision_are_as_many_as_asked_for(answers, tmp_path):
    sheet = tmp_path / "sheet.csv"
    assert review(answers, sheet, most=2) == (140, 3, 0, 2)
    decide(sheet, angry="drop", happy="keep")
    assert review(answers, sheet, most=2) == (140, 3, 2, 1)


def test_a_picture_is_listed_once_however_many_copies_it_has(answers, tmp_path):
    copies = ("fer2013-test-angry-5", "fer2013-test-happy-5")
    _change(
        answers[0] / "fer2013.parquet", lambda face: {"pixel_sha256": 64 * "a"} if face["face_id"] in copies else {}
    )
    assert review(answers, tmp_path / "sheet.csv") == (140, 2, 0, 2)
    assert [row[0] for row in listed(tmp_path / "sheet.csv")] == ["angry", "fear"]


def test_labels_count_as_they_are_now(answers, tmp_path):
    corrected = {"label": "sad", "label_id": LABELS.index("sad")}
    _change(answers[0] / "fer2013.parquet", lambda face: corrected if face["face_id"].endswith("test-angry-5") else {})
    review(answers, tmp_path / "sheet.csv")
    assert [row[0] for row in listed(tmp_path / "sheet.csv")] == ["happy", "fear"]


def test_the_picture_shows_the_faces_that_wait(answers, tmp_path):
    sheet = tmp_path / "sheet.csv"
    review(answers, sheet)
    three = cv2.imread(str(sheet.with_suffix(".png")))
    decide(sheet, angry="keep", happy="keep")
    review(answers, sheet)
    one = cv2.imread(str(sheet.with_suffix(".png")))
    dark = [(picture[150:].max(2) < 200).sum() for picture in (one, three)]  # below the headings
    assert three.shape == one.shape
    assert dark[0] < 0.6 * dark[1]


def test_a_sheet_that_can_not_be_understood_is_left_as_it_is(answers, tmp_path):
    sheet = tmp_path / "sheet.csv"
    review(answers, sheet)
    decide(sheet, happy="hapy")
    before = sheet.read_bytes()
    with pytest.raises(PipelineError, match=r"line 3: the decision 'hapy' is none \(did you mean happy\?\)"):
        review(answers, sheet)
    assert sheet.read_bytes() == before


def test_a_sheet_with_the_name_of_a_picture_is_refused(answers, tmp_path):
    with pytest.raises(PipelineError, match=r"sheet\.png is where the picture goes"):
        review(answers, tmp_path / "sheet.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.assign(probabilities=[[0.5, 0.5]] * len(rows)), "v1 does not tell the seven labels apart"),
        (lambda rows: rows.assign(face_id="gone"), "v1 answered no face that .*faces has; run `dvc repro evaluate@v1`"),
        (lambda rows: rows.head(0), "v1 answered no face that"),
    ],
    ids=["other classes", "other faces", "no face"],
)
def test_answers_that_say_nothing_about_the_faces_are_refused(answers, tmp_path, change, said):
    with pytest.raises(PipelineError, match=said):
        review_labels("v1", change(answers[1]), answers[0], 100, tmp_path / "sheet.csv")
    assert not (tmp_path / "sheet.csv").exists()


def test_command_lists_what_the_version_doubts_of_its_own_datasets(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(data=("fer2013",), backbone="test_resnet", pretrained=False)
    facts = {"version": "v1", "scale": "sample", "start_from": None}
    save_checkpoint(tmp_path / "models" / "v1", ExpressionNetwork(recipe, pretrained=False), recipe, facts)
    elsewhere = answers[1].assign(dataset="rafdb", face_id=answers[1].face_id.str.replace("fer2013", "rafdb"))
    (tmp_path / "predictions").mkdir()
    pd.concat([answers[1], elsewhere]).to_parquet(tmp_path / "predictions" / "v1.parquet")
    done = CliRunner().invoke(app, ["label-errors", "v1", "--most", "2"])
    assert done.output.startswith("of 140 faces, v1 doubts the labels of 3; 2 stand in data/corrections.csv without a")
    assert [row["dataset"] for row in read_sheet(tmp_path / "data" / "corrections.csv").rows.values()] == [
        "fer2013"
    ] * 2
    assert (tmp_path / "data" / "corrections.png").exists()
    done = CliRunner().invoke(app, ["label-errors", "v9"])
    assert (done.exit_code, done.output) == (
        1,
        "error: predictions/v9.parquet is missing or damaged; run `dvc repro evaluate@v9`\n",
    )
