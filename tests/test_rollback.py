"""Going back to a former champion, in a real registry with real exported models."""

import shutil
from types import SimpleNamespace

import pytest
from promotions import NAME, aliases, decide
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.inference.pointer import find_model, read_pointer
from pipeline.inference.predictor import Predictor
from pipeline.registry import history, tracking
from pipeline.registry.history import read_history
from pipeline.registry.rollback import roll_back


@pytest.fixture
def two_champions(promoted_twice):
    return promoted_twice / "models" / "champion.json"


def served(pointer_file):
    pointer = read_pointer(pointer_file)
    return Predictor(find_model(pointer_file, pointer), name=pointer.name, version=pointer.version).facts["version"]


def test_the_former_champion_is_served_again_and_the_reason_kept(two_champions):
    assert served(two_champions) == "v2"
    roll_back(two_champions, "it takes children for old")
    assert served(two_champions) == "v1"
    assert aliases() == {"champion": "1", "previous": "2"}
    last = read_history(tracking.connect(), NAME)[-1]
    assert (last.kind, last.version, last.why) == ("rollback", "1", "it takes children for old")


def test_going_back_twice_does_not_bring_back_what_was_set_aside(two_champions):
    roll_back(two_champions, "it takes children for old")
    with pytest.raises(PipelineError, match=f"{NAME} has no earlier champion to go back to; --to names any version"):
        roll_back(two_champions, "it takes beards for anger")
    assert served(two_champions) == "v1"
    roll_back(two_champions, "it was the camera", to="2")
    assert served(two_champions) == "v2"
    assert aliases() == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("died_before", ["settle", "move_pointer"])
def test_one_that_was_interrupted_is_finished_and_not_turned_around(two_champions, monkeypatch, died_before):
    class KilledError(BaseException):
        pass

    def die(*_):
        raise KilledError

    calls = []

    def settle_once(*arguments):
        return history.settle(*arguments) if calls.append(1) or len(calls) == 1 else die()

    with monkeypatch.context() as patch:
        if died_before == "settle":
            patch.setattr(
                "pipeline.registry.rollback.history", SimpleNamespace(**{**vars(history), "settle": settle_once})
            )
        else:
            patch.setattr("pipeline.registry.rollback.move_pointer", die)
        with pytest.raises(KilledError):
            roll_back(two_champions, "it takes children for old")
    assert served(two_champions) == "v2"
    with pytest.raises(PipelineError, match=r"version 1 had become champion, by rollback .* now it is; run again if"):
        roll_back(two_champions, "it takes children for old")
    assert served(two_champions) == "v1"
    assert aliases() == {"champion": "1", "previous": "2"}


def test_what_was_forced_can_be_undone(two_champions):
    decide(two_champions.parents[1], "v1", "v2 takes children for old")
    assert served(two_champions) == "v1"
    roll_back(two_champions, "it did so, too")
    assert served(two_champions) == "v2"


def test_a_version_can_be_named(two_champions):
    event = roll_back(two_champions, "it takes children for old", to="1")
    assert event.version == "1"
    with pytest.raises(PipelineError, match=f"version 1 of {NAME} is the champion already"):
        roll_back(two_champions, "again", to="1")
    with pytest.raises(PipelineError, match=f"{NAME} has no version 7; `pipeline history` lists its champions"):
        roll_back(two_champions, "why not", to="7")


def test_the_first_champion_has_none_before_it(promoted):
    with pytest.raises(PipelineError, match=f"{NAME} has no earlier champion"):
        roll_back(promoted / "models" / "champion.json", "it is bad")


def test_what_can_not_be_had_changes_nothing(two_champions, store):
    folders = two_champions.parent / "registry" / NAME
    shutil.rmtree(next(folders.glob("1-*")))
    store.damage_artifacts("model.onnx")
    with pytest.raises(PipelineError, match="are gone from the registry"):
        roll_back(two_champions, "it takes children for old")
    assert aliases() == {"champion": "2", "previous": "1"}
    assert served(two_champions) == "v2"


def test_the_commands_say_what_happened(two_champions):
    run = CliRunner().invoke
    refused = run(app, ["rollback"])
    assert refused.exit_code == 1
    assert "say with --why what is wrong with the champion" in refused.output
    said = run(app, ["rollback", "--why", "it takes children for old"]).output
    assert said == "version 1 is the champion now, and version 2 was; `make repro` packages it\n"
    lines = run(app, ["history"]).output.splitlines()
    assert lines[0] == f"the champions of {NAME}:"
    assert "version 1, by promotion: there is no champion yet" in lines[1]
    assert "version 2, by promotion: 16 faces only the candidate has right" in lines[2]
    assert lines[3].endswith("version 1, by rollback: it takes children for old")


def test_only_the_gate_promotes_unless_it_is_overruled_with_a_reason(gate):
    for arguments in (["v1"], ["v1", "--force"], ["v1", "--why", "I like it"], ["--force", "--why", "I like it"]):
        said = CliRunner().invoke(app, ["promote", *arguments])
        assert said.exit_code == 1
        assert "only the gate promotes; to overrule it, name a version and give --force and --why" in said.output
