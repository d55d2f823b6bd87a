"""A ranking of systems by what they scored."""

from typing import Any

import pandas as pd

SCORES = ("n", "accuracy", "macro_f1", "weighted_f1", "ece")


def rank(metrics: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Put the metrics of systems, by name, into one table, sorted by accuracy on the faces that each is judged by.

    Returns:
        `system`, the `classes` that it tells apart, the `n` faces or clips that it is judged by, scores in 0..1 with
        the 95 % interval of the accuracy (`low`, `high`), and `tta`, the accuracy with test-time augmentation, where
        there is one. Of other classes or another `n`, systems do not compare.
    """
    rows = []
    for name, found in metrics.items():
        own, classes = found["own"], list(found["classes"])
        low, high = own["ci95"]["accuracy"]
        rows.append(
            {
                "system": name,
                "classes": len(classes),
                **{key: own[key] for key in SCORES},
                "low": low,
                "high": high,
                "tta": own["tta"] and own["tta"]["accuracy"],
            }
        )
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)
