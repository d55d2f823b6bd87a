"""Dotted keys of a recipe: `optimizer.lr`, `schedule.0.warm_up`, also of sections that it leaves at nothing."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.complaints import explain
from pipeline.errors import PipelineError
from pipeline.recipes import Recipe

Content = dict[str, Any] | list[Any]


def change(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values, by dotted key; raises PipelineError if it takes no such values."""
    content = recipe.model_dump(mode="json")
    for key, value in values.items():
        put(content, key, value)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"--vary: {explain(error, content)}") from error


def look_up(content: Any, key: str) -> Any:
    """Return what stands at a dotted key, nothing where there is none."""
    for part in key.split("."):
        if isinstance(content, list):
            content = content[int(part)] if part.isdigit() and int(part) < len(content) else None
        else:
            content = content.get(part) if isinstance(content, dict) else None
    return content


def put(content: Content, key: str, value: Any) -> None:
    """Write a value at a dotted key, in sections made for it; raises PipelineError if a list has no such place."""
    _put(content, key, key.split("."), value)


def _put(section: Content, key: str, path: list[str], value: Any) -> None:
    first, *rest = path
    place: Any = first
    if isinstance(section, list):
        if not (first.isdigit() and int(first) < len(section)):
            raise PipelineError(f"--vary {key}: {first!r} is none of the places 0 to {len(section) - 1} of the list")
        place = int(first)
    if not rest:
        section[place] = value
        return
    inner = section[place] if isinstance(section, list) else section.get(place)
    if not isinstance(inner, dict | list):
        inner = section[place] = {}
    _put(inner, key, rest, value)
