"""How far the confidence of a version's answers can be relied on, before and after calibration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.evaluation.metrics import Ids, Probabilities, bin_confidence, calibration_error


def measure_calibration(label_ids: Ids, probabilities: Probabilities, temperature: float, bins: int) -> dict[str, Any]:
    """Hold confidence against accuracy (Niculescu-Mizil and Caruana 2005; Guo et al. 2017).

    Args:
        label_ids: (n,) true classes.
        probabilities: (n, classes), as the calibrated network answers.
        temperature: by which its logits were divided.
        bins: of equal width that the confidence, 0..1, is cut into.

    Returns:
        `temperature, ece, ece_uncalibrated`, and `bins` and `bins_uncalibrated`: of each bin `from, to, n, confidence`
        (its mean) and `accuracy`, both None where it is empty. Uncalibrated is what the network answered without the
        temperature.
    """
    before = uncalibrated(probabilities, temperature)
    return {
        "temperature": temperature,
        "ece": calibration_error(label_ids, probabilities, bins),
        "ece_uncalibrated": calibration_error(label_ids, before, bins),
        "bins": bin_confidence(label_ids, probabilities, bins),
        "bins_uncalibrated": bin_confidence(label_ids, before, bins),
    }


def uncalibrated(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (n, classes) that a network gives whose logits are not divided by the temperature.

    Log-probabilities are logits but for a constant that softmax does not see.
    """
    tiny = np.finfo(np.float32).tiny  # what float32 rounded to 0 is no surer than that
    return softmax(temperature * np.log(np.maximum(probabilities.astype(np.float64), tiny)), axis=1)
