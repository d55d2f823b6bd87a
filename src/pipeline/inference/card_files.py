"""The three files of a model's card, which lie beside its exported file: for programs, for people, and for pages."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json

log = logging.getLogger(__name__)

FACTS_FILE, TEXT_FILE, PAGE_FILE = "card.json", "card.md", "card.html"
CARD_FILES = (FACTS_FILE, TEXT_FILE, PAGE_FILE)


@dataclass(frozen=True)
class Card:
    """A card: its facts, the same as Markdown and as an HTML page."""

    facts: dict[str, Any]
    text: str
    page: str


def read_card(folder: Path, weights_sha256: str | None) -> Card | None:
    """Return the card in a model's folder; None if there is none, or none of these weights.

    Args:
        folder: where the exported model lies.
        weights_sha256: what the model says about itself.
    """
    try:
        facts = read_json(folder / FACTS_FILE)
        card = Card(facts, *((folder / name).read_text(encoding="utf-8") for name in (TEXT_FILE, PAGE_FILE)))
        mine = facts["weights_sha256"] == weights_sha256
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:  # a damaged card is no reason not to serve the model
        log.warning("the card in %s can not be read: %s", folder, error)
        return None
    if not mine:
        log.warning("the card in %s is another model's, and is not shown", folder)
    return card if mine else None
