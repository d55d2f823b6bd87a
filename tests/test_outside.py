"""What DVC can not see, looked for in real files and a real store."""

import json
import os

import pytest

from pipeline.cli.outside import replaced_sources, stale_stages
from pipeline.errors import PipelineError
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.params import load_params
from pipeline.registry import history, registry, tracking
from pipeline.sources.fingerprint import fingerprint

NAME = "expression-classifier"


@pytest.fixture
def downloaded(tmp_path, write_params):
    """A source in a file, and what `download` remembers of it."""
    source = tmp_path / "fer2013.zip"
    source.write_bytes(b"one")
    (tmp_path / "fer2013.source.json").write_text(json.dumps(fingerprint(str(source))))
    params = load_params(write_params({"use": ["fer2013"], "run": ["v1"], "datasets.fer2013.from": str(source)}))
    return source, params


def test_an_untouched_source_is_not_downloaded_again(downloaded, tmp_path):
    assert replaced_sources(downloaded[1], tmp_path) == []


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_source_that_was_replaced_under_its_name_is_noticed(downloaded, tmp_path, change):
    source, params = downloaded
    if change == "size":
        source.write_bytes(b"another")
    else:
        os.utime(source, (1, 1))
    assert replaced_sources(params, tmp_path) == ["fer2013"]


def test_a_dataset_that_was_never_downloaded_is_dvcs_own_business(downloaded, tmp_path):
    (tmp_path / "fer2013.source.json").unlink()
    assert replaced_sources(downloaded[1], tmp_path) == []


def test_a_champion_that_the_registry_does_not_have_and_a_lost_bento_are_made_again(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pointer_file, promotion, package = (tmp_path / f"{name}.json" for name in ("champion", "promotion", "package"))
    package.write_text(json.dumps({"bento": "expression_service:never-built"}))
    assert stale_stages(pointer_file, promotion, package) == ["promote", "package"]
    write_pointer(pointer_file, Pointer(NAME, "1", "model.onnx", "0" * 64))
    promotion.write_text(json.dumps({"decisions": [{"model": NAME, "champion": {"version": "1"}}]}))
    assert stale_stages(pointer_file, promotion, package) == ["promote", "package"]
    client = tracking.connect()
    run_id = tracking.start_run(client, "v1", {}, {})
    (tmp_path / "model").mkdir()
    for _ in range(2):
        registry.register(client, NAME, run_id, tmp_path / "model", {"recipe": "v1"})
    client.set_registered_model_alias(NAME, "champion", "1")
    first = history.settle(client, NAME)
    assert stale_stages(pointer_file, promotion, package) == ["package"]
    with monkeypatch.context() as patch:
        patch.setattr("bentoml.get", lambda tag: None)  # it is there
        variants = {"full": {}, "int8": {"offered": True}, "fp16": {"offered": False}}
        package.write_text(json.dumps({"bento": "expression_service:built", "variants": variants}))
        assert stale_stages(pointer_file, promotion, package) == ["package"]
        (tmp_path / "model.int8.onnx").touch()
        assert stale_stages(pointer_file, promotion, package) == []
    package.write_text(json.dumps({"bento": "expression_service:never-built"}))
    second = registry.find_version(client, NAME, "2")
    history.append(client, first, "promotion", second, "better")  # from somewhere else
    assert stale_stages(pointer_file, promotion, package) == ["promote", "package"]
    write_pointer(pointer_file, Pointer(NAME, "2", "model.onnx", "0" * 64))  # or rolled back here
    assert stale_stages(pointer_file, promotion, package) == ["promote", "package"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match="does not answer"):  # it need not have lost anything
        stale_stages(pointer_file, promotion, package)
