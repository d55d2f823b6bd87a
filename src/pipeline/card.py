"""The model card (Mitchell et al. 2019) that goes with a model wherever it goes, as Markdown."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.recipes import Recipe

# What whoever uses a model must know of the faces that it learned from.
DATA = {
    "fer2013": "FER2013, a public challenge set of pictures from image searches; people agree with its labels on about "
    "two faces of three",
    "rafdb": "RAF-DB, for research on request: pictures from the web, labelled by some forty people each",
    "affectnet": "AffectNet, for research on request: pictures from searches for words of feeling, labelled by one "
    "person each",
    "wild": "a set of posed pictures of few people, CC BY-NC-ND 4.0",
}


def model_card(facts: dict[str, Any], recipe: Recipe) -> str:
    """Return the card of a ready-made model.

    Args:
        facts: its `model.json`, see `pipeline.ready_made.make_ready`.
        recipe: as it ran.
    """
    environment = Environment(  # noqa: S701  # Markdown is not escaped
        loader=PackageLoader("pipeline", "pages"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    data = [DATA[name] for name in recipe.data]
    return environment.get_template("card.md.j2").render({**facts, "recipe": recipe, "sources": data})
