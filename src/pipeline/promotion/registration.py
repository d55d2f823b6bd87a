"""How a version that the gate lets through comes into the registry: with its card, its lineage and its tags."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.cards.card import make_card, write_card
from pipeline.cards.card_facts import gather_facts
from pipeline.files import sha256_of, write_json
from pipeline.inference.card_files import CARD_FILES
from pipeline.params import CardParams
from pipeline.promotion.evidence import Contender, Evidence
from pipeline.registry import lineage, registry, tracking


def register(
    client: MlflowClient,
    name: str,
    contender: Contender,
    folder: Path,
    decision: dict[str, Any],
    evidence: Evidence,
    params: CardParams,
) -> ModelVersion:
    """Register a version, or return it where it is registered already.

    Args:
        client: of the registry.
        name: of the registered model.
        contender: the version.
        folder: with its exported files; lineage and card are written beside them.
        decision: as `pipeline.promotion.gatekeeper` has it, while its `champion` is still the former one.
        evidence: what the decision was taken by.
        params: what the card's estimate of energy and carbon assumes.
    """
    model_sha256 = sha256_of(folder / registry.MODEL_FILE)
    if same := registry.find_same(client, name, model_sha256):
        return same
    checkpoint, run = contender.checkpoint, run_of(client, contender)
    made_of = lineage.gather(checkpoint.recipe.data)
    write_json(folder / lineage.FILE, made_of)
    facts = gather_facts(name, checkpoint, run.data.tags, decision, evidence.folder, evidence.splits, evidence.metrics)
    facts["bytes"] = (folder / registry.MODEL_FILE).stat().st_size
    write_card(folder, make_card(facts, checkpoint.recipe, params))
    for file in CARD_FILES:
        client.log_artifact(run.info.run_id, str(folder / file), "card")
    tags = {
        "recipe": contender.version,
        "scale": checkpoint.facts["scale"],
        "weights_sha256": contender.weights_sha256,
        "model_sha256": model_sha256,
        "test_macro_f1": f"{decision['candidate_macro_f1']:.6f}",
        "faces_sha256": decision["faces_sha256"],
        **{name: run.data.tags.get(name, "unknown") for name in ("git_commit", "git_dirty", "data_hash")},
        **{f"data.{name}": sha256 for name, sha256 in checkpoint.facts["data"].items()},
        **{f"dvc.{path}": md5 for path, md5 in made_of["dvc"].items()},
    }
    return registry.register(client, name, run.info.run_id, folder, tags)


def run_of(client: MlflowClient, contender: Contender) -> Run:
    """Return the run that made the weights, or one in its place if the tracking store lost it."""
    facts = contender.checkpoint.facts
    return client.get_run(tracking.run_of(client, contender.version, facts, contender.weights_sha256))
