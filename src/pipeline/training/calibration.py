"""Temperature scaling: one number that makes a network as sure as it is right, and changes no answer."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from pipeline.networks.network import ExpressionNetwork
from pipeline.training.loading import Examples

COLDEST, HOTTEST = 0.05, 20.0  # the temperatures that are looked through
BATCH = 64


def calibrate(network: ExpressionNetwork, examples: Examples, workers: int = 0) -> float:
    """Fit a network's temperature on validation faces, or clips, set it, and return it.

    Args:
        network: in evaluation; it goes to the GPU if there is one, and its logits are divided from then on.
        examples: which it did not learn from.
        workers: processes that prepare them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).temperature.fill_(1.0)
    answers, label_ids = [], []
    with torch.inference_mode():
        for batch, ids in DataLoader(examples, BATCH, num_workers=workers):
            answers.append(network(batch.to(device)).float().cpu())
            label_ids.append(ids)
    temperature = fit_temperature(torch.cat(answers), torch.cat(label_ids))
    network.temperature.fill_(temperature)
    return temperature


def fit_temperature(logits: Tensor, label_ids: Tensor) -> float:
    """Return the temperature at which the cross-entropy is least (Guo et al. 2017, "On Calibration", ICML).

    Above 1 the answers were surer than right, below 1 less sure. Where all are right, the coldest is the best.

    Args:
        logits: (n, classes), of faces that were not learned from.
        label_ids: (n,).
    """
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(logits / math.exp(log_temperature), label_ids))

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
