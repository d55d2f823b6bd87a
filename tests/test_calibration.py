import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset
from torchmetrics.functional.classification import multiclass_calibration_error as calibration_error

from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe
from pipeline.training.calibration import COLDEST, calibrate, fit_temperature


def answers(count, seed=0):
    """Logits, and labels drawn with the very probabilities that they say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 7, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_it_finds_by_what_the_logits_were_multiplied(factor):
    logits, label_ids = answers(20_000)
    assert fit_temperature(factor * logits, label_ids) == pytest.approx(factor, rel=0.03)


def test_it_is_scikit_learns_temperature():
    features, label_ids = answers(600)
    model = LogisticRegression(C=1000).fit(features[:100], label_ids[:100])
    scaled = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(features[100:], label_ids[100:])
    logits = torch.from_numpy(model.decision_function(features[100:].numpy()))
    temperature = fit_temperature(logits, label_ids[100:])
    theirs = torch.from_numpy(scaled.predict_proba(features[100:].numpy()))
    assert torch.allclose((logits / temperature).softmax(1), theirs, atol=1e-3)


def test_answers_that_are_all_right_can_not_be_too_sure():
    label_ids = torch.arange(7)
    assert fit_temperature(torch.eye(7), label_ids) == pytest.approx(COLDEST, rel=0.01)


def test_a_network_that_is_too_sure_is_calibrated_and_answers_the_same():
    recipe = Recipe(data=("fer2013",), backbone="test_resnet", pretrained=False, image_size=48)
    torch.manual_seed(0)
    network = ExpressionNetwork(recipe).eval()
    faces = torch.randint(0, 256, (400, 48, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        raw = network(faces)
        sure = 3 * (raw - raw.mean(0)) / raw.std(0)
        network.head[-1].weight.mul_(3 / raw.std(0)[:, None])
        network.head[-1].bias.sub_(raw.mean(0)).mul_(3 / raw.std(0))
        label_ids = torch.multinomial((sure / 2.5).softmax(1), 1)[:, 0]
        before = network(faces)
        temperature = calibrate(network, TensorDataset(faces, label_ids))
        after = network(faces)
    assert temperature == pytest.approx(2.5, rel=0.25)
    assert network.temperature == pytest.approx(temperature)
    assert torch.equal(before.argmax(1), after.argmax(1))
    assert cross_entropy(after, label_ids) < cross_entropy(before, label_ids)
    errors = [calibration_error(logits.softmax(1), label_ids, 7, n_bins=10) for logits in (before, after)]
    assert errors[1] < errors[0] / 2
