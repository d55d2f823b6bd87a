"""What a decision of the gate is about, a candidate exported as it would be registered, and what it is taken by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.datasets.images import read_images
from pipeline.inference.answer_table import REFERENCE
from pipeline.inference.predictor import Predictor
from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.embedding import fit_projection
from pipeline.packaging.artifact import write_artifact
from pipeline.packaging.formats import open_formats
from pipeline.packaging.latency import measure_milliseconds
from pipeline.packaging.parity import answer_all, prove_parity, some_of
from pipeline.packaging.reference import known_faces, write_reference
from pipeline.params import Params
from pipeline.registry.registry import registered_name


@dataclass(frozen=True)
class Forced:
    """A version that shall become champion whatever the gate says, and why."""

    version: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """What a decision is taken by: the candidates' predictions, the frozen test faces, and whether the data is valid.

    `faces` has `face_id, label_id, dataset, split, ...`; their images are in `folder`, and `splits` is the table that
    they are from. `metrics` is the folder with what `evaluate` found, for the card.
    """

    predictions: dict[str, pd.DataFrame]
    faces: pd.DataFrame
    folder: Path
    splits: Path
    metrics: Path
    valid_data: bool

    def choices(self, candidates: int) -> int:
        """Return among how many of the candidates these very faces chose: all, where they ranked them as well."""
        return candidates if "validation" in set(self.faces.split) else 1


@dataclass(frozen=True)
class Candidate:
    """A version that is decided about, in the form in which it would be registered and served.

    `weights_sha256` is of the checkpoint, which takes seconds for a large one. `folder` has the exported model and all
    that goes with it; that model answered `answers`, probabilities (n, 7), for the evidence's test faces, takes
    `megabytes`, and `milliseconds` for one face.
    """

    checkpoint: Checkpoint
    weights_sha256: str
    folder: Path
    answers: NDArray[np.float32]
    megabytes: float
    milliseconds: float

    @property
    def version(self) -> str:
        """Its name."""
        return str(self.checkpoint.facts["version"])


class ExportCandidate(Protocol):
    """How a trained version becomes a candidate: `export_candidate`, or what a test has in its place."""

    def __call__(
        self, checkpoint: Checkpoint, weights_sha256: str, folder: Path, evidence: Evidence, params: Params
    ) -> Candidate:
        """Export a version into an empty folder, which is made."""
        ...


def export_candidate(
    checkpoint: Checkpoint, weights_sha256: str, folder: Path, evidence: Evidence, params: Params
) -> Candidate:
    """Export a version, prove that it answers like its checkpoint, and let it answer for the test faces.

    Args:
        checkpoint: the version.
        weights_sha256: of its weights.
        folder: where it is written as it would be registered, with what it answers for validation faces; made here.
        evidence: has the faces.
        params: those of `faces`, `monitor` and `package`.

    Raises:
        PipelineError: if an exported format does not answer like the checkpoint.
    """
    answered = evidence.predictions[str(checkpoint.facts["version"])]
    known = known_faces(answered, checkpoint.recipe.data, params.monitor.reference_faces)
    file = write_artifact(checkpoint, folder, params.faces.yunet, fit_projection(checkpoint, evidence.folder, known))
    name = registered_name(drawn=checkpoint.facts["drawn"])
    predictor = Predictor(file, name=name, version=str(checkpoint.facts["version"]))
    some = read_images(evidence.folder, some_of(evidence.faces, params.package.faces))
    prove_parity(checkpoint, predictor, open_formats(folder, predictor), some, params.package.tolerance)
    face = predictor.stack(predictor.faces(some[0], detect=False))
    (milliseconds,) = measure_milliseconds([predictor], face)
    answers = answer_all(predictor, evidence.folder, evidence.faces)
    write_reference(folder / REFERENCE, predictor, evidence.folder, known)
    return Candidate(checkpoint, weights_sha256, folder, answers, file.stat().st_size / 1e6, milliseconds)
