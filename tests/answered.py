"""Answers as a service logs them; light enough for a process of its own."""

import numpy as np

from pipeline.inference.answers import Answered, Look, now

LOOK = Look(width=80, height=90, score=0.9, brightness=120, sharpness=500)


def answered(faces: int = 1, version: str = "1", summary: int = 0) -> Answered:
    """Return the answer for a picture with some faces, by a model with so many numbers behind its probabilities."""
    outputs = np.random.default_rng(0).dirichlet(np.ones(7), faces)
    return Answered(now(), "model", version, [LOOK] * faces, np.pad(outputs, ((0, 0), (0, summary))).astype(np.float32))
