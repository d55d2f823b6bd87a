"""How a version that the gate lets through comes into the registry: with its card, its lineage and its tags."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.cards.card import make_card, write_card
from pipeline.cards.card_facts import gather_facts
from pipeline.files import sha256_of, write_json
from pipeline.inference.card_files import CARD_FILES
from pipeline.params import CardParams
from pipeline.promotion.evidence import Candidate, Evidence
from pipeline.registry import lineage, registry, tracking


def register(
    client: MlflowClient,
    name: str,
    candidate: Candidate,
    decision: dict[str, Any],
    evidence: Evidence,
    params: CardParams,
) -> ModelVersion:
    """Register a version, or return it where it is registered already.

    Args:
        client: of the registry.
        name: of the registered model.
        candidate: the version; lineage and card are written into its folder.
        decision: as `pipeline.promotion.gatekeeper` has it, while its `champion` is still the former one.
        evidence: what the decision was taken by.
        params: what the card's estimate of energy and carbon assumes.
    """
    folder = candidate.folder
    model_sha256 = sha256_of(folder / registry.MODEL_FILE)
    if same := registry.find_same(client, name, model_sha256):
        return same
    checkpoint, run = candidate.checkpoint, run_of(client, candidate)
    made_of = lineage.gather(checkpoint.recipe.data)
    write_json(folder / lineage.FILE, made_of)
    facts = gather_facts(name, checkpoint, run.data.tags, decision, evidence.folder, evidence.splits, evidence.metrics)
    facts["bytes"] = (folder / registry.MODEL_FILE).stat().st_size
    write_card(folder, make_card(facts, checkpoint.recipe, params))
    for file in CARD_FILES:
        client.log_artifact(run.info.run_id, str(folder / file), "card")
    tags = {
        "recipe": candidate.version,
        "scale": checkpoint.facts["scale"],
        "weights_sha256": candidate.weights_sha256,
        "model_sha256": model_sha256,
        "test_macro_f1": f"{decision['candidate_macro_f1']:.6f}",
        "faces_sha256": decision["faces_sha256"],
        **{name: run.data.tags.get(name, "unknown") for name in ("git_commit", "git_dirty", "data_hash")},
        **{f"data.{name}": sha256 for name, sha256 in checkpoint.facts["data"].items()},
        **{f"dvc.{path}": md5 for path, md5 in made_of["dvc"].items()},
    }
    return registry.register(client, name, run.info.run_id, folder, tags)


def run_of(client: MlflowClient, candidate: Candidate) -> Run:
    """Return the run that made the weights, or one in its place if the tracking store lost it."""
    facts = candidate.checkpoint.facts
    return client.get_run(tracking.run_of(client, candidate.version, facts, candidate.weights_sha256))
