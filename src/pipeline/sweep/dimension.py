"""One varied key of a recipe, and the range or list of values that it is given.

`low..high` is a range, `log:low..high` one over orders of magnitude, `[a, b, c]` a list of whatever YAML can say. A
range is one of whole numbers where the recipe takes no others. (`low:high` would do as well on a command line, but in
`params.yaml` YAML reads 10:40 as ten minutes forty.)
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.errors import PipelineError
from pipeline.recipes import Recipe
from pipeline.sweep.keys import change, look_up

DIGITS = 4  # of a value that is tried, so that it can be read, and pasted as it was trained
KEPT = {
    "data": "scores on other faces do not compare",
    "leave_out": "scores on other faces do not compare",
    "one_against_rest": "scores on other classes do not compare",
    "start_from": "a sweep begins where the version begins",
    "distil.teachers": "a sweep has the teachers of the version",
}
WAYS = "write low..high, log:low..high, or a list, [a, b, c]"

Values = str | Sequence[Any]


@dataclass(frozen=True)
class Dimension:
    """A key, how Optuna draws for it, and for a list what the drawn words stand for."""

    key: str
    distribution: BaseDistribution
    meanings: Mapping[Any, Any]

    def value(self, drawn: Any) -> Any:
        """Return the value for the recipe: what a word of a list stands for, or a number with few digits."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.meanings[drawn]
        if isinstance(self.distribution, FloatDistribution):
            rounded = float(f"{drawn:.{DIGITS}g}")
            return min(max(rounded, self.distribution.low), self.distribution.high)
        return drawn

    def drawn(self, value: Any) -> Any:
        """Return what Optuna would have to draw for a value; nothing if it can not."""
        if isinstance(self.distribution, CategoricalDistribution):
            word = _word(value)
            return word if word in self.meanings else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and self.distribution.low <= value <= self.distribution.high else None  # type: ignore[attr-defined]

    def ends(self) -> list[Any]:
        """Return values to try a recipe with: all of a list, both ends of a range, and its middle where not whole."""
        match self.distribution:
            case CategoricalDistribution():
                return list(self.meanings.values())
            case IntDistribution(low=low, high=high):
                return [low, high]
            case FloatDistribution(low=low, high=high):
                return [low, high, (low + high) / 2]
            case other:
                raise TypeError(other)


def read_dimension(recipe: Recipe, key: str, values: Values) -> Dimension:
    """Read a range or a list for a key of a recipe.

    Raises:
        PipelineError: if it is none, or the recipe does not take it.
    """
    for kept, why in KEPT.items():
        if f"{key}.".startswith(f"{kept}.") or kept.startswith(f"{key}."):
            raise PipelineError(f"--vary {key}: it can not be varied: {why}")
    if isinstance(values, str):
        return Dimension(key, _range(recipe, key, values), {})
    if not values:
        raise PipelineError(f"--vary {key}: the list is empty")
    meanings = {}
    for value in values:
        meant = look_up(change(recipe, {key: value}).model_dump(mode="json"), key)
        value = value if isinstance(value, dict | list | tuple) else meant  # YAML reads 1e-3 as a word
        meanings[_word(value)] = value
    return Dimension(key, CategoricalDistribution(list(meanings)), meanings)


def _range(recipe: Recipe, key: str, text: str) -> BaseDistribution:
    found = re.fullmatch(r"\s*(log:)?\s*(.+?)\s*\.\.\s*(.+?)\s*", text)
    try:
        log, low, high = bool(found[1]), float(found[2]), float(found[3])  # type: ignore[index]
    except (TypeError, ValueError):
        raise PipelineError(f"--vary {key}: {text!r} is no range; {WAYS}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise PipelineError(f"--vary {key}: {text}: the lower end must be a number below the upper one")
    if log and low <= 0:
        raise PipelineError(f"--vary {key}: {text}: a range over orders of magnitude begins above 0")
    if low.is_integer() and high.is_integer() and _takes_whole_numbers(recipe, key, low):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _takes_whole_numbers(recipe: Recipe, key: str, low: float) -> bool:
    if type(look_up(recipe.model_dump(mode="json"), key)) is int:
        return True
    try:
        change(recipe, {key: low + 0.5})
    except PipelineError:
        return True
    return False


def _word(value: Any) -> Any:
    """Return a value as Optuna keeps it in its store: numbers and words as they are, others as JSON."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
