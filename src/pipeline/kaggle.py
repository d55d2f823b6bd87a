"""Datasets from Kaggle, on the user's own credentials, through kagglehub and its cache."""

import logging
import time
from pathlib import Path

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

from pipeline.errors import PipelineError
from pipeline.sources import SOURCES

logger = logging.getLogger(__name__)

KAGGLE_ERRORS = (
    OSError, ValueError, BackendError, CredentialError, DataCorruptionError, KaggleEnvironmentError, NotFoundError,
    UnauthenticatedError,
)  # fmt: skip
PAUSES = (2, 10, 60)  # seconds between attempts
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


def fetch(dataset: str) -> Path:
    """Download a dataset into kagglehub's cache, where an attempt goes on from what the one before got."""
    handle = SOURCES[dataset].handle
    for pause in (*PAUSES, None):
        try:
            return Path(kagglehub.dataset_download(handle))
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
