"""The scores of the recipes on the embedded sample: high enough that their differences mean something."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from pipeline.datasets.tables import read_split
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipeline.params import load_params
from pipeline.stages import download, harmonize, split
from pipeline.stages.evaluate import predict
from pipeline.stages.train import train
from pipeline.training.clips import open_data
from pipeline.training.parents import Parents

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
VERSIONS = ("v1", "v2", "v3", "v4", "v5", "v6", "v7")
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the faces and splits of the sample."""
    data = tmp_path_factory.mktemp("sample")
    shutil.copy(ROOT / "params.yaml", data)
    (data / "metrics").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(data)
        for name in PARAMS.use:
            download.main(name, data / "raw" / name)
            table, metrics = data / "faces" / f"{name}.parquet", data / "metrics" / f"{name}.json"
            harmonize.main(name, str(data / "raw" / name), str(table), metrics)
        split.main(data / "faces", data / "splits.parquet", data / "metrics" / "split.json")
    return data


def trained(data: Path, version: str, seed: int) -> Checkpoint:
    """Train a version, and the versions that it may start from; each once."""
    folder = data / "models" / str(seed) / version
    if not folder.exists():
        recipe, params = PARAMS.recipe(version), PARAMS.train.model_copy(update={"seed": seed})
        candidates = [trained(data, name, seed) for name in recipe.start_from]
        start = max(candidates, key=lambda parent: parent.facts["validation"]["macro_f1"], default=None)
        faces = open_data(recipe, data / "faces", data / "splits.parquet", seed=seed, workers=params.workers)
        work = data / "work" / f"{version}-{seed}"
        network, facts = train(version, recipe, faces, Parents(start), work, params, None)
        save_checkpoint(folder, network, recipe, {"version": version, "scale": "sample", **facts})
    return load_checkpoint(folder)


def score(predictions: pd.DataFrame, column: str) -> float:
    answers = np.stack(predictions[column]).argmax(1)
    return float(f1_score(predictions.label_id, answers, average="macro"))


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_learns_the_sample_and_test_time_augmentation_does_no_harm(data: Path, version: str) -> None:
    plain, augmented = [], []
    for seed in SEEDS:
        checkpoint = trained(data, version, seed)
        tables = [read_split(data / "faces", data / "splits.parquet", name, "test") for name in checkpoint.recipe.data]
        predictions = predict(checkpoint, data / "faces", pd.concat(tables, ignore_index=True), PARAMS.train.workers)
        plain.append(score(predictions, "probabilities"))
        augmented.append(score(predictions, "tta" if checkpoint.recipe.tta != "none" else "probabilities"))
    assert plain[0] > 0.55
    assert np.mean(plain) >= 0.60
    assert np.mean(augmented) >= np.mean(plain) - 0.03
