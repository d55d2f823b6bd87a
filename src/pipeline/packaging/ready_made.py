"""The ready-made model: a small version that learned from real faces, kept in the repository beside its card.

`make serve` serves it before anything was trained; see `pipeline.inference.pointer.choose_model`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cards.card import READY_MADE_LICENCE, make_card, write_card
from pipeline.cards.inventory import take_inventory
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import score_classes
from pipeline.evaluation.predictions import judged, judged_split, score_faces, stack
from pipeline.files import sha256_of, write_json
from pipeline.inference.answer_table import REFERENCE
from pipeline.inference.pointer import READY_MADE, Pointer, write_pointer
from pipeline.inference.predictor import Predictor
from pipeline.networks.checkpoint import export_facts
from pipeline.networks.network import multiply_adds
from pipeline.packaging.export import export_onnx
from pipeline.packaging.parity import answer_all
from pipeline.packaging.reference import known_faces, write_reference
from pipeline.packaging.together import Evaluated, join
from pipeline.params import CardParams, Params
from pipeline.recipes import Recipe

MODEL_FILE, FACTS_FILE = "model.onnx", "model.json"
LARGEST = 12_000_000  # bytes: it is part of every clone
TOLERANCE = 0.002  # of accuracy that half precision may cost


def make_ready(
    versions: Sequence[Evaluated], faces: Path, splits: Path, models: Path, name: str, params: Params
) -> dict[str, Any]:
    """Export versions in half precision as the ready-made model, prove it, and leave it with facts, card and pointer.

    Several answer together: see `pipeline.packaging.together`. Beside the file lies what it answers for validation
    faces, which `pipeline monitor` compares with: numbers, and their labels, but no face, nor which one it was.

    Args:
        versions: one or more.
        faces: folder with one Parquet file a dataset.
        splits: the table of the split stage.
        models: folder of the models; what there was in `ready-made` there is replaced, once the new one is proved.
        name: what the registry calls models of real faces.
        params: of the scores, the card and the faces beside it.

    Returns:
        `model.json`: what the model is, and the scores that the file itself has on the faces it is judged by.

    Raises:
        PipelineError: if a version learned from drawn faces, they can not answer together, or the file is too large or
            answers worse.
    """
    if drawn := [version for version in versions if version.checkpoint.facts["drawn"]]:
        raise PipelineError(
            f"{drawn[0].checkpoint.facts['version']} learned from drawn faces; train it on real ones first"
        )
    network, known, predictions = join(versions)
    recipe, version = versions[0].checkpoint.recipe, known["version"]
    target, number = (models / READY_MADE).parent, f"ready-made {version}"
    with tempfile.TemporaryDirectory(dir=models) as folder:
        file = Path(folder) / MODEL_FILE
        export_onnx(network, file, half=True, **export_facts(known, recipe))
        size = file.stat().st_size
        if size > LARGEST:
            raise PipelineError(
                f"{version} takes {size / 1e6:.1f} MB; a ready-made model takes {LARGEST / 1e6:.0f} at most"
            )
        mine = judged(predictions).reset_index(drop=True)
        answered = mine.assign(
            probabilities=list(answer_all(Predictor(file, name=name, version=version), faces, mine)), tta=None
        )
        before, after = score_faces(mine, params.evaluate), score_faces(answered, params.evaluate)
        if after["accuracy"] < before["accuracy"] - TOLERANCE:
            raise PipelineError(
                f"in half precision the accuracy of {version} is {after['accuracy']:.4f}, not {before['accuracy']:.4f}"
            )
        facts = {
            **known,
            "name": name,
            "inventory": take_inventory(recipe.data, faces, splits),
            "multiply_adds": multiply_adds(network, recipe.image_size),
            "bytes": size,
            "split": judged_split(mine),
            "scores": {**after, "tta": before["tta"]},
            "classes": score_classes(answered.label_id.to_numpy(), stack(answered.probabilities)),
            "largest_difference": float(np.abs(stack(mine.probabilities) - stack(answered.probabilities)).max()),
        }
        card = ready_made_card(facts, params.card)  # before anything is moved
        reference = known_faces(predictions, recipe.data, params.monitor.reference_faces)
        write_reference(Path(folder) / REFERENCE, Predictor(file, name=name, version=number), faces, reference)
        target.mkdir(exist_ok=True)
        for made in (MODEL_FILE, REFERENCE):
            (Path(folder) / made).replace(target / made)
    write_json(target / FACTS_FILE, facts)
    write_card(target, card)
    sha256 = sha256_of(target / MODEL_FILE)
    write_pointer(models / READY_MADE, Pointer(name, number, MODEL_FILE, sha256))
    return facts


def ready_made_card(facts: Mapping[str, Any], params: CardParams) -> dict[str, Any]:
    """Return the card of a ready-made model from its `model.json`; see `pipeline.cards.card.make_card`."""
    recipe = Recipe.model_validate(facts.get("members", [facts])[0]["recipe"])  # they agree in what it is asked for
    return make_card({**facts, "licence": READY_MADE_LICENCE}, recipe, params)
