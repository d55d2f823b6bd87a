"""Building the Bento that serves one model."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from pipeline.errors import PipelineError
from pipeline.inference.card_files import CARD_FILES, TEXT_FILE
from pipeline.inference.pointer import DETECTOR_FILE, Pointer, find_model, read_pointer, write_pointer
from pipeline.inference.variants import find_variant, offers_file, read_offers, variant_file

NAME = "expression_service"


def build_bento(root: Path, pointer_file: Path, version: str) -> str:
    """Build a Bento with the model that a pointer names, the variants offered beside it, and no other.

    It is built from a staging folder: `bentofile.yaml` can name files, but not "the one that the pointer points to".

    Args:
        root: the repository, with `bentofile.yaml`, `service.py` and `src/pipeline`.
        pointer_file: the champion's pointer.
        version: what the Bento's version shall be; one that exists already is replaced.

    Returns:
        The Bento's tag, `name:version`; it lies in the Bento store (`BENTOML_HOME`).

    Raises:
        PipelineError: if the pointer's model is missing or not the one it names, or if BentoML fails.
    """
    pointer = read_pointer(pointer_file)
    model = find_model(pointer_file, pointer)
    tag = f"{NAME}:{version}"
    labels = {"model": pointer.name, "model_version": pointer.version, "model_sha256": pointer.sha256}
    with TemporaryDirectory(prefix="bento-") as folder:
        staging = Path(folder)
        _stage(root, pointer, model, staging)
        _run_bentoml(staging, "delete", "--yes", tag)  # fails where there is none, which is as good
        named = ["--name", NAME, "--version", version, *(f"--label={key}={value}" for key, value in labels.items())]
        done = _run_bentoml(staging, "build", "--bentofile", "bentofile.yaml", *named)
    if done.returncode:
        raise PipelineError(f"BentoML could not build {tag}:\n{done.stderr.strip() or done.stdout.strip()}")
    return tag


def _stage(root: Path, pointer: Pointer, model: Path, staging: Path) -> None:
    """Lay out what `bentofile.yaml` includes, as it lies in the repository, with one model."""
    for name in ("bentofile.yaml", "service.py", "Dockerfile.template"):
        shutil.copy(root / name, staging)
    package = Path("src") / "pipeline"
    shutil.copytree(root / package, staging / package, ignore=shutil.ignore_patterns("__pycache__"))
    location = Path("registry") / pointer.name / f"{pointer.version}.onnx"
    copied = staging / "models" / location
    copied.parent.mkdir(parents=True)
    shutil.copy(model, copied)
    for name in (DETECTOR_FILE, *CARD_FILES):
        if (beside := model.parent / name).is_file():
            shutil.copy(beside, copied.parent)
    if (card := copied.parent / TEXT_FILE).is_file():
        bentofile = staging / "bentofile.yaml"
        described = {**yaml.safe_load(bentofile.read_text()), "description": f"file:{card.relative_to(staging)}"}
        bentofile.write_text(yaml.safe_dump(described, sort_keys=False))
    offers = read_offers(model, pointer.sha256)
    for variant in (name for name, offer in offers.items() if offer["offered"]):
        find_variant(model, pointer.sha256, variant)
        shutil.copy(variant_file(model, variant), variant_file(copied, variant))
    if offers:
        shutil.copy(offers_file(model), offers_file(copied))
    write_pointer(staging / "models" / "champion.json", replace(pointer, location=location.as_posix()))


def _run_bentoml(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own, because BentoML imports the service from the folder, which is gone afterwards.
    command = [sys.executable, "-m", "bentoml", *arguments]
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
