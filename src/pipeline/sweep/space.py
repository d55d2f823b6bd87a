"""The space of a sweep: all keys that it varies, checked against the recipe before anything runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, distribution_to_json

from pipeline.errors import PipelineError
from pipeline.networks.network import check_backbone
from pipeline.recipes import Recipe, Scale
from pipeline.sweep.dimension import WAYS, Values, read_dimension
from pipeline.sweep.keys import change, look_up
from pipeline.training.augment import augmentation_of

UNSCORED = {"at_sample", "tta", "compile"}  # what a recipe that runs may say without another validation score


class Space:
    """The varied keys of one recipe."""

    def __init__(self, recipe: Recipe, vary: Mapping[str, Values], scale: Scale) -> None:
        """Take the recipe as `params.yaml` has it, and what to vary: a range or a list for each key.

        Raises:
            PipelineError: if a key is none of a recipe, the recipe takes no such values, or they make no difference at
                this scale.
        """
        if not vary:
            raise PipelineError("nothing is varied; say what, as in `--vary optimizer.lr=log:1e-3..1e-1`")
        self.recipe = recipe
        self.dimensions = [read_dimension(recipe, key, values) for key, values in vary.items()]
        self._probe(scale)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from, by key."""
        return {dimension.key: dimension.distribution for dimension in self.dimensions}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values for the recipe that Optuna's stand for."""
        return {dimension.key: dimension.value(drawn[dimension.key]) for dimension in self.dimensions}

    def of_recipe(self) -> dict[str, Any] | None:
        """Return what Optuna would have to draw for the recipe as it is; nothing where that lies outside."""
        content = self.recipe.model_dump(mode="json")
        drawn = {dimension.key: dimension.drawn(look_up(content, dimension.key)) for dimension in self.dimensions}
        return None if None in drawn.values() else drawn

    def description(self) -> dict[str, str]:
        """Return the space as words, by key."""
        return {key: distribution_to_json(distribution) for key, distribution in self.distributions.items()}

    def _probe(self, scale: Scale) -> None:
        ends = {dimension.key: dimension.ends() for dimension in self.dimensions}
        first = {key: values[0] for key, values in ends.items()}
        for key, values in ends.items():
            seen = set()
            for value in values:
                varied = change(self.recipe, {**first, key: value})
                check_backbone(varied.backbone)
                augmentation_of(varied)
                seen.add(varied.at(scale).model_dump_json(exclude=UNSCORED))
            if len(seen) == 1 and len(values) > 1:
                raise PipelineError(
                    f"--vary {key} makes no difference to the validation score at scale: {scale}"
                    + (", where `at_sample` shrinks the recipe; vary a key of at_sample" if scale == "sample" else "")
                )


def parse_vary(given: Sequence[str]) -> dict[str, Values]:
    """Read `key=values` as they stand on a command line; raises PipelineError where one is something else."""
    vary: dict[str, Values] = {}
    for text in given:
        key, sign, values = text.partition("=")
        if not sign or not key.strip():
            raise PipelineError(f"--vary {text}: there is no key and value; write KEY=VALUES, and {WAYS}")
        if key.strip() in vary:
            raise PipelineError(f"--vary {key.strip()} stands there twice")
        vary[key.strip()] = _list(text, values) if values.strip().startswith("[") else values
    return vary


def _list(text: str, values: str) -> list[Any]:
    try:
        return yaml.safe_load(values)
    except yaml.YAMLError as error:
        raise PipelineError(f"--vary {text} is no list that YAML can read; {WAYS}") from error
