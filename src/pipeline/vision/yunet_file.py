"""Where YuNet's file is: at a path, or in the user's cache, into which it is fetched once."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs
import requests

from pipeline.errors import PipelineError
from pipeline.files import sha256_of, written_whole

logger = logging.getLogger(__name__)

CACHE = "expression-pipeline"
PATIENCE = 30  # seconds without a byte


@dataclass(frozen=True)
class Pinned:
    """A file at an address, with the SHA-256 that its content must have."""

    address: str
    sha256: str


# The file is kept in Git LFS, whose pointer names this SHA-256; the commit stays when the main branch moves on.
MODEL_ZOO = Pinned(
    "https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models/face_detection_yunet/"
    "face_detection_yunet_2023mar.onnx",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
)


def find_yunet(setting: Path | Literal["fetch"] | None, pinned: Pinned = MODEL_ZOO) -> Path | None:
    """Return the path of YuNet's file, or None for the Haar cascade.

    Args:
        setting: `faces.yunet` in params.yaml: a path, nothing, or `fetch`, which brings the file of OpenCV's model zoo
            into the user's cache where it is not there yet.
        pinned: what is fetched.

    Raises:
        PipelineError: if the file can not be fetched, or is not the one that is pinned; the cache is left as it was.
    """
    if setting != "fetch":
        return setting
    file = platformdirs.user_cache_path(CACHE) / f"yunet-{pinned.sha256[:12]}.onnx"
    if not (file.is_file() and sha256_of(file) == pinned.sha256):
        logger.info("fetching YuNet from %s", pinned.address)
        _keep(_fetch(pinned), file)
    return file


def _fetch(pinned: Pinned) -> bytes:
    by_hand = "fetch it by hand and give its path, or set it to null for the Haar cascade"
    try:
        response = requests.get(pinned.address, timeout=PATIENCE)
        response.raise_for_status()
    except requests.RequestException as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(f"faces.yunet: {pinned.address} does not give the file ({why}); {by_hand}") from error
    found = hashlib.sha256(response.content).hexdigest()
    if found != pinned.sha256:
        raise PipelineError(
            f"faces.yunet: what {pinned.address} gives is not YuNet's file: its SHA-256 is {found[:12]}..., not "
            f"{pinned.sha256[:12]}...; {by_hand}"
        )
    return response.content


def _keep(content: bytes, file: Path) -> None:
    try:
        with written_whole(file) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise PipelineError(f"faces.yunet: {file} can not be written: {error.strerror}") from error
