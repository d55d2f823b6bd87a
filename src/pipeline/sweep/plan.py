"""What a sweep is asked to do, whole and checked: two processes with the same plan work on the same sweep."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params import Params, SweepParams
from pipeline.recipes import Recipe
from pipeline.stages.inputs import inputs
from pipeline.sweep.dimension import Values
from pipeline.sweep.keys import change
from pipeline.sweep.space import Space
from pipeline.training.parents import Parents, find_parents

FACES, SPLITS = Path("data/faces"), Path("data/splits.parquet")
INPUTS, MODELS = Path("data/inputs"), Path("models")
SWEEPS = Path("sweeps")


@dataclass(frozen=True)
class Plan:
    """A sweep: its name, the version, the parameters it runs under, its space, and its parents.

    `identity` is the hash of all that its scores depend on.
    """

    name: str
    version: str
    params: Params
    settings: SweepParams
    space: Space
    parents: Parents
    identity: str

    @property
    def store(self) -> Path:
        """Optuna's SQLite file."""
        return SWEEPS / f"{self.name}.db"

    @property
    def folder(self) -> Path:
        """Where unfinished trials keep what they need to go on."""
        return SWEEPS / self.name

    def recipe(self, values: Mapping[str, object]) -> Recipe:
        """Return the recipe with other values, as it runs: varied first, then shrunk to the scale.

        Raises:
            PipelineError: if these values do not go together.
        """
        recipe = change(self.space.recipe, values).at(self.params.scale)
        return recipe.lasting(self.settings.epochs) if self.settings.epochs else recipe


def make_plan(
    params: Params, version: str, vary: Mapping[str, Values], settings: SweepParams, name: str | None
) -> Plan:
    """Check what is asked for, and that its data is there.

    Args:
        params: all of `params.yaml`.
        version: the version whose recipe is varied.
        vary: a range or list by dotted key.
        settings: trials, epochs and seeds.
        name: of the sweep; without one it is named by its identity, so that the same command goes on with it.

    Raises:
        PipelineError: if the space is none, the version unknown, or its data or parents are missing.
    """
    running = params.recipe(version)
    if running.recurrent:
        raise PipelineError(f"recipes.{version} reads clips; a sweep is for recipes that read faces")
    if name and not re.fullmatch(r"\w[\w.-]*", name):
        raise PipelineError(f"--study {name}: a name is made of letters, digits, dots, dashes and underscores")
    if settings.epochs and "epochs" in vary:
        raise PipelineError("--epochs and --vary epochs contradict each other; leave one out")
    space = Space(params.recipes[version], vary, params.scale)
    for file in (SPLITS, *(FACES / f"{dataset}.parquet" for dataset in running.data)):
        if not file.exists():
            raise PipelineError(f"{file} is missing; run `dvc repro validate`, which makes the faces to learn from")
    parents = find_parents(version, running, INPUTS / version, MODELS)
    facts = {
        "version": version,
        "scale": params.scale,
        "recipe": space.recipe.model_dump(mode="json"),
        "space": space.description(),
        "data": inputs(running.data, FACES, SPLITS),
        "parents": parents.sha256(),
        "train": params.train.model_dump(include={"seed", "precision"}),
        "settings": settings.model_dump(include={"epochs", "seeds"}),
    }
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Plan(name or f"{version}-{identity[:8]}", version, params, settings, space, parents, identity)
