"""The rule that makes a coarse level of the expressions of a clip."""

import pytest

from pipeline.errors import PipelineError
from pipeline.inference.screening import NOTICE, VARIABLE, Rule, load_rule, screen

RULE = Rule(least_faces=4, least_share=0.5, elevated=0.3, high=0.6)


@pytest.mark.parametrize(
    ("negative", "level"), [(0, "low"), (2, "low"), (3, "elevated"), (5, "elevated"), (6, "high"), (10, "high")]
)
def test_the_level_is_that_of_the_share_and_says_why(negative: int, level: str) -> None:
    told = screen(["sad"] * negative + ["surprise"] * (10 - negative), 10, 10, RULE)
    assert (told["level"], told["negative_share"]) == (level, negative / 10)
    assert told["reason"].startswith(f"{negative} of 10 faces")
    assert told["notice"] == NOTICE


@pytest.mark.parametrize(
    ("faces", "with_face", "frames", "reason"),
    [(0, 0, 10, "0 faces"), (3, 3, 3, "3 faces"), (4, 4, 9, "4 of 9 frames")],
)
def test_too_few_faces_have_no_level_and_say_so(faces: int, with_face: int, frames: int, reason: str) -> None:
    told = screen(["sad"] * faces, with_face, frames, RULE)
    assert told["level"] is None
    assert told["reason"].startswith("no level: ")
    assert reason in told["reason"]
    assert told["notice"] == NOTICE


def test_the_environment_changes_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"negative": ["fear"], "high": 0.5}')
    rule = load_rule()
    assert (rule.negative, rule.high, rule.elevated) == (("fear",), 0.5, Rule().elevated)
    assert screen(["fear", "sad"] * 5, 10, 10, rule)["level"] == "high"
    monkeypatch.setenv(VARIABLE, "")
    assert load_rule() == Rule()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{", "FER_SCREENING: Invalid JSON"),
        ('{"hihg": 1}', "FER_SCREENING: hihg: "),
        ('{"negative": ["grief"]}', "the labels are angry, "),
        ('{"elevated": 0.7}', r"elevated \(0.7\) must not be above high \(0.6\)"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(value: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(PipelineError, match=sentence):
        load_rule()
