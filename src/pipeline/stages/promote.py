"""Stage 7: rank the versions, hold the best against the champion, and register it if it passes the gate."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline import registry, tracking
from pipeline.checkpoint import FACTS, WEIGHTS, Checkpoint, load_checkpoint
from pipeline.command import run
from pipeline.detectors import YuNet
from pipeline.errors import PipelineError
from pipeline.export import export_onnx
from pipeline.files import sha256_of, write_json
from pipeline.gate import Verdict, judge, rank
from pipeline.images import read_images
from pipeline.params import Params, load_params
from pipeline.parity import answer_all, prove_parity, some_of
from pipeline.pointer import Pointer, is_there, read_pointer, write_pointer
from pipeline.predictions import judged_split, read_predictions
from pipeline.predictor import DETECTOR_FILE, Predictor
from pipeline.tables import read_split
from pipeline.yunet_file import find_yunet

logger = logging.getLogger(__name__)


class Gatekeeper:
    """Decides about the candidates of one registered model, and carries the decision out."""

    def __init__(
        self, client: MlflowClient, name: str, models: Path, folder: Path, faces: pd.DataFrame, params: Params
    ) -> None:
        """Take the registry, the model's name in it, the folders of versions and faces, and the frozen test faces."""
        self.client, self.name, self.models, self.params = client, name, models, params
        self.folder, self.faces = folder, faces
        self.champion = registry.find_champion(client, name)

    def decide(self, predictions: dict[str, pd.DataFrame]) -> dict[str, Any]:
        """Rank the candidates, judge the best, promote it if it passes; return the decision with its numbers."""
        ranking = rank(predictions)
        best = ranking[0]["version"]
        checkpoint = load_checkpoint(self.models / best)
        if self.champion and self.champion.tags["weights_sha256"] == checkpoint.sha256():
            verdict = Verdict(False, f"{best} is the champion already", *[self._test_macro_f1(predictions[best])] * 2)
        else:
            verdict = judge(self._test(predictions[best]), self._champion_predicts(), self.params.promote)
        if verdict.promoted or self.champion is None:
            self.champion = self._promote(checkpoint, verdict)
        logger.info(
            "%s: %s %s: %s", self.name, best, "promoted" if verdict.promoted else "not promoted", verdict.reason
        )
        return {
            "model": self.name,
            "candidate": best,
            "promoted": verdict.promoted,
            "reason": verdict.reason,
            "candidate_macro_f1": verdict.candidate_macro_f1,
            "former_champion_macro_f1": verdict.champion_macro_f1,
            "ranking": ranking,
            "champion": {
                "version": str(self.champion.version),
                "recipe": self.champion.tags["recipe"],
                "weights_sha256": self.champion.tags["weights_sha256"],
                "macro_f1": verdict.candidate_macro_f1 if verdict.promoted else verdict.champion_macro_f1,
            },
        }

    def pointer(self) -> Pointer:
        """Return the pointer to the champion's exported model, fetched from the registry if it is not here."""
        assert self.champion is not None  # a decision leaves a champion behind
        file = registry.fetch(self.champion, self._folder(self.champion)) / registry.MODEL_FILE
        return Pointer(self.name, str(self.champion.version), file.relative_to(self.models).as_posix(), sha256_of(file))

    def _folder(self, version: ModelVersion) -> Path:
        return self.models / "registry" / self.name / str(version.version)

    def _test(self, predictions: pd.DataFrame) -> pd.DataFrame:
        return predictions.set_index("face_id").loc[self.faces.face_id]

    def _test_macro_f1(self, predictions: pd.DataFrame) -> float:
        return judge(self._test(predictions), None, self.params.promote).candidate_macro_f1

    def _champion_predicts(self) -> pd.Series | None:
        if self.champion is None:
            return None
        folder = registry.fetch(self.champion, self._folder(self.champion))
        predictor = self._predictor(folder / registry.MODEL_FILE, str(self.champion.version))
        return pd.Series(answer_all(predictor, self.folder, self.faces).argmax(1))

    def _promote(self, checkpoint: Checkpoint, verdict: Verdict) -> ModelVersion:
        with tempfile.TemporaryDirectory(dir=self.models) as partial:
            folder = Path(partial) / "model"
            folder.mkdir()
            for name in (WEIGHTS, FACTS):
                shutil.copy(checkpoint.folder / name, folder)
            file = folder / registry.MODEL_FILE
            export_onnx(checkpoint.network(), file, **checkpoint.export_facts())
            self._copy_detector(checkpoint, folder)
            some = read_images(self.folder, some_of(self.faces, self.params.package.faces))
            prove_parity(checkpoint, self._predictor(file, "candidate"), some, self.params.package.tolerance)
            version = self._register(checkpoint, folder, verdict)
            target = self._folder(version)
            shutil.rmtree(target, ignore_errors=True)  # of a registry that was lost
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(target)
        registry.make_champion(self.client, self.name, version.version)
        return version

    def _copy_detector(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Put the detector's file beside the model, so that whoever serves it finds faces as its data had them."""
        if checkpoint.facts["detector"] in YuNet.NAMES:
            yunet = find_yunet(self.params.faces.yunet)
            if yunet is None:
                raise PipelineError(
                    f"{checkpoint.facts['version']} learned from faces that YuNet found; set `faces.yunet` to its "
                    "file or to fetch, because it is served with the model"
                )
            shutil.copy(yunet, folder / DETECTOR_FILE)

    def _register(self, checkpoint: Checkpoint, folder: Path, verdict: Verdict) -> ModelVersion:
        recipe, weights = checkpoint.facts["version"], checkpoint.sha256()
        run_id = tracking.run_of(self.client, recipe, checkpoint.facts, weights)
        made = self.client.get_run(run_id).data.tags
        tags = {
            "recipe": recipe,
            "scale": checkpoint.facts["scale"],
            "weights_sha256": weights,
            "model_sha256": sha256_of(folder / registry.MODEL_FILE),
            "test_macro_f1": f"{verdict.candidate_macro_f1:.6f}",
            **{name: made.get(name, "unknown") for name in ("git_commit", "data_hash")},
        }
        return registry.register(self.client, self.name, run_id, folder, tags)

    def _predictor(self, file: Path, version: str) -> Predictor:
        return Predictor(file, name=self.name, version=version)


def move_pointer(file: Path, champions: dict[str, Pointer]) -> Pointer:
    """Point a service to the champion; one that learned from drawn faces never takes a real one's place."""
    chosen = champions.get(registry.MODEL) or next(iter(champions.values()))
    present = read_pointer(file) if file.exists() else None
    if present and not present.is_sample and chosen.is_sample and is_there(file, present):
        return present
    if present != chosen:
        write_pointer(file, chosen)
    return chosen


def main(models: Path, predictions: Path, faces: Path, splits: Path, decision: Path) -> None:
    """Decide which of the versions in MODELS is champion, by their PREDICTIONS for FACES and SPLITS.

    Writes the DECISION, and moves the pointer `champion.json` in MODELS.
    """
    params = load_params()
    tables = {version: read_predictions(predictions / f"{version}.parquet") for version in params.run}
    first = next(iter(tables.values()))
    test = pd.concat(
        [read_split(faces, splits, name, split) for name, split in judged_split(first).items()], ignore_index=True
    )
    candidates: dict[str, dict[str, pd.DataFrame]] = {}
    for version, table in tables.items():
        name = registry.registered_name(drawn=load_checkpoint(models / version).facts["drawn"])
        candidates.setdefault(name, {})[version] = table
    decisions, champions = [], {}
    with tracking.answering():
        client = tracking.connect()
        for name, some in candidates.items():
            gatekeeper = Gatekeeper(client, name, models, faces, test, params)
            decisions.append(gatekeeper.decide(some))
            champions[name] = gatekeeper.pointer()
    pointer = move_pointer(models / "champion.json", champions)
    write_json(decision, {"serves": f"{pointer.name} version {pointer.version}", "decisions": decisions})


if __name__ == "__main__":
    run(main)
