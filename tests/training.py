"""Training a version on small tables, in this process or in others: used by several test files."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tables import write_made_from, write_tables
from torch import Tensor
from torch.testing import assert_close

from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.params import load_params
from pipeline.stages import train as stage

ROOT = Path(__file__).parents[1]
DATASETS = ("fer2013", "rafdb", "affectnet", "wild")


def set_param(root: Path, version: str, **changes: Any) -> None:
    """Change the recipe of a version."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["recipes"][version].update(changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def use_whole_network(root: Path, version: str) -> None:
    """Give a version the network of its recipe in place of the narrow one in the workplace."""
    recipe = yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"][version]
    set_param(root, version, backbone_args=recipe.get("backbone_args", {}), image_size=recipe.get("image_size", 224))


def set_scale(root: Path, scale: str) -> None:
    """Let the recipes run at a scale."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump({**params, "scale": scale}))


def set_workers(root: Path, workers: int) -> None:
    """Let so many processes load the faces."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"]["workers"] = workers
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def write_inputs(root: Path, version: str, **parents: float) -> None:
    """Write what the stages before training would leave, where it is not there yet."""
    if not (root / "data").exists():
        write_tables(root, DATASETS)
    if not (root / "data" / "inputs" / version).exists():
        write_made_from(root, version, load_params().recipes[version].data, **parents)


def train(root: Path, version: str, **parents: float) -> Checkpoint:
    """Train a version in this process."""
    write_inputs(root, version, **parents)
    faces, splits, made_from = (root / "data" / name for name in ("faces", "splits.parquet", f"inputs/{version}"))
    stage.main(version, faces, splits, made_from, root / "models", root / "curves" / f"{version}.csv")
    return load_checkpoint(root / "models" / version)


def stage_arguments(version: str) -> list[str]:
    """Return the arguments of the stage's command line."""
    inputs = ["data/faces", "data/splits.parquet", f"data/inputs/{version}"]
    return [version, *inputs, "models", f"curves/{version}.csv"]


def stage_command(version: str) -> list[str]:
    """Return the stage's command."""
    return [sys.executable, "-m", "pipeline.stages.train", *stage_arguments(version)]


def assert_trained_alike(whole: Checkpoint, weights: dict[str, Tensor], shared: Checkpoint) -> None:
    """Hold what several processes made against one's weights: sums in another order differ by about 1e-6.

    AdamW makes more of it where a gradient is near zero, at a weight or two of a hundred thousand.
    """
    assert shared.facts["validation"] == pytest.approx(whole.facts["validation"], abs=1e-5)
    others = load_file(shared.weights)
    for name, value in weights.items():
        assert_close(others[name], value, atol=1e-4, rtol=1e-5, msg=name)
