"""Stage 1: bring a dataset, untouched, into its raw folder: one file, and a manifest that is written last."""

import io
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import kagglehub
import requests
from kagglehub.exceptions import (
    BackendError,
    CredentialError,
    DataCorruptionError,
    KaggleEnvironmentError,
    NotFoundError,
    UnauthenticatedError,
)

from pipeline import sample
from pipeline.archive import bring, pack
from pipeline.command import run
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_json
from pipeline.params import SampleParams, load_params
from pipeline.raw import MANIFEST
from pipeline.sources import SOURCES
from pipeline.sources.fingerprint import fingerprint

logger = logging.getLogger(__name__)

KAGGLE_ERRORS = (
    OSError, ValueError, BackendError, CredentialError, DataCorruptionError, KaggleEnvironmentError, NotFoundError,
    UnauthenticatedError,
)  # fmt: skip
PAUSES = (2, 10, 60)  # seconds between attempts
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


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
        PipelineError: if the source is not there, is no archive, or Kaggle does not give it.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        file = _fetch(dataset, source, partial, drawn)
        entry = {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        logger.info("%s: %s, %.1f MB", dataset, file.name, file.stat().st_size / 1e6)
        manifest = {"dataset": dataset, "drawn": source == "sample", "file": entry}
        write_json(partial / MANIFEST, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _fetch(dataset: str, source: str, folder: Path, drawn: SampleParams) -> Path:
    if source == "sample":
        drawings = sample.draw(dataset, drawn.faces_per_class, drawn.seed)
        files = ((path, io.BytesIO(content)) for path, content in drawings)
        return pack(folder / f"{dataset}.zip", files, f"draw {dataset}")
    path = Path(_kaggle(dataset)) if source == "kaggle" else Path(source)
    try:
        return bring(path, folder, dataset)
    except PipelineError as error:
        raise PipelineError(
            f"datasets.{dataset}.from: {error}; give a folder, zip, tar or CSV file with {SOURCES[dataset].layout}"
        ) from error
    except OSError as error:
        where = error.filename or path
        raise PipelineError(f"datasets.{dataset}.from: {where} can not be copied: {error.strerror}") from error


def _kaggle(dataset: str) -> str:
    """Download from Kaggle into its own cache; what an attempt got, the next one goes on from."""
    handle = SOURCES[dataset].handle
    for pause in (*PAUSES, None):
        try:
            return kagglehub.dataset_download(handle)
        except KAGGLE_ERRORS as error:
            why = " ".join(str(error).split())[:200]
            if pause is None or not may_pass(error):
                raise PipelineError(
                    f"datasets.{dataset}.from: kaggle does not give {handle} ({why}); check the network, put an API "
                    f"token into ~/.kaggle/kaggle.json and accept the licence on the dataset's page"
                ) from error
            logger.warning("%s: %s; trying again in %d s", handle, why, pause)
            time.sleep(pause)
    raise AssertionError  # the last attempt returns or raises


def may_pass(error: Exception) -> bool:
    """Return whether a failure may be over at the next attempt: the network's and the server's own, not a refusal."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code == TOO_MANY_REQUESTS or error.response.status_code >= SERVER_ERROR
    return isinstance(error, requests.RequestException | DataCorruptionError)


def main(dataset: str, folder: Path) -> None:
    """Bring DATASET, from where `params.yaml` says, into FOLDER."""
    params = load_params()
    source = params.dataset(dataset).source
    download(dataset, source, folder, params.sample)
    write_json(folder.with_name(f"{dataset}.source.json"), fingerprint(source))


if __name__ == "__main__":
    run(main)
