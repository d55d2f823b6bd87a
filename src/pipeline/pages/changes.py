"""What a recipe says beside the defaults, as one reads it."""

from typing import Any

import pandas as pd

from pipeline.recipes import Recipe

LINE = 48  # characters of a list that still read well on one line


def changes_of(recipe: Recipe) -> dict[str, list[str]]:
    """Return, by dotted key and in the order of the recipe's fields, what is not the default, as lines.

    The recipe is one as it ran: `at_sample` has been applied, and is left out.
    """
    whole = recipe.model_dump(mode="json")
    changed = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"at_sample"})
    # An average with the default's decay is empty here, and still another thing than no average.
    changed = {key: value or whole[key] for key, value in changed.items()}
    lines = {str(key): _lines(value) for key, value in pd.json_normalize(changed).to_dict("records")[0].items()}
    return dict(sorted(lines.items(), key=lambda entry: position(entry[0])))


def position(key: str) -> int:
    """Return where a dotted key stands in a recipe."""
    return list(Recipe.model_fields).index(key.partition(".")[0])


def _lines(value: Any) -> list[str]:
    """Return a value as one reads it; the items of a list stand one below the other where they are many words."""
    items = [_said(item) for item in value] if isinstance(value, list) else [_said(value)]
    return items if sum(map(len, items)) > LINE else [", ".join(items)]


def _said(value: Any) -> str:
    """Return a value as YAML has it, but with short numbers and no more brackets than it takes."""
    if isinstance(value, dict):
        name = [str(value["name"])] if "name" in value else []
        return ", ".join([*name, *(f"{key} {_said(item)}" for key, item in value.items() if key != "name")])
    if isinstance(value, list):
        return f"[{', '.join(map(_said, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else str(value)
