"""Stage 7: rank the versions, hold the best against the champion, and register it if it passes the gate."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from pipeline.command import run
from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import judged_split, read_predictions
from pipeline.files import read_output, write_json, written_whole
from pipeline.inference.pointer import Pointer, move_pointer, read_pointer
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.params import load_params
from pipeline.promotion.decisions import render_report
from pipeline.promotion.evidence import Evidence, ExportCandidate, Forced, export_candidate
from pipeline.promotion.gatekeeper import Gatekeeper
from pipeline.registry import history, registry, tracking
from pipeline.registry.record import keep_record, restore

logger = logging.getLogger(__name__)


def decide(
    models: Path, evidence: Evidence, forced: Forced | None, export: ExportCandidate
) -> tuple[list[dict[str, Any]], Pointer | None]:
    """Decide about all candidates, each under the name that it is registered by, and move the pointer.

    Args:
        models: the folder of the versions, and of the pointer.
        evidence: about all candidates.
        forced: the one to promote whatever the gate says.
        export: makes a trained version what would be registered.

    Returns:
        the decisions, one a registered model, and what is served now, if there is any champion.
    """
    candidates: dict[str, dict[str, pd.DataFrame]] = {}
    for version, table in evidence.predictions.items():
        name = registry.registered_name(drawn=load_checkpoint(models / version).facts["drawn"])
        candidates.setdefault(name, {})[version] = table
    pointer_file = models / "champion.json"
    client = tracking.connect()
    decisions, champions = [], []
    for name, some in candidates.items():
        gatekeeper = Gatekeeper(client, name, models, load_params())
        own = forced if forced and forced.version in some else None
        decisions.append(gatekeeper.decide(replace(evidence, predictions=some), export, own))
        champions.append(gatekeeper.champion)
    if pointer_file.exists() and (served := read_pointer(pointer_file).name) not in candidates:
        restore(client, served, models)
        history.settle(client, served)
        champions.append(registry.find_champion(client, served))
    pointers = [registry.point_to(champion, models) for champion in champions if champion]
    for pointer in pointers:
        keep_record(client, pointer.name, models)
    return decisions, move_pointer(pointer_file, pointers) if pointers else None


def promote(
    models: Path,
    predictions: Path,
    faces: Path,
    splits: Path,
    metrics: Path,
    decision: Path,
    report: Path,
    forced: Forced | None = None,
    export: ExportCandidate = export_candidate,
) -> None:
    """Decide which of the versions is champion, write the decision as JSON and as a report, and move the pointer.

    Args:
        models: the folder of the versions, and of the pointer `champion.json`.
        predictions: the folder with what each version answered.
        faces: the folder with one Parquet file a dataset.
        splits: the table of splits.
        metrics: the folder that says whether the data is valid, and for the card, what the versions scored.
        decision: the result as JSON.
        report: the result as Markdown.
        forced: the one to promote whatever the gate says.
        export: makes a trained version what would be registered.
    """
    params = load_params()
    candidates = [version for version in params.run if params.recipe(version).promote]
    if forced and forced.version not in candidates:
        if forced.version in params.run:
            raise PipelineError(f"recipes.{forced.version} has `promote: false`; it is only compared with")
        raise PipelineError(f"there is no version {forced.version!r} in `run`; there are {', '.join(candidates)}")
    if not candidates:
        raise PipelineError("no version in `run` may be promoted: all have `promote: false`; add one to `run`")
    tables = {version: read_predictions(predictions / f"{version}.parquet") for version in candidates}
    judged = judged_split(next(iter(tables.values())))
    test = [read_split(faces, splits, name, split).assign(split=split) for name, split in judged.items()]
    valid = read_output(metrics / "validation.json", "validate")["passed"]
    evidence = Evidence(tables, pd.concat(test, ignore_index=True), faces, splits, metrics, valid)
    with tracking.answering():
        decisions, serves = decide(models, evidence, forced, export)
    write_json(decision, {"serves": serves and f"{serves.name} version {serves.version}", "decisions": decisions})
    with written_whole(report) as file:
        file.write_text("\n".join(map(render_report, decisions)), encoding="utf-8")
    for one in decisions:
        logger.info("%s: %s %s: %s", one["model"], one["candidate"], one["outcome"], one["reason"])
    if serves is None:
        raise PipelineError(f"no version passes the gate, and there is no champion yet; {report} says why")


def main(
    models: Path,
    predictions: Path,
    faces: Path,
    splits: Path,
    metrics: Path,
    decision: Path,
    report: Path,
    force: Annotated[str | None, typer.Option(envvar="FER_FORCE", help="a version to promote all the same")] = None,
    why: Annotated[str, typer.Option(envvar="FER_FORCE_WHY", help="the reason, which the registry keeps")] = "",
) -> None:
    """Decide which of the versions in MODELS is champion, by their PREDICTIONS for FACES and SPLITS.

    METRICS is the folder that says whether the data is valid, and for the card, what the versions scored. Writes the
    DECISION as JSON and as a REPORT, and moves the pointer `champion.json` in MODELS.
    """
    promote(models, predictions, faces, splits, metrics, decision, report, Forced(force, why) if force else None)


if __name__ == "__main__":
    run(main)
