import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference import pointer as pointers
from pipeline.inference.pointer import Pointer, choose_model, find_model, read_pointer, write_pointer


def write_model(folder: Path, name: str = "expression-classifier", content: bytes = b"model") -> Pointer:
    """Put a model and its pointer `champion.json` into a folder."""
    model = folder / "registry" / name / "3.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(content)
    pointer = Pointer(name, "3", f"registry/{name}/3.onnx", sha256_of(model))
    write_pointer(folder / "champion.json", pointer)
    return pointer


def test_pointer_comes_back_as_it_was_written(tmp_path: Path) -> None:
    pointer = write_model(tmp_path)
    assert read_pointer(tmp_path / "champion.json") == pointer
    assert find_model(tmp_path / "champion.json", pointer) == tmp_path / pointer.location


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '"x"', '{"name": "a"}', '{"name":1,"version":2,"location":3,"sha256":4}']
)
def test_what_is_no_pointer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "champion.json").write_text(content)
    with pytest.raises(PipelineError, match=r"champion\.json"):
        read_pointer(tmp_path / "champion.json")


def test_missing_and_changed_models_are_told_apart(tmp_path: Path) -> None:
    pointer = write_model(tmp_path)
    (tmp_path / pointer.location).write_bytes(b"another")
    with pytest.raises(PipelineError, match="is not the model"):
        find_model(tmp_path / "champion.json", pointer)
    (tmp_path / pointer.location).unlink()
    with pytest.raises(PipelineError, match="does not exist"):
        find_model(tmp_path / "champion.json", pointer)


def test_model_at_an_address_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(pointers, "CACHE", tmp_path / "cache")
    pointer = write_model(tmp_path)
    far = Pointer("far", "1", "memory://models/1.onnx", pointer.sha256)
    system = fsspec.filesystem("memory")
    system.pipe({"/models/1.onnx": b"model", "/models/detector.onnx": b"yunet", "/models/card.json": b"{}"})
    found = find_model(tmp_path / "champion.json", far)
    assert found.read_bytes() == b"model"
    beside = {file.name: file.read_bytes() for file in found.parent.iterdir() if file != found}
    assert beside == {"detector.onnx": b"yunet", "card.json": b"{}"}
    system.rm("/models", recursive=True)
    assert find_model(tmp_path / "champion.json", far).read_bytes() == b"model"
    with pytest.raises(PipelineError, match="can not be reached"):
        find_model(tmp_path / "champion.json", Pointer("far", "2", "memory://models/2.onnx", "0" * 64))


@pytest.mark.parametrize(
    ("champion", "ready_made", "served"),
    [
        ("expression-classifier", None, "expression-classifier"),
        ("expression-classifier", "ready", "expression-classifier"),
        ("expression-classifier-sample", "ready", "ready"),
        ("expression-classifier-sample", None, "expression-classifier-sample"),
        (None, "ready", "ready"),
    ],
)
def test_order_of_what_is_served(champion: str | None, ready_made: str | None, served: str, tmp_path: Path) -> None:
    if champion:
        write_model(tmp_path, champion)
    if ready_made:
        write_model(tmp_path / "ready-made", ready_made)
    pointer, model = choose_model(tmp_path / "champion.json")
    assert pointer.name == served
    assert model.read_bytes() == b"model"


def test_broken_champion_is_not_replaced_by_another(tmp_path: Path) -> None:
    write_model(tmp_path / "ready-made", "ready")
    pointer = write_model(tmp_path)
    (tmp_path / pointer.location).unlink()
    with pytest.raises(PipelineError, match="does not exist"):
        choose_model(tmp_path / "champion.json")


def test_nothing_to_serve_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run `make repro` first"):
        choose_model(tmp_path / "champion.json")


def test_pointer_file_reads_well(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert list(json.loads((tmp_path / "champion.json").read_text())) == ["name", "version", "location", "sha256"]
