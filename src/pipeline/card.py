"""The model card (Mitchell et al. 2019) that goes with a model wherever it goes, as Markdown."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def model_card(facts: dict[str, Any]) -> str:
    """Return the card of a ready-made model.

    Args:
        facts: its `model.json`, see `pipeline.ready_made.make_ready`.
    """
    environment = Environment(  # noqa: S701  # Markdown is not escaped
        loader=PackageLoader("pipeline", "pages"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("card.md.j2").render(facts)
