import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.files import write_json
from pipeline.inference.pointer import Pointer, write_pointer

ROOT = Path(__file__).parents[1]
PIPELINE = str(Path(sys.executable).with_name("pipeline"))
Write = Callable[..., Path]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def error(*command: str | Path, cwd: Path) -> str:
    """Return the one sentence of a command that fails."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()  # no traceback, and no other noise
    assert line.startswith("error: ")
    return line


def test_help_lists_the_commands() -> None:
    done = run(PIPELINE, "--help")
    assert done.returncode == 0
    for command in ("check", "repro", "champion", "label-errors", "sweep"):
        assert command in done.stdout


def test_params_of_the_repository_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["check"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "params.yaml is sound\n", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can not be read"),
        ("use: [fer2013\n", "no YAML"),
        ("run: [v1]\nrecipes: {}\nscal: full\n", "scal is not a known key (did you mean scale?)"),
        ("run: [v1]\nrecipes: {}\nuse: []\n", "use: "),
    ],
    ids=["missing", "no YAML", "unknown key", "nothing in use"],
)
def test_bad_file_is_one_sentence_and_exit_code_1(content: str | None, words: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "bad.yaml").write_text(content)
    said = error(PIPELINE, "check", "--params", "bad.yaml", cwd=tmp_path)
    assert "bad.yaml" in said
    assert words in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": ["v1", "v99"]}, ["'v99'", "v1, v2"]),
        ({"use": ["rafdb"], "run": ["v1"]}, ["recipes.v1.data", "fer2013", "`use`"]),
        ({"datasets.rafdb.from": "nix/rafdb.zip"}, ["datasets.rafdb.from: there is nothing at nix/rafdb.zip"]),
        ({"datasets.rafdb.from": "Sample"}, ["there is nothing at Sample (did you mean sample?)"]),
        ({"datasets.rafdb.from": "kagle"}, ["there is nothing at kagle (did you mean kaggle?)"]),
        ({"faces.yunet": "Fetch"}, ["faces.yunet: there is no file Fetch (did you mean fetch?)"]),
        ({"recipes.v3.backbone": "convnext_giant"}, ["recipes.v3", "'convnext_giant'"]),
        ({"recipes.v2.augment": [{"HorizontalFlip": {"chance": 0.5}}]}, ["recipes.v2", "HorizontalFlip", "chance"]),
    ],
    ids=[
        "unknown version",
        "dataset not in use",
        "missing source",
        "word with a capital",
        "word with a letter less",
        "detector's word with a capital",
        "unknown backbone",
        "argument of an augmentation",
    ],
)
def test_check_looks_at_what_is_chosen(
    changes: dict[str, Any], words: list[str], write_params: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_params({"scale": "full", **changes}).parent)
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert "\n" not in done.output.strip()
    for word in words:
        assert word in done.output


@pytest.mark.parametrize("wrong", [{"backbone": "convnext_tinny.fb_in22k"}, {"backbone_args": {"nonsense": 3}}])
def test_check_at_sample_tells_what_would_fail_at_full(
    wrong: dict[str, Any], write_params: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"data": ["fer2013"], "backbone": "convnext_tiny.fb_in22k", **wrong}
    monkeypatch.chdir(write_params({"run": ["mine"], "recipes.mine": recipe, "use": ["fer2013"]}).parent)
    done = CliRunner().invoke(app, ["check"])
    assert (done.exit_code, done.output.split(": ")[:2]) == (1, ["error", "recipes.mine"])


def test_check_of_a_missing_source_is_one_sentence_and_exit_code_1(write_params: Write) -> None:
    folder = write_params({"use": ["fer2013"], "run": ["v1"], "datasets.fer2013.from": "nix.csv"}).parent
    assert error(PIPELINE, "check", cwd=folder) == "error: datasets.fer2013.from: there is nothing at nix.csv"


def test_check_refuses_a_source_that_lies_where_downloads_go(
    write_params: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_params({"datasets.fer2013.from": "data/raw/fer2013"}).parent
    (folder / "data" / "raw" / "fer2013").mkdir(parents=True)
    monkeypatch.chdir(folder)
    said = CliRunner().invoke(app, ["check"]).output
    assert said == "error: datasets.fer2013.from: data/raw/fer2013 lies in data/raw, which is emptied; move it\n"


def test_check_looks_at_no_source_that_is_not_in_use(write_params: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_params({"use": ["fer2013"], "run": ["v1"], "datasets.wild.from": "nix.zip"}).parent)
    assert CliRunner().invoke(app, ["check"]).exit_code == 0


def test_repro_looks_at_decisions_about_labels_before_anything_runs(write_params: Write) -> None:
    folder = write_params({"use": ["fer2013"], "run": ["v1"]}).parent
    assert "data/corrections.csv is missing; `git checkout" in error(PIPELINE, "repro", cwd=folder)


def test_champion_before_any_run_says_what_to_do(tmp_path: Path) -> None:
    assert "run `make repro` first" in error(PIPELINE, "champion", cwd=tmp_path)


@pytest.mark.parametrize(
    ("live", "packaged", "said"),
    [
        ("1", "1", "expression-classifier version 1 (recipe v2), macro-F1 0.500 on the test faces; Bento service:a"),
        ("1", "2", "expression-classifier version 1 (recipe v2), macro-F1 0.500 on the test faces; its Bento is out of "
                   "date, run `make repro`"),
        ("3", "3", "expression-classifier version 3; Bento service:a"),  # all that runs now is drawn
    ],
)  # fmt: skip
def test_the_champion_that_is_named_is_the_one_that_is_served(
    live: str, packaged: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "expression-classifier"
    decided = [{"model": name, "champion": {"version": "1", "recipe": "v2", "macro_f1": 0.5}}]
    write_json(tmp_path / "metrics" / "promotion.json", {"decisions": decided})
    write_json(tmp_path / "metrics" / "package.json", {"model": name, "version": packaged, "bento": "service:a"})
    write_pointer(tmp_path / "models" / "champion.json", Pointer(name, live, "model.onnx", "0" * 64))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["champion"]).output == f"champion: {said}\n"


def test_stage_says_one_sentence_and_leaves_nothing(write_params: Write) -> None:
    folder = write_params({"datasets.fer2013.from": "nix.zip"}).parent
    said = error(sys.executable, "-m", "pipeline.stages.download", "fer2013", "raw/fer2013", cwd=folder)
    assert "datasets.fer2013.from: there is nothing at nix.zip" in said
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "params.yaml"]
    assert list((folder / "raw").iterdir()) == []
