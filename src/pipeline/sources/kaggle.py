"""Datasets from Kaggle, on the user's own credentials, through kagglehub and its cache."""

import fcntl
import logging
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partialmethod
from http import HTTPStatus
from pathlib import Path

import kagglehub
import requests
from kagglehub.cache import Cache, delete_from_cache, get_cached_archive_path
from kagglehub.clients import build_kaggle_client
from kagglehub.config import get_kaggle_credentials
from kagglehub.exceptions import (
    BackendError,
    CredentialError,
    DataCorruptionError,
    KaggleEnvironmentError,
    NotFoundError,
    handle_call,
)
from kagglehub.handle import DatasetHandle, parse_dataset_handle
from kagglesdk.datasets.types.dataset_api_service import ApiDataset, ApiGetDatasetRequest

from pipeline.errors import PipelineError
from pipeline.sources import SOURCES

logger = logging.getLogger(__name__)

PAUSES = (2, 10, 60)  # seconds between attempts
SILENCE = 60  # seconds without a byte after which an attempt is given up
DAMAGED = (DataCorruptionError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
# The network's and the disk's are OSErrors; the others come up in Kaggle's own notebooks.
REFUSED = (OSError, BackendError, CredentialError, KaggleEnvironmentError, NotFoundError)
TOKEN = (
    "make an API token at https://www.kaggle.com/settings and put it into ~/.kaggle/access_token or the variable "
    "KAGGLE_API_TOKEN"
)


def fetch(dataset: str) -> Path:
    """Download a dataset's newest version, unless kagglehub's cache has it.

    What an attempt got, the next one goes on from, also in a later run; what came damaged is thrown away.

    Args:
        dataset: its name.

    Returns:
        the folder in kagglehub's cache with the unpacked files.

    Raises:
        PipelineError: if Kaggle does not give it, or the cache's disk is too small for it.
    """
    handle = parse_dataset_handle(SOURCES[dataset].handle)
    try:
        _check_credentials()
        return _try(handle)
    except PipelineError as error:
        raise PipelineError(f"datasets.{dataset}.from: kaggle does not give {handle}: {error}") from error


def _check_credentials() -> None:
    # None at all are no fault yet: Kaggle gives some datasets to anybody.
    try:
        get_kaggle_credentials()
    except (OSError, ValueError) as error:
        raise PipelineError(f"your credentials can not be read ({_why(error)}); {TOKEN}") from error


def _try(handle: DatasetHandle) -> Path:
    for pause in (*PAUSES, None):
        try:
            with _given_up_after(SILENCE):
                return _download(handle)
        except (*REFUSED, *DAMAGED) as error:
            if pause is None or not _may_pass(error):
                raise PipelineError(_advice(error, handle)) from error
            logger.warning("%s: %s; trying again in %d s", handle, _why(error), pause)
            time.sleep(pause)
    raise AssertionError  # the last attempt returns or raises


@contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    # kagglehub asks without a timeout, and would wait for a server that fell silent for ever.
    send = requests.Session.send
    requests.Session.send = partialmethod(send, timeout=seconds)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def _download(handle: DatasetHandle) -> Path:
    described = _look_up(handle)
    handle = handle.with_version(described.current_version_number)
    archive = Path(get_cached_archive_path(handle))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(archive.parent):
        if not Cache().load_from_cache(handle):
            _check_space(archive, described.total_bytes)
        try:
            return Path(kagglehub.dataset_download(str(handle)))
        except DAMAGED:
            delete_from_cache(handle)  # files of a damaged archive would stay among those of a whole one
            archive.unlink(missing_ok=True)  # kagglehub would unpack it again, or go on from its end
            raise


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait for any other process that is in here: two would write to one archive, and unpack into one folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _look_up(handle: DatasetHandle) -> ApiDataset:
    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = handle.owner, handle.dataset
    with build_kaggle_client() as client:
        return handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request), handle)


def _check_space(archive: Path, size: int) -> None:
    present = archive.stat().st_size if archive.exists() else 0
    needed = 2 * size - present  # the archive, and beside it what is unpacked: pictures hardly shrink in a zip
    free = shutil.disk_usage(archive.parent).free
    if needed > free:
        raise PipelineError(
            f"it takes {needed / 1e9:.1f} GB, and {archive.parent} has {free / 1e9:.1f} GB left; make room there, or "
            f"name a folder on a larger disk in KAGGLEHUB_CACHE"
        )


def _may_pass(error: Exception) -> bool:
    """Return whether a failure may be over at the next attempt: the network's and the server's own, not a refusal."""
    status = _status(error)
    if status is not None:
        return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, (requests.RequestException, *DAMAGED))


def _advice(error: Exception, handle: DatasetHandle) -> str:
    page, status = f"https://www.kaggle.com/datasets/{handle}", _status(error)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not get_kaggle_credentials():
        return f"it asks who you are, and there are no credentials; {TOKEN}, and accept the licence at {page}"
    if status == HTTPStatus.UNAUTHORIZED:
        return f"it does not accept your credentials; {TOKEN}"
    if status == HTTPStatus.FORBIDDEN:
        return f"your account may not read it; log in and accept the licence at {page}"
    if status == HTTPStatus.NOT_FOUND:
        return "there is no such dataset any more; give the path of your own copy"
    if isinstance(error, DAMAGED):
        return f"what comes is damaged ({_why(error)}); try again later, or give the path of your own copy from {page}"
    if _may_pass(error):
        return f"{_why(error)}; check the network and try again later, it goes on where it stopped"
    return f"{_why(error)}; see {page}"


def _status(error: Exception) -> int | None:
    response = error.response if isinstance(error, requests.HTTPError) else None
    return None if response is None else response.status_code


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
