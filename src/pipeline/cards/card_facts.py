"""What is known of a version where it is registered, for its card: its training, its scores, its data, the decision."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.cards.inventory import take_inventory
from pipeline.files import read_output
from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.network import multiply_adds

DECIDED = ("outcome", "reason", "forced", "checks", "faces", "looks")


def gather_facts(
    name: str,
    checkpoint: Checkpoint,
    tags: Mapping[str, str],
    decision: Mapping[str, Any],
    faces: Path,
    splits: Path,
    metrics: Path,
) -> dict[str, Any]:
    """Return what `pipeline.cards.card.make_card` tells of a version that the gate lets through.

    Args:
        name: of the registered model.
        checkpoint: the version.
        tags: of the run that trained it.
        decision: as `pipeline.promotion.gatekeeper` has it, while its `champion` is still the former one.
        faces: folder with one Parquet file a dataset.
        splits: the table of the split stage.
        metrics: folder with what `evaluate` found; a version that was not evaluated has no scores.

    Raises:
        PipelineError: if a table is missing or damaged, or what `evaluate` found is.
    """
    recipe, facts = checkpoint.recipe, checkpoint.facts
    former = decision["champion"]
    return {
        **facts,
        "name": name,
        "weights_sha256": checkpoint.sha256(),
        "multiply_adds": multiply_adds(checkpoint.network(), recipe.image_size),
        "inventory": take_inventory(recipe.data, faces, splits),
        "decision": {
            **{key: decision[key] for key in DECIDED},
            "at": datetime.now(UTC).date().isoformat(),
            "former": former and {key: former[key] for key in ("version", "recipe", "macro_f1")},
        },
        **training_facts(facts, tags),
        **_scores(metrics / f"{facts['version']}.json", recipe.data),
    }


def training_facts(facts: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the `seconds, git_commit, git_dirty` of a training; what nobody knows is None.

    Args:
        facts: of its checkpoint.
        tags: of its run, which may be one that was made anew and knows less.
    """
    known = {name: next((found[name] for found in (tags, facts) if found.get(name, "unknown") != "unknown"), None)
             for name in ("git_commit", "git_dirty")}  # fmt: skip
    return {
        "seconds": float(tags["seconds"]) if "seconds" in tags else None,
        "git_commit": known["git_commit"],
        "git_dirty": {"true": True, "false": False}.get(known["git_dirty"] or ""),
    }


def _scores(file: Path, datasets: tuple[str, ...]) -> dict[str, Any]:
    if not file.exists():
        return {}
    found = read_output(file, f"evaluate@{file.stem}")
    split = {name: part["split"] for name, part in found["datasets"].items() if name in datasets}
    return {
        "scores": found["own"],
        "split": split,
        **{key: found.get(key) for key in ("overall", "datasets", "classes", "slices")},
    }
