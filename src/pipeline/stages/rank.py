"""A stage of the zoo: all systems in one table, the best first."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.command import run
from pipeline.files import read_output, written_whole
from pipeline.params import load_params

logger = logging.getLogger(__name__)

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


def main(metrics: Path, table: Path) -> None:
    """Rank the systems of the zoo by the files in METRICS; write the TABLE."""
    zoo = load_params().zoo
    stages = {name: f"zoo/dvc.yaml:evaluate@{name}" for name in zoo.run}
    stages |= {name: f"zoo/dvc.yaml:evaluate_clips@{name}" for name in zoo.sequences}
    stages |= {name: f"zoo/dvc.yaml:combine@{name}" for name in zoo.ensembles}
    ranked = rank({name: read_output(metrics / f"{name}.json", stage) for name, stage in stages.items()})
    with written_whole(table) as file:
        ranked.round(4).to_csv(file, index=False)
    logger.info("%s", ranked.drop(columns="tta").round(3).to_string(index=False))


if __name__ == "__main__":
    run(main)
