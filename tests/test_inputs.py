import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tables import write_tables

from pipeline.errors import PipelineError
from pipeline.files import read_json, write_json
from pipeline.stages.inputs import inputs, main

Data = tuple[Path, Path]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Return the folder of faces and the file of splits of two datasets."""
    return write_tables(tmp_path, ("fer2013", "rafdb"))


def move(splits: Path, dataset: str) -> None:
    """Put one face of a dataset into no split."""
    table = pd.read_parquet(splits)
    table.loc[table.index[table.dataset == dataset][0], "split"] = "none"
    table.to_parquet(splits)


def test_hash_is_the_same_for_the_same_data(data: Data) -> None:
    before = inputs(("fer2013", "rafdb"), *data)
    assert inputs(("fer2013", "rafdb"), *data) == before
    assert before["fer2013"] != before["rafdb"]
    assert {len(value) for value in before.values()} == {64}


def test_hash_changes_with_the_own_faces_only(data: Data) -> None:
    before = inputs(("fer2013", "rafdb"), *data)
    with (data[0] / "rafdb.parquet").open("ab") as file:
        file.write(b"one byte more")
    after = inputs(("fer2013", "rafdb"), *data)
    assert after["fer2013"] == before["fer2013"]
    assert after["rafdb"] != before["rafdb"]


def test_hash_changes_with_the_own_splits_only(data: Data) -> None:
    before = inputs(("fer2013", "rafdb"), *data)
    move(data[1], "rafdb")
    after = inputs(("fer2013", "rafdb"), *data)
    assert after["fer2013"] == before["fer2013"]
    assert after["rafdb"] != before["rafdb"]


def test_another_dataset_may_come_and_go(data: Data) -> None:
    before = inputs(("fer2013",), *data)
    table = pd.read_parquet(data[1])
    table[table.dataset == "fer2013"].reset_index(drop=True).to_parquet(data[1])
    (data[0] / "rafdb.parquet").unlink()
    assert inputs(("fer2013",), *data) == before


def test_missing_faces_are_named(data: Data) -> None:
    with pytest.raises(PipelineError, match=r"affectnet\.parquet is missing; run `dvc repro harmonize@affectnet`"):
        inputs(("affectnet",), *data)


def test_main_hashes_the_datasets_of_the_version(
    data: Data, tmp_path: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params({"use": ["fer2013", "rafdb"]})
    monkeypatch.chdir(tmp_path)
    main("v3", tmp_path / "v3", *data)
    assert read_json(tmp_path / "v3" / "faces.json") == inputs(("rafdb",), *data)


def test_main_writes_the_recipe_as_it_runs(
    data: Data, tmp_path: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    for changes in ({}, {"recipes.v3.at_sample.most_steps": 3999}, {"recipes.v3.batch_size": 4}, {"scale": "full"}):
        write_params({"use": ["fer2013", "rafdb"], "run": ["v3"], **changes})
        main("v3", tmp_path / "v3", *data)
        written.append(read_json(tmp_path / "v3" / "recipe.json"))
    assert written[0]["backbone"] == "convnext_atto"  # what `at_sample` says has been applied
    assert [other != written[0] for other in written] == [False, True, True, True]
    assert written[0]["loss"] == {"label_smoothing": 0.0, "class_weights": "none", "focal": 0.0}  # with the defaults


def test_main_tells_a_parent_by_its_weights_its_score_and_whether_it_saw_drawn_faces(tmp_path: Path) -> None:
    facts = {"version": "v3", "validation": {"macro_f1": 0.5, "accuracy": 0.6}, "drawn": True}
    write_json(tmp_path / "model.json", facts)
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    main("v7", tmp_path / "v7", parent=tmp_path)
    expected = {"weights_sha256": hashlib.sha256(b"weights").hexdigest(), "validation_macro_f1": 0.5, "drawn": True}
    assert read_json(tmp_path / "v7" / f"{tmp_path.name}.json") == expected


def test_main_without_data_or_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="--faces and --splits, or --parent"):
        main("v7", tmp_path / "v7")
