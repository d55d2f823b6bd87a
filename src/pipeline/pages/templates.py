"""The templates in `pages`, filled in: Markdown, and HTML pages that open without a network."""

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

SYNTAX = re.compile(r"[\\`*<>|&]|\](?=[(\[])|\b_|_\b")  # what Markdown takes for more than letters
MINUTE, HOUR = 60, 3600


def render_markdown(template: str, /, **facts: Any) -> str:
    """Fill in a template of Markdown; all texts among the facts, and in them, are shown as they are, on one line."""
    return _environment(html=False).get_template(template).render(plain(facts))


def render_page(template: str, /, **facts: Any) -> str:
    """Fill in a template of HTML, with everything escaped."""
    return _environment(html=True).get_template(template).render(facts)


def plain(value: Any) -> Any:
    """Return a text as one line of Markdown that shows it as it is; of a list or a mapping, all that is in it."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return SYNTAX.sub(r"\\\g<0>", " ".join(value.split())) if isinstance(value, str) else value


def rough(value: float) -> str:
    """Return an estimate with the two digits that it may claim."""
    return f"{float(f'{value:.2g}'):,.10g}"


def lasting(seconds: float) -> str:
    """Return a time as one says it."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} minutes" if seconds < 3 * HOUR else f"{seconds / HOUR:.1f} hours"


@cache  # it keeps the templates that it compiled
def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline", "pages"),
        undefined=StrictUndefined,
        autoescape=html,  # Jinja escapes HTML alone
        trim_blocks=True,
        lstrip_blocks=not html,
    )
    environment.filters.update(rough=rough, lasting=lasting)
    return environment
