"""Beside stage 8: put the versions side by side on one page that opens without a network."""

import logging
from pathlib import Path

from pipeline.command import run
from pipeline.evaluation.comparison import decisions_by_weights, read_version, versions_page
from pipeline.files import written_whole
from pipeline.params import load_params

logger = logging.getLogger(__name__)


def main(models: Path, predictions: Path, metrics: Path, promotion: Path, page: Path) -> None:
    """Compare the versions in `run` by their MODELS, PREDICTIONS, METRICS and the decision about PROMOTION: a PAGE."""
    # By name: the folders may hold versions that are no more in `run`.
    versions = [read_version(name, models, predictions, metrics) for name in load_params().run]
    champions = decisions_by_weights(promotion)
    with written_whole(page) as file:
        file.write_text(versions_page(versions, champions), encoding="utf-8")
    logger.info("%d versions side by side; see %s", len(versions), page)


if __name__ == "__main__":
    run(main)
