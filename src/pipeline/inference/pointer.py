"""The pointer: a small file that says which exported model is the champion. A service follows it, promote moves it."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import reached, sha256_of, write_json, written_whole
from pipeline.inference.card_files import CARD_FILES

SAMPLE_SUFFIX = "-sample"
READY_MADE = Path("ready-made") / "champion.json"
CACHE = Path("~/.cache/expression-pipeline")
DETECTOR_FILE = "detector.onnx"
BESIDE = (DETECTOR_FILE, *CARD_FILES)  # of a model, where it has them


@dataclass(frozen=True)
class Pointer:
    """What a pointer file says.

    `location` is the exported model: a path relative to the pointer's folder, an absolute path, or an address that
    fsspec reads (`s3://...`). `sha256` is the model's content as 64 hexadecimal digits.
    """

    name: str
    version: str
    location: str
    sha256: str

    @property
    def is_sample(self) -> bool:
        """Whether the model learned from drawn faces, and is therefore not for real use."""
        return self.name.endswith(SAMPLE_SUFFIX)


def read_pointer(file: Path) -> Pointer:
    """Read a pointer file.

    Raises:
        PipelineError: if there is none, or it says something else than the four fields of a `Pointer`.
    """
    try:
        pointer = Pointer(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PipelineError(f"there is no pointer {file}: run `make repro` first, or set FER_POINTER") from error
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{file} is no pointer: it must be JSON with name, version, location and sha256") from error
    if not all(isinstance(value, str) for value in asdict(pointer).values()):
        raise PipelineError(f"{file}: name, version, location and sha256 must be strings")
    if not re.fullmatch("[0-9a-f]{64}", pointer.sha256):
        raise PipelineError(f"{file}: sha256 must be 64 hexadecimal digits, not {pointer.sha256!r}")
    return pointer


def write_pointer(file: Path, pointer: Pointer) -> None:
    """Write a pointer file in one step, so that a service never reads half of one."""
    write_json(file, asdict(pointer))


def move_pointer(file: Path, champions: Sequence[Pointer]) -> Pointer:
    """Point a service to the first of the champions, or the first that learned from real faces, if there is one.

    One that learned from drawn faces never takes a real one's place, as long as its model is there.
    """
    chosen = min(champions, key=lambda champion: champion.is_sample)
    present = read_pointer(file) if file.exists() else None
    if present and not present.is_sample and chosen.is_sample and _is_there(file, present):
        return present
    if present != chosen:
        write_pointer(file, chosen)
    return chosen


def _is_there(file: Path, pointer: Pointer) -> bool:
    """Whether the model that a pointer file names exists; of an address, that is taken for granted."""
    return "://" in pointer.location or (file.parent / pointer.location).is_file()


def find_model(pointer_file: Path, pointer: Pointer) -> Path:
    """Return the path of the model that a pointer names, fetched into the cache where it is an address.

    Raises:
        PipelineError: if the model is missing, or its content is not the one the pointer names.
    """
    model = _fetch(pointer) if "://" in pointer.location else pointer_file.parent / pointer.location
    if not model.is_file():
        raise PipelineError(f"{pointer_file} names the model {pointer.location}, which does not exist")
    found = sha256_of(model)
    if found != pointer.sha256:
        raise PipelineError(
            f"{model} is not the model that {pointer_file} names: its SHA-256 is {found[:12]}..., "
            f"not {pointer.sha256[:12]}...; restore it with `dvc checkout`, or promote again"
        )
    return model


def choose_model(pointer_file: Path) -> tuple[Pointer, Path]:
    """Return what to serve: the champion, else the ready-made model beside it, else the champion of drawn faces.

    Args:
        pointer_file: the champion's pointer; the ready-made model's is `ready-made/champion.json` in its folder.

    Returns:
        The pointer and the path of its model, whose content was checked.

    Raises:
        PipelineError: if there is nothing to serve, or what there is does not fit its pointer. A champion that is
            broken is an error, and no reason to serve another model in its name.
    """
    ready_made = pointer_file.parent / READY_MADE
    pointers = {file: read_pointer(file) for file in (pointer_file, ready_made) if file.exists()}
    if not pointers:
        raise PipelineError(f"no model to serve yet: run `make repro` first (there is no {pointer_file})")
    file = min(pointers, key=lambda candidate: pointers[candidate].is_sample)  # the first one, where both are real
    return pointers[file], find_model(file, pointers[file])


def _fetch(pointer: Pointer) -> Path:
    """Copy a model from an address into the cache, with its detector and card, once for each content."""
    model = CACHE.expanduser() / pointer.sha256 / "model.onnx"
    if model.is_file():
        return model
    with reached(pointer.location):
        import fsspec  # not in the Bento, whose pointer is always relative

        system, path = fsspec.core.url_to_fs(pointer.location)
        content = system.cat_file(path)
        folder = path.rpartition("/")[0]
        beside = {name: system.cat_file(f"{folder}/{name}") for name in BESIDE if system.exists(f"{folder}/{name}")}
    if hashlib.sha256(content).hexdigest() != pointer.sha256:
        raise PipelineError(f"the model at {pointer.location} is not the one its pointer names: its SHA-256 differs")
    for name, found in {**beside, model.name: content}.items():  # the model last: where it is, all is
        with written_whole(model.with_name(name)) as partial:
            partial.write_bytes(found)
    return model
