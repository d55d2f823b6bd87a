"""What the gate decided, whether it let a candidate through or not: a short report, and a run in MLflow with it all."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from pipeline.files import read_output
from pipeline.pages.templates import render_markdown
from pipeline.registry import tracking

REPORT, NUMBERS = "promotion.md", "promotion.json"


def identify(faces: pd.DataFrame) -> str:
    """Return a SHA-256 of the faces that decide, with their labels: of `face_id, label_id`, in their order."""
    rows = "\n".join(f"{face_id} {label_id}" for face_id, label_id in zip(faces.face_id, faces.label_id, strict=True))
    return hashlib.sha256(rows.encode()).hexdigest()


def count_looks(client: MlflowClient, name: str, faces_sha256: str) -> int:
    """Return how many decisions about a registered model were taken on the same faces before.

    Each look at the same test faces makes it a little more likely that some candidate is lucky on them.
    """
    experiment = client.get_experiment_by_name(tracking.DECISIONS)
    if experiment is None:
        return 0
    condition = f"tags.faces_sha256 = '{faces_sha256}' and tags.model = '{name}' and tags.outcome != 'begun'"
    place = [experiment.experiment_id]
    return sum(1 for _ in tracking.every(lambda token: client.search_runs(place, condition, page_token=token)))


def level_of_all(alpha: float, looks: int) -> float:
    """Return the level at which the next decision keeps `alpha` for all decisions on the same faces together.

    Of the k-th that is alpha / (k (k + 1)): however many come, these add up to no more than alpha. The gate decides by
    `alpha` at each, or no champion could be replaced for long; the report says what this stricter promise would take.

    Args:
        alpha: of all.
        looks: decisions that were taken before.
    """
    return alpha / ((looks + 1) * (looks + 2))


def read_champions(file: Path) -> dict[str, dict[str, Any]]:
    """Return the champions that the last decisions left, by registered model.

    Where a real champion stays and all versions in `run` are drawn ones, there is none under its name.

    Args:
        file: `promotion.json`, as the promote stage writes it.

    Raises:
        PipelineError: if it is missing or damaged.
    """
    return {entry["model"]: entry["champion"] for entry in read_output(file, "promote")["decisions"]}


def render_report(decision: dict[str, Any]) -> str:
    """Return a decision as Markdown: the outcome, each rule with its numbers, and the ranking."""
    return render_markdown("promotion.md.j2", **decision)


@contextmanager
def logged(client: MlflowClient, decision: dict[str, Any]) -> Iterator[None]:
    """Write a decision, as `pipeline.promotion.gatekeeper` has it, as a run with its report, while it is carried out.

    The run says `begun` as its outcome until that is done, and is marked as killed if it fails.
    """
    keys = ("model", "candidate", "faces_sha256", "weights_sha256", "reason", "forced")
    run_id = tracking.start_run(
        client,
        decision["candidate"],
        {},
        {"outcome": "begun", **{key: str(decision[key]) for key in keys}},
        name=f"{decision['candidate']} {decision['outcome']}",
        experiment=tracking.DECISIONS,
        source="promote",
    )
    with tracking.killed_unless_done(client, run_id):
        numbers = {key: decision[key] for key in ("candidate_macro_f1", "former_champion_macro_f1", "p_value")}
        numbers |= {f"gain/{key}": value for key, value in (decision["gain"] or {}).items()}
        known = {key: value for key, value in numbers.items() if value is not None}
        tracking.log_result(client, run_id, known, {}, {})
        client.log_text(run_id, render_report(decision), REPORT)
        client.log_dict(run_id, decision, NUMBERS)
        yield
        client.set_tag(run_id, "outcome", decision["outcome"])
        client.set_terminated(run_id)
