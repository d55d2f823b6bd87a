"""Asking about many pictures, by the command and with a real exported model."""

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from films import film, portraits
from toys import encoded, picture, toy_model
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cli.asking import Asked, as_table, describe, find_files
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.labels import LABELS
from pipeline.vision.transforms import decode


@pytest.fixture
def album(tmp_path, monkeypatch):
    """Return a folder with three pictures, one of which is broken, beside a model to serve."""
    model = toy_model(tmp_path / "models" / "3.onnx")
    write_pointer(
        tmp_path / "models" / "champion.json", Pointer("expression-classifier", "3", "3.onnx", sha256_of(model))
    )
    (tmp_path / "album" / "deep").mkdir(parents=True)
    (tmp_path / "album" / "one.jpg").write_bytes(encoded(".jpg", picture(seed=1)))
    (tmp_path / "album" / "deep" / "one.PNG").write_bytes(encoded(".png", picture(seed=2)))
    (tmp_path / "album" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "album" / "notes.txt").write_text("passed over")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "album"


def predict(*arguments):
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    return result.exit_code, result.output


def test_every_picture_of_a_folder_is_told_and_a_broken_one_at_the_end(album):
    code, text = predict(album, "--no-detect")
    assert code == 1
    lines = text.splitlines()
    assert lines[0].split() == ["file", "face", "emotion", "confidence", "note"]
    assert [line.split()[0] for line in lines[1:4]] == [
        str(album / name) for name in ("broken.jpg", "deep/one.PNG", "one.jpg")
    ]
    assert all(line.split()[2] in LABELS for line in lines[2:4])
    assert lines[-1].startswith(f"error: 1 of 3 pictures have no answer: {album}/broken.jpg: ")


def test_csv_and_json_have_all_probabilities(album, tmp_path):
    code, text = predict(album / "one.jpg", "--no-detect", "--format", "csv")
    assert code == 0
    (row,) = pd.read_csv(StringIO(text)).to_dict("records")
    assert sum(row[label] for label in LABELS) == pytest.approx(1, abs=1e-5)
    assert row[row["emotion"]] == row["confidence"]
    assert (row["x"], row["y"], row["width"], row["height"]) == (0, 0, 100, 120)
    code, text = predict(album / "one.jpg", "--no-detect", "--format", "json", "--to", tmp_path / "answers.json")
    assert (code, text) == (0, "")
    (answer,) = json.loads((tmp_path / "answers.json").read_text())
    assert answer["file"] == str(album / "one.jpg")
    assert answer["faces"][0]["emotion"] == row["emotion"]


def test_as_many_labels_as_are_wanted_are_told_and_the_mean_over_mirror_images(album):
    code, text = predict(album / "one.jpg", "--no-detect", "--tta", "--top", "2")
    assert (code, text.splitlines()[0].split()) == (0, ["file", "face", "emotion", "confidence", "top", "note"])
    (answer,) = json.loads(predict(album / "one.jpg", "--no-detect", "--tta", "--top", "2", "--format", "json")[1])
    first, second = answer["faces"][0]["top"]
    assert text.splitlines()[1].split()[2:] == [
        *(first[0], f"{first[1]:.2f}"),
        *(first[0], f"{first[1]:.2f},", second[0], f"{second[1]:.2f}"),
    ]
    (alone,) = json.loads(predict(album / "one.jpg", "--no-detect", "--format", "json")[1])
    assert answer["faces"][0]["probabilities"] != alone["faces"][0]["probabilities"]
    assert predict(album / "one.jpg", "--top", "8")[0] == 2


def test_pictures_with_boxes_have_the_same_places_and_names(album, tmp_path):
    predict(album, "--no-detect", "--annotate", tmp_path / "drawn")
    drawn = tmp_path / "drawn"
    assert {file.relative_to(drawn) for file in drawn.rglob("*.png")} == {Path("one.jpg.png"), Path("deep/one.PNG.png")}
    before, after = (decode(file.read_bytes()) for file in (album / "one.jpg", drawn / "one.jpg.png"))
    assert before.shape == after.shape
    assert (before != after).any()


def test_a_video_among_the_pictures_is_told_by_person_whatever_its_name(album, tmp_path):
    (album / "clip.jpg").write_bytes(film(portraits(20)))
    (album / "cut.webm").write_bytes(film(portraits(20), ".webm")[:-1])
    code, text = predict(album, "--no-detect", "--format", "csv", "--annotate", tmp_path / "drawn")
    assert code == 1
    assert "2 of 5 pictures have no answer" in text
    table = pd.read_csv(StringIO(text.partition("error: ")[0])).set_index("file")
    row = table.loc[str(album / "clip.jpg")]
    assert (row["face"], row["note"]) == (1, "4 frames, 0.0 to 1.5 s")
    assert row[row["emotion"]] == row["confidence"]
    assert pd.isna(row["x"])
    assert table.loc[str(album / "cut.webm")].note == "the video is damaged or cut off"
    code, text = predict(album / "clip.jpg", "--no-detect", "--format", "json")
    assert (code, len(json.loads(text)[0]["tracks"][0]["timeline"])) == (0, 4)


def test_no_face_is_a_row_that_says_so():
    table = as_table([Asked(Path("a.jpg"), {"faces": [], "note": "..."}), Asked(Path("b.jpg"), None, "it is broken")])
    assert table.note.tolist() == ["no face", "it is broken"]
    assert table.emotion.isna().all()
    assert describe(table).splitlines()[1].split() == ["a.jpg", "no", "face"]


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(PipelineError, match="there is no .*nowhere"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(PipelineError, match=r"no picture or video was found; a folder's are those that end in \.bmp"):
        find_files([tmp_path])
