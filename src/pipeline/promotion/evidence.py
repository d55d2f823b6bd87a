"""What a decision of the gate is about, and what it is taken by."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.networks.checkpoint import Checkpoint


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
class Contender:
    """A version that is decided about, and the SHA-256 of its weights, which a large one takes seconds to tell."""

    checkpoint: Checkpoint
    weights_sha256: str

    @property
    def version(self) -> str:
        """Its name."""
        return str(self.checkpoint.facts["version"])
