"""Test-time augmentation as it is served, beside the one of the evaluation."""

from pathlib import Path

import numpy as np
import torch
from toys import SIZE, picture, toy_model, toy_network

from pipeline.evaluation.views import average, views
from pipeline.inference.mirroring import averaged, shown
from pipeline.inference.predictor import Predictor
from pipeline.vision.transforms import resize

FACES = np.stack([resize(picture(seed=seed), SIZE) for seed in range(5)])


class Classifier:
    """A toy network as the evaluation asks one: for normalized faces, channels first."""

    def classify(self, faces: torch.Tensor) -> torch.Tensor:
        return toy_network()(faces.permute(0, 2, 3, 1))


def test_what_is_served_is_what_the_evaluation_computes(tmp_path: Path) -> None:
    predictor = Predictor(toy_model(tmp_path / "toy.onnx"), name="expression-classifier", version="1")
    served = predictor.probabilities(FACES, tta=True)
    with torch.no_grad():
        evaluated = average(Classifier(), torch.from_numpy(FACES).permute(0, 3, 1, 2), "flip")  # type: ignore[arg-type]
    np.testing.assert_allclose(served, evaluated.numpy(), atol=1e-6)
    assert np.abs(served - predictor.probabilities(FACES)).max() > 1e-4
    assert predictor.probabilities(FACES[:0], tta=True).shape == (0, len(served[0]))


def test_the_views_and_their_mean_are_the_same_to_the_bit() -> None:
    ours = shown(FACES, tta=True)
    theirs = torch.cat(list(views(torch.from_numpy(FACES).permute(0, 3, 1, 2), "flip"))).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(ours, theirs)
    rows = np.random.default_rng(0).random((10, 7)).astype(np.float32)
    mean = torch.stack([torch.from_numpy(rows[:5]), torch.from_numpy(rows[5:])]).mean(0).numpy()
    np.testing.assert_array_equal(averaged(rows, tta=True), mean)
    assert averaged(rows, tta=False) is rows
    assert shown(FACES, tta=False) is FACES
