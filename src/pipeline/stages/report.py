"""Stage 9: render the pages about the data and the versions, each one file that opens without a network."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from pipeline.command import run
from pipeline.datasets.tables import read_all_splits, read_faces
from pipeline.evaluation.predictions import read_weights_sha256
from pipeline.files import read_output, written_whole
from pipeline.pages.data import data_page
from pipeline.pages.version import version_page
from pipeline.pages.versions import decisions_by_weights, read_version, versions_page
from pipeline.params import load_params
from pipeline.registry import tracking

logger = logging.getLogger(__name__)


def write_data_page(
    datasets: Sequence[str], faces: Path, splits: Path, validation: Path, harmonized: Path, page: Path
) -> None:
    """Render the page about the data.

    Args:
        datasets: in use.
        faces: folder with a table of faces per dataset.
        splits: the table of splits.
        validation: what `validate` found, as JSON.
        harmonized: folder with what `harmonize` counted, a JSON file per dataset.
        page: file to write to.

    Raises:
        PipelineError: if something is missing or damaged, naming the stage that makes it.
    """
    columns = ("face_id", "label", "dataset", "pixel_sha256")
    table = pd.concat([read_faces(faces, name, columns) for name in datasets], ignore_index=True)
    checks = read_output(validation, "validate")["expectations"]
    with written_whole(page) as file:
        file.write_text(data_page(table, read_all_splits(splits), checks, harmonized, faces), encoding="utf-8")


def write_version_pages(
    names: Iterable[str], models: Path, predictions: Path, metrics: Path, pictures: Path, pages: Path
) -> None:
    """Render a page per version, and log it to the version's MLflow run.

    Args:
        names: of the versions.
        models: folder of the trained versions.
        predictions: folder with what each answered, a table per version.
        metrics: folder with what each scored, a JSON file per version.
        pictures: folder with the pictures of each in a folder of its own.
        pages: folder to write to, `<version>.html`.

    Raises:
        PipelineError: if something is missing or damaged, naming the stage that makes it, or if the tracking server
            does not answer.
    """
    with tracking.answering():
        client = tracking.connect()
        for name in names:
            facts = read_output(models / name / "model.json", f"train@{name}")
            scores = read_output(metrics / f"{name}.json", f"evaluate@{name}")
            weights_sha256 = read_weights_sha256(predictions / f"{name}.parquet")
            page = pages / f"{name}.html"
            with written_whole(page) as file:
                file.write_text(version_page(facts, weights_sha256, scores, pictures / name), encoding="utf-8")
            run_id = tracking.run_of(client, name, facts, weights_sha256)
            tracking.log_result(client, run_id, {}, {}, {"report": page})


def main(
    models: Path,
    faces: Path,
    splits: Path,
    predictions: Path,
    metrics: Path,
    pictures: Path,
    data: Path,
    pages: Path,
    versions: Path,
) -> None:
    """Render the page about DATA, a folder of PAGES with one per version in `run`, and the page that compares VERSIONS.

    All is read from what the stages before left: MODELS, FACES, SPLITS, PREDICTIONS, METRICS and PICTURES.
    """
    params = load_params()
    write_data_page(params.use, faces, splits, metrics / "validation.json", metrics / "harmonize", data)
    with written_whole(pages) as folder:
        folder.mkdir()
        write_version_pages(params.run, models, predictions, metrics, pictures, folder)
    # By name: the folders may hold versions that are no longer in `run`.
    compared = [read_version(name, models, predictions, metrics) for name in params.run if params.recipe(name).promote]
    with written_whole(versions) as file:
        file.write_text(versions_page(compared, decisions_by_weights(metrics / "promotion.json")), encoding="utf-8")
    logger.info("%d versions side by side; see %s", len(compared), versions)


if __name__ == "__main__":
    run(main)
