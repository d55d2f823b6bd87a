"""A trained version on disk: its weights as safetensors, and `model.json` with all that is needed to use them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.files import read_output, sha256_of, write_json, written_whole
from pipeline.networks.network import ExpressionNetwork
from pipeline.networks.recurrent import build_network
from pipeline.recipes import Recipe

WEIGHTS = "weights.safetensors"
FACTS = "model.json"
METADATA = "facts"  # in the file of the weights


@dataclass(frozen=True)
class Checkpoint:
    """A trained version: the folder it lies in, its recipe as it ran, and the facts beside it."""

    folder: Path
    recipe: Recipe
    facts: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / WEIGHTS

    def sha256(self) -> str:
        """Return the SHA-256 of the weights."""
        return sha256_of(self.weights)

    def export_facts(self) -> dict[str, Any]:
        """Return what the exporters want to know: the size of a face, and the facts for whoever uses the model."""
        return export_facts({**self.facts, "weights_sha256": self.sha256()}, self.recipe)

    def weights_facts(self) -> dict[str, Any]:
        """Return what the file of the weights says itself: `labels`, `temperature` and the preprocessing."""
        with safe_open(self.weights, "pt") as file:
            return json.loads((file.metadata() or {}).get(METADATA, "{}"))

    def network(self) -> ExpressionNetwork:
        """Return the network with its weights, in evaluation mode."""
        network = build_network(self.recipe, pretrained=False)
        # Weights that were kept before networks had a temperature have none, which is a temperature of 1.
        network.load_state_dict({"temperature": torch.ones(()), **load_file(self.weights)})
        return network.eval()


def export_facts(known: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what the exporters want to know of a version; see `Checkpoint.export_facts`."""
    facts = {key: known[key] for key in ("version", "labels", "detector", "weights_sha256")} | known["preprocessing"]
    facts |= {"temperature": known.get("temperature", 1.0), "data": list(recipe.data)}
    return {"image_size": recipe.image_size, "facts": facts}


def save_checkpoint(folder: Path, network: ExpressionNetwork, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write a trained version; the facts come last, so that they exist only beside whole weights."""
    scale = 1 / 255
    preprocessing = {
        "image_size": recipe.image_size,
        "mean": [round(float(value) * scale, 6) for value in network.mean.flatten()],
        "std": [round(float(value) * scale, 6) for value in network.std.flatten()],
        "interpolation": "area where the face shrinks, bilinear where it grows",
        "colour": recipe.colour,
    }
    labels, temperature = list(recipe.classes), facts.get("temperature", 1.0)
    # Under one key: safetensors writes several in an order of chance, and equal weights shall be equal files.
    metadata = {METADATA: json.dumps({"labels": labels, **preprocessing, "temperature": temperature})}
    with written_whole(folder / WEIGHTS) as file:
        save_file({name: value.contiguous().cpu() for name, value in network.state_dict().items()}, file, metadata)
    content = {"labels": labels, "preprocessing": preprocessing, **facts, "recipe": recipe.model_dump()}
    write_json(folder / FACTS, content)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Open a version.

    Raises:
        PipelineError: if it was not trained yet, or its facts are damaged.
    """
    facts = read_output(folder / FACTS, f"train@{folder.name}")
    return Checkpoint(folder, Recipe.model_validate(facts.pop("recipe")), facts)
