"""Stage 1: bring a dataset, untouched, into its raw folder: one file, and a manifest that is written last."""

import io
import logging
from pathlib import Path
from typing import Any

from pipeline import sample
from pipeline.command import run
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_json, written_whole
from pipeline.params import NO_PATHS, SampleParams, load_params
from pipeline.sources import SOURCES, kaggle
from pipeline.sources.archive import bring, pack
from pipeline.sources.fingerprint import fingerprint
from pipeline.sources.raw import MANIFEST

logger = logging.getLogger(__name__)


def download(dataset: str, source: str, folder: Path, drawn: SampleParams) -> dict[str, Any]:
    """Bring a dataset into `folder`.

    Args:
        dataset: its name.
        source: `sample` (drawn), `kaggle` (on the user's credentials), or the path of a folder, zip, tar or CSV file.
        folder: where to; takes the place of what was there, in one step at the end.
        drawn: how many faces the sample has, and their seed.

    Returns:
        the manifest: dataset, `drawn` (whether the faces are the sample's), and the file's name, bytes and SHA-256.

    Raises:
        PipelineError: if the source is not there, is no archive, may not be read or finds no room here, if Kaggle
            does not give it, or if the folder can not be written.
    """
    _check_target(folder, source)
    try:
        with written_whole(folder) as partial:
            partial.mkdir()
            file = _fetch(dataset, source, partial, drawn)
            entry = {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
            logger.info("%s: %s, %.1f MB", dataset, file.name, file.stat().st_size / 1e6)
            manifest = {"dataset": dataset, "drawn": source == "sample", "file": entry}
            write_json(partial / MANIFEST, manifest)
    except OSError as error:
        where = error.filename or source
        raise PipelineError(f"datasets.{dataset}.from: {where} can not be copied: {error.strerror}") from error
    return manifest


def _check_target(folder: Path, source: str) -> None:
    """Refuse to put a download in the place of what was not downloaded."""
    here, there = Path(source).resolve(), folder.resolve()
    if source not in NO_PATHS and (there == here or here in there.parents or there in here.parents):
        raise PipelineError(
            f"{folder}, where the download goes, and {source} lie one in the other; move the source away"
        )
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        raise PipelineError(f"{folder} holds what was not downloaded, and would be lost; name another folder")


def _fetch(dataset: str, source: str, folder: Path, drawn: SampleParams) -> Path:
    if source == "sample":
        drawings = sample.draw(dataset, drawn.faces_per_class, drawn.seed)
        files = ((path, io.BytesIO(content)) for path, content in drawings)
        return pack(folder / f"{dataset}.zip", files, f"draw {dataset}")
    path = kaggle.fetch(dataset) if source == "kaggle" else Path(source)
    try:
        return bring(path, folder, dataset)
    except PipelineError as error:
        raise PipelineError(
            f"datasets.{dataset}.from: {error}; expected a folder, zip, tar or CSV file with {SOURCES[dataset].layout}"
        ) from error


def main(dataset: str, folder: Path) -> None:
    """Bring DATASET, from where `params.yaml` says, into FOLDER."""
    params = load_params()
    source = params.dataset(dataset).source
    download(dataset, source, folder, params.sample)
    write_json(folder.with_name(f"{dataset}.source.json"), fingerprint(source))


if __name__ == "__main__":
    run(main)
