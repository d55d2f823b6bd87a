"""What the ML Test Score claims can be looked up, and adds up."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCORE = (ROOT / "docs" / "ml-test-score.md").read_text(encoding="utf-8")


def points(section):
    """Return the points of a section's seven tests."""
    rows = re.findall(r"^\| (\d)\. .+? \| ([\d.]+) \| ", section, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 8))
    return [float(given) for _, given in rows]


def test_the_ml_test_score_is_that_of_its_weakest_section():
    sections = {part.split("\n")[0].lower(): points(part) for part in SCORE.split("\n## ")[1:]}
    assert {given for part in sections.values() for given in part} <= {0, 0.5, 1}
    told = {name: float(given) for name, given in re.findall(r"^\| ([a-z]+) \| ([\d.]+) \|$", SCORE, re.MULTILINE)}
    assert told == {name: sum(part) for name, part in sections.items()}
    assert f"| **score (the lowest)** | **{min(told.values()):g}** |" in SCORE


def test_every_file_that_is_named_as_evidence_exists():
    named = re.findall(r"`((?:tests|src)/[\w./]+)`", SCORE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
