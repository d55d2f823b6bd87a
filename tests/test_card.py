"""The card: every section from what is known, none from what is not, and nothing in it that a reader's browser runs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cards import RECIPE, known_facts, toy_card
from markdown_it import MarkdownIt

from pipeline.cards.card import make_card, write_card
from pipeline.params import CardParams
from pipeline.recipes import Recipe

NEEDED = ("name", "version", "weights_sha256", "labels", "preprocessing", "drawn")
EVIL = "beards </script><script>alert(1)</script> | **bold** [here](javascript:alert(2)) <img src=x onerror=y>"


def written(folder: Path, card: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    write_card(folder, card)
    facts, text, page = ((folder / f"card.{kind}").read_text() for kind in ("json", "md", "html"))
    return json.loads(facts), text, page


def seen(page: str) -> str:
    """Return what a person sees of a page, or of Markdown that was rendered."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


SAID = [
    ("model", "64 x 64 pixels of one cropped face, uint8, RGB; it scales them itself"),
    ("model", "3,542,463 parameters, of which 1,000,000 learned, 94 million multiply-adds a face, 13.6 MB"),
    ("model", "yunet"),
    ("data", "16,800 training faces of fer2013, wild, on top of the weights of v3; copies of judged faces"),
    ("data", "FER2013: grey pictures of 48 pixels"),
    ("data", "posed pictures of few people, of which the faces were cut out; CC BY-NC-ND 4.0"),
    ("data", "fer2013: 4 faces taken out: copy of a test face"),
    ("data", "fer2013: 3 test faces also stand in a native training set"),
    ("trainings", "6 epochs, bf16-mixed, seed 7, 120 minutes on cpu (2 processes), at scale full"),
    ("trainings", "git commit c0ffeec0ffee, with uncommitted changes"),
    ("trainings", "Rotate limit 15"),
    ("scores", "On the 140 faces of fer2013 (validation) and wild (test), of which none was learned from"),
    ("scores", "settings were chosen on these faces"),
    ("scores", "no probability differs by more than 0.0008"),
    ("calibration", "temperature of 1.25"),
    ("calibration", "differ by 0.061 on average"),
    ("decision", "The gate let it through on 2026-11-21"),
    ("decision", "Judged on 1,662 test faces, on which 2 decisions were taken before; the champion was version 4 (v3)"),
    ("decision", "the F1 of fear falls by 0.2"),
    ("trainings", "4.0 hours of 2 devices together (cpu), which is about 0.6 kWh and 290 g of CO2 equivalents"),
    ("trainings", "150 W for a device with its share of memory, host and cooling, and 480 g for each kWh"),
    ("trainings", "What v3 cost, whose weights it started from, comes on top"),
    ("limits", "not what a person felt"),
    ("untested", "skin colour and origin"),
    ("intended", "loses nothing when it is wrong"),
    ("forbidden", "Article 5(1)(f)"),
    ("forbidden", "says nothing about anybody's health, and is no diagnosis"),
    ("licence", "Apache License 2.0"),
]


def test_the_page_and_the_markdown_say_all_that_is_known(tmp_path: Path) -> None:
    facts, text, page = written(tmp_path, toy_card())
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    for section, sentence in SAID:
        assert facts[section] is not None
        assert sentence.replace("'", "&#39;") in " ".join(seen(page).replace("&#x27;", "&#39;").split()), sentence
        assert sentence in seen(rendered), sentence


@pytest.mark.parametrize(
    "row",
    [
        ["its own datasets, one look at each face, as served", "140", *["0.600 (0.550 to 0.650)"] * 2, "0.061"],
        ["averaged over views (flip), as evaluated, not as served", "140", "0.625 (0.575 to 0.675)"],
        ["all datasets in use", "140", "0.500 (0.450 to 0.550)"],
        ["fer2013, validation", "140", "0.650 (0.600 to 0.700)", "0.650 (0.600 to 0.700)", "0.061"],
        ["fer2013, without leaked faces", "99", "0.640 (0.590 to 0.690)"],
        ["wild, without leaked faces", "0", "–", "–", "–"],
        ["fear", "0.50", "0.40", "0.44", "–", "20"],
        ["low (8 to 80.25)", "12", "0.410 (0.360 to 0.460)"],
        ["middle (80.5 to 140.5)", "140"],
        ["high (141 to 250)", "3", "0.310 (0.260 to 0.360)"],
        ["wild", "4", "0.450 (0.400 to 0.500)"],
        ["fer2013", "train", *["1,200"] * 7, "8,400"],
        ["every class", "**no**", "the F1 of fear falls by 0.2"],
        ["optimizer.lr", "0.002"],
    ],
    ids=lambda row: row[0],
)  # fmt: skip
def test_the_tables_have_their_rows(row: list[str], tmp_path: Path) -> None:
    _, text, page = written(tmp_path, toy_card())
    assert "| " + " | ".join(row) + " |" in text
    cells = [cell.split(" (")[0].strip("*") for cell in row if not re.search("flip|look|validation|leaked", cell)]
    assert all(cell in seen(page) for cell in cells)


def test_the_page_draws_the_intervals(tmp_path: Path) -> None:
    _, _, page = written(tmp_path, toy_card())
    assert "95 % interval 0.590 to 0.690, 99 faces" in page
    assert "left: 59.0%; width: 10.0%" in page


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    least = {key: value for key, value in known_facts().items() if key in NEEDED}
    facts, text, page = written(tmp_path, make_card(least, RECIPE, CardParams()))
    assert facts["trainings"][0]["footprint"] is facts["decision"] is facts["scores"]["own"] is None
    for said in (text, seen(page)):
        assert "None" not in said
        assert "training faces of fer2013, wild" in said
        for heading in ("How good it is", "Why it became champion", "What it cost", "Calibration", "faces found by"):
            assert heading not in said
        assert "Article 5(1)(f)" in said


@pytest.mark.parametrize("key", [key for key in known_facts() if key not in NEEDED])
def test_any_one_fact_may_be_missing(key: str, tmp_path: Path) -> None:
    facts = known_facts()
    if key == "device":  # the two are known together
        del facts["seconds"]
    del facts[key]
    _, text, page = written(tmp_path, make_card(facts, RECIPE, CardParams()))
    assert "None" not in text
    assert "None" not in seen(page)


def test_one_of_drawn_faces_says_so_first(tmp_path: Path) -> None:
    inventory = {"fer2013": {"drawn": True, "counts": {}}, "wild": {"drawn": False, "counts": {}}}
    facts, text, page = written(tmp_path, toy_card(drawn=True, inventory=inventory))
    for said in (text, seen(page)):
        assert said.index("nothing about real ones. It is not for use.") < said.index("64 x 64")
    assert "Not for real use" in facts["brief"]
    assert [(part["drawn"], part["terms"]) for part in facts["data"]] == [(True, None), (False, "CC BY-NC-ND 4.0")]


def test_what_people_wrote_is_shown_as_it_is_and_runs_nowhere(tmp_path: Path) -> None:
    decision = {**known_facts()["decision"], "outcome": "forced", "forced": EVIL}
    decision["checks"] = [{"rule": "compared", "passed": False, "says": f"{EVIL}\nand a second line"}]
    facts, text, page = written(tmp_path, toy_card(decision=decision, device=f"GPU {EVIL}"))
    assert facts["decision"]["forced"] == EVIL
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    for html in (page, markdown.render(text), markdown.render(facts["brief"])):
        assert not re.search(r"<script|<img|<a |<strong>bold", html)
    for html in (page, markdown.render(text)):
        assert "beards &lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; | **bold** [here](javascript" in html
    assert any(line.count(" | ") == 3 - 1 and "second line" in line.replace(r"\|", "") for line in text.splitlines())


def test_the_page_opens_without_a_network(tmp_path: Path) -> None:
    _, _, page = written(tmp_path, toy_card())
    assert page.startswith("<!doctype html>")
    assert not re.search(r"<script|<link|@import|url\(|https?:|<img", page)


def test_the_registry_gets_a_short_one() -> None:
    brief = toy_card(decision={**known_facts()["decision"], "reason": "because " * 5000})["brief"]
    assert brief.startswith("**v7** (convnext_atto): 16,800 training faces")
    assert "Macro-F1 0.600 (0.550 to 0.650), accuracy 0.600, ECE 0.061 on 140 faces" in brief
    assert len(brief) < 2000


@pytest.mark.parametrize(("kind", "said"), [({"views": 8}, "views 8"), ({"zooms": [0.95, 1]}, "zooms [0.95, 1.0]")])
def test_views_that_have_a_number_are_named_with_it(tmp_path: Path, kind: dict[str, Any], said: str) -> None:
    recipe = Recipe.model_validate(RECIPE.model_dump() | {"tta": kind})
    _, text, page = written(tmp_path, make_card(known_facts(), recipe, CardParams()))
    assert f"averaged over views ({said}), as evaluated" in text
    assert said in page
