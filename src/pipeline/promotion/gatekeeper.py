"""Who keeps the gate of one registered model: takes the decision, writes it down, and carries it out."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import macro_f1
from pipeline.inference.predictor import Predictor
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.packaging.parity import answer_all
from pipeline.params import Params
from pipeline.promotion.decisions import count_looks, identify, level_of_all, logged
from pipeline.promotion.evidence import Candidate, Evidence, ExportCandidate, Forced
from pipeline.promotion.gate import CandidateFacts, Check, Verdict, judge, rank
from pipeline.promotion.registration import register, run_of
from pipeline.registry import history, registry
from pipeline.registry.record import restore


class Gatekeeper:
    """Decides about the candidates of one registered model, and carries the decision out."""

    def __init__(self, client: MlflowClient, name: str, models: Path, params: Params) -> None:
        """Take the registry, the model's name in it, and the folder of versions.

        A change of the champion that somebody wrote down, and was then interrupted, is carried out first; and a
        registry that was lost gets back what it had.
        """
        self.client, self.name, self.models, self.params = client, name, models, params
        restore(client, name, models)
        self._settle()

    def decide(self, evidence: Evidence, export: ExportCandidate, forced: Forced | None = None) -> dict[str, Any]:
        """Rank the candidates, judge the best, promote it if it passes.

        Args:
            evidence: what the decision is taken by.
            export: makes the one that is judged what would be registered; not called where that is champion already.
            forced: the one to promote whatever the gate says.

        Returns:
            the decision with its numbers, ready for JSON: what `Verdict.numbers` has, `outcome` (promoted, forced,
            refused, or kept, where the best is the champion already), `ranking`, `champion` and what it is about.

        Raises:
            PipelineError: if the exported candidate does not answer like its checkpoint, if the forced one is champion
                already, or if somebody else changed the champion meanwhile.
        """
        ranking = self._rank(evidence.predictions)
        free = next((entry for entry in ranking if not entry["note"]), ranking[0])
        chosen = next(entry for entry in ranking if entry["version"] == forced.version) if forced else free
        weights_sha256 = chosen["weights_sha256"]
        if self.champion and self.champion.tags.get("weights_sha256") == weights_sha256:
            return self._keep(chosen, evidence, ranking, forced)
        with tempfile.TemporaryDirectory() as partial:
            checkpoint = load_checkpoint(self.models / chosen["version"])
            candidate = export(checkpoint, weights_sha256, Path(partial) / "model", evidence, self.params)
            verdict = self._judge(candidate, chosen, evidence, ranking, forced)
            outcome = "forced" if forced else "promoted" if verdict.promoted else "refused"
            decision = self._describe(chosen, verdict, evidence, ranking, outcome)
            if outcome == "refused":
                with logged(self.client, decision):
                    return decision
            decision["forced"] = forced and forced.why
            self._promote(candidate, decision, evidence)
        return decision

    def _settle(self) -> None:
        self.last = history.settle(self.client, self.name)
        self.champion = registry.find_version(self.client, self.name, self.last.version) if self.last else None

    def _rank(self, predictions: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
        """Rank the candidates; the `note` of each says why it is none any more, where a person set it aside."""
        ranking = rank(predictions)
        aside = history.find_set_aside(self.client, self.name)
        for entry in ranking:
            entry["weights_sha256"] = load_checkpoint(self.models / entry["version"]).sha256()
            event = aside.get(entry["weights_sha256"])
            entry["note"] = f"was set aside by {event.kind} at {event.at}: {event.why}" if event else ""
        return ranking

    def _keep(
        self, chosen: dict[str, Any], evidence: Evidence, ranking: list[dict[str, Any]], forced: Forced | None
    ) -> dict[str, Any]:
        """Return the decision where the best candidate is the champion: there is nothing to decide, or to log."""
        assert self.last is not None  # there is a champion
        version = chosen["version"]
        if forced:
            raise PipelineError(f"{version} is the champion already")
        predicted = evidence.predictions[version].set_index("face_id").predicted.loc[evidence.faces.face_id]
        score = macro_f1(evidence.faces.label_id.to_numpy(), predicted.to_numpy())
        since = f"{version} is the champion already, by {self.last.kind} at {self.last.at}: {self.last.why}"
        verdict = Verdict((Check("new", False, since),), score, score)
        return self._describe(chosen, verdict, evidence, ranking, "kept")

    def _judge(
        self,
        candidate: Candidate,
        chosen: dict[str, Any],
        evidence: Evidence,
        ranking: list[dict[str, Any]],
        forced: Forced | None,
    ) -> Verdict:
        facts = CandidateFacts(
            valid_data=evidence.valid_data,
            dirty={"true": True, "false": False}.get(run_of(self.client, candidate).data.tags.get("git_dirty", "")),
            megabytes=candidate.megabytes,
            milliseconds=candidate.milliseconds,
        )
        broken: list[Check] = []
        champion = None
        try:
            champion = self._champion_answers(evidence)
        except PipelineError as error:
            if not forced:
                raise
            broken = [Check("compared", False, str(error))]  # who forces a version may have this very reason
        choices = evidence.choices(len(ranking))
        verdict = judge(evidence.faces, candidate.answers, champion, facts, self.params.promote, choices=choices)
        if note := chosen["note"]:
            broken.append(Check("not set aside", False, f"it {note}"))
        return replace(verdict, checks=(*verdict.checks, *broken))

    def _champion_answers(self, evidence: Evidence) -> NDArray[np.float32] | None:
        if self.champion is None:
            return None
        file = registry.fetch(self.champion, self.models) / registry.MODEL_FILE
        predictor = Predictor(file, name=self.name, version=str(self.champion.version))
        return answer_all(predictor, evidence.folder, evidence.faces)

    def _describe(
        self,
        chosen: dict[str, Any],
        verdict: Verdict,
        evidence: Evidence,
        ranking: list[dict[str, Any]],
        outcome: str,
    ) -> dict[str, Any]:
        faces_sha256 = identify(evidence.faces)
        looks = count_looks(self.client, self.name, faces_sha256)
        return {
            **verdict.numbers(),
            "promoted": outcome in ("promoted", "forced"),
            "outcome": outcome,
            "model": self.name,
            "candidate": chosen["version"],
            "weights_sha256": chosen["weights_sha256"],
            "forced": None,
            "faces": len(evidence.faces),
            "splits": sorted(set(evidence.faces.split)),
            "faces_sha256": faces_sha256,
            "looks": looks,
            "level_of_all": level_of_all(self.params.promote.alpha / evidence.choices(len(ranking)), looks),
            "ranking": ranking,
            "champion": self.champion and _name(self.champion, verdict.champion_macro_f1),
        }

    def _promote(self, candidate: Candidate, decision: dict[str, Any], evidence: Evidence) -> None:
        """Register the candidate, and let it be champion, unless somebody else changed that meanwhile.

        It may be registered already, by one who was interrupted. Until the event is written nothing has happened, and
        behind it whoever comes next carries it out (see `pipeline.registry.history`).
        """
        version = register(self.client, self.name, candidate, decision, evidence, self.params.card)
        registry.fetch(version, self.models)  # what can not be had must not become champion
        decision["champion"] = _name(version, decision["candidate_macro_f1"])
        kind: history.Kind = "forced promotion" if decision["forced"] else "promotion"
        with logged(self.client, decision):
            history.append(self.client, self.last, kind, version, decision["forced"] or decision["reason"])
        self._settle()


def _name(champion: ModelVersion, score: float | None) -> dict[str, Any]:
    return {
        "version": str(champion.version),
        "recipe": champion.tags.get("recipe", "unknown"),
        "weights_sha256": champion.tags.get("weights_sha256", "unknown"),
        "macro_f1": score,
    }
