"""What pydantic complains of, as a sentence for whoever wrote the YAML."""

from typing import Any

from pydantic import ValidationError

from pipeline.errors import did_you_mean
from pipeline.recipes import Section


def explain(error: ValidationError, content: Any) -> str:
    """Return the most telling of pydantic's complaints about some content: its key, what was expected and found."""
    problems = sorted(error.errors(), key=lambda problem: _relevance(problem, content))
    return _sentence(problems[0], content)


def _relevance(problem: Any, content: Any) -> tuple[bool, int, bool, bool]:
    """Order the complaints about one value: what matches none of several types is complained about once for each."""
    return (
        problem["type"] == "too_short",  # a list with a wrong item counts as too short as well
        -len(_location(problem, content)),
        problem["type"] in {"missing", "model_type", "dict_type"},
        problem["type"] in {"literal_error", "string_type"} and not isinstance(problem["input"], str),
    )


def _location(problem: Any, content: Any) -> list[str]:
    """Return the keys that lead to the value; pydantic's own location also names the types that it tried."""
    location = []
    for part in problem["loc"]:
        inside = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if inside:
            location.append(str(part))
            content = content[part]
    return location


def _sentence(problem: Any, content: Any) -> str:
    location = _location(problem, content)
    key = ".".join(location) or "the file"
    if problem["type"] == "extra_forbidden":
        kind = problem["loc"][-2] if len(problem["loc"]) > 1 else ""
        of_kind = f" of {kind}" if kind not in location and str(kind).islower() else ""
        return f"{key} is not a known key{of_kind}{did_you_mean(location[-1], _keys() - {location[-1]})}"
    if problem["type"] == "missing":
        return f"{'.'.join([*location, str(problem['loc'][-1])])} is missing"
    expected = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list").replace("Tuple", "list")
    found = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return f"{key}: {expected[:1].lower()}{expected[1:]}{found}"


def _keys(section: type[Section] = Section) -> set[str]:
    own = {field.alias or name for name, field in section.model_fields.items()}
    return own.union(*(_keys(child) for child in section.__subclasses__()))
