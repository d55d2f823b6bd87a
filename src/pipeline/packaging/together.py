"""Trained versions as the ready-made model is made of them: one by itself, or several that answer together."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.cards.card_facts import training_facts
from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import own_faces, stack
from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.mean_network import SMALLEST, MeanNetwork
from pipeline.recipes import Recipe
from pipeline.training.calibration import fit_temperature

SHARED = ("labels", "preprocessing", "scale", "drawn", "detector", "data")  # facts that have to be the same
ALIKE = ("data", "classes", "leave_out", "tta")  # and what has to be in the recipes
SUMMED = ("parameters", "trained_parameters", "seconds")


class Evaluated(NamedTuple):
    """A version: its checkpoint, what it answered for its validation and test faces, the tags of its run."""

    checkpoint: Checkpoint
    predictions: pd.DataFrame
    tags: Mapping[str, str]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of it and its training."""
        checkpoint = self.checkpoint
        return {
            **checkpoint.facts,
            "recipe": checkpoint.recipe.model_dump(exclude_defaults=True),
            "weights_sha256": checkpoint.sha256(),
            **training_facts(checkpoint.facts, self.tags),
        }

    def check(self) -> None:
        """Raise PipelineError if what was answered was answered by other weights."""
        if set(self.predictions.weights_sha256) != {self.checkpoint.sha256()}:
            version = self.checkpoint.facts["version"]
            raise PipelineError(
                f"{version} was trained anew since it was evaluated; run `dvc repro evaluate@{version}`"
            )


class Whole(NamedTuple):
    """What is exported: a network, its facts, and what it answers for the faces that it is about."""

    network: nn.Module
    facts: dict[str, Any]
    predictions: pd.DataFrame


def join(versions: Sequence[Evaluated]) -> Whole:
    """Return versions as one; of several, the mean of their probabilities, made as sure as it is right.

    The facts of several have those of each under `members`. The temperature is fitted on validation faces.

    Raises:
        PipelineError: if they differ in what one network can not: their faces, classes or views; or if one was trained
            anew since it answered.
    """
    for version in versions:
        version.check()
    first, *others = versions
    if not others:
        return Whole(first.checkpoint.network(), first.facts, own_faces(first.predictions, first.checkpoint.recipe))
    for other in others:
        _check_alike(first.checkpoint, other.checkpoint)
    members = [version.facts for version in versions]
    predictions, temperature = _join_predictions([version.predictions for version in versions], first.checkpoint.recipe)
    network = MeanNetwork([version.checkpoint.network() for version in versions], first.checkpoint.recipe.image_size)
    network.temperature.fill_(temperature)
    facts = {
        **{key: members[0][key] for key in SHARED if key in members[0]},
        "version": "+".join(member["version"] for member in members),
        "weights_sha256": hashlib.sha256("".join(member["weights_sha256"] for member in members).encode()).hexdigest(),
        "temperature": round(temperature, 6),
        **{key: _sum([member.get(key) for member in members]) for key in SUMMED},
        "members": members,
    }
    return Whole(network.eval(), facts, predictions)


def _check_alike(one: Checkpoint, other: Checkpoint) -> None:
    differing = [key for key in SHARED if one.facts.get(key) != other.facts.get(key)]
    differing += [key for key in ALIKE if getattr(one.recipe, key) != getattr(other.recipe, key)]
    if differing:
        raise PipelineError(
            f"{one.facts['version']} and {other.facts['version']} can not answer together: they differ in "
            f"{', '.join(differing)}"
        )


def _join_predictions(tables: Sequence[pd.DataFrame], recipe: Recipe) -> tuple[pd.DataFrame, float]:
    """Return the mean of what was answered, and the temperature by which it was made as sure as it is right."""
    tables = [own_faces(table, recipe) for table in tables]
    first = tables[0]
    if any(list(table.face_id) != list(first.face_id) for table in tables):
        raise PipelineError("the versions answered for different faces; run `dvc repro` for each of them")
    known = torch.tensor((first.split == "validation").to_numpy())
    label_ids = torch.tensor(first.label_id.to_numpy(np.int64))
    logits = _mean_logits([table.probabilities for table in tables])
    temperature = fit_temperature(logits[known], label_ids[known])
    answers = (logits / temperature).softmax(1).numpy()
    tta = None
    if all(table.tta.notna().all() for table in tables):
        tta = list((_mean_logits([table.tta for table in tables]) / temperature).softmax(1).numpy())
    return first.assign(probabilities=list(answers), predicted=answers.argmax(1), tta=tta), temperature


def _mean_logits(members: Sequence[pd.Series]) -> torch.Tensor:
    """Return logits (faces, classes) whose softmax is the mean of the members' probabilities."""
    return torch.from_numpy(np.log(np.mean([stack(probabilities) for probabilities in members], 0) + SMALLEST))


def _sum(values: list[Any]) -> Any:
    return None if None in values else sum(values)
