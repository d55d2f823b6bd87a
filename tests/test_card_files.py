import logging
from pathlib import Path

import pytest
from cards import toy_card

from pipeline.cards.card import write_card
from pipeline.inference.card_files import read_card


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_card(tmp_path, card := toy_card())
    found = read_card(tmp_path, card["weights_sha256"])
    assert found is not None
    assert found.facts == card
    assert found.text.startswith("# Model card: expression-classifier, v7")
    assert found.page.startswith("<!doctype html>")


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert read_card(tmp_path, "ab" * 32) is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"weights_sha256"', '{"weights_sha256": "other"}'])
def test_another_models_or_a_damaged_one_is_not_shown(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_card(tmp_path, toy_card())
    (tmp_path / "card.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert read_card(tmp_path, "ab" * 32) is None
    assert f"the card in {tmp_path}" in caplog.text
