"""Versions as `train` and `evaluate` would leave them, in no time."""

from pathlib import Path

import pandas as pd
import torch

from pipeline.networks.checkpoint import save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.params import load_params
from pipeline.stages import evaluate

PICTURES = ("answers", "confusion", "curves", "mistakes", "precision_recall", "reliability", "robustness", "roc")


def write_version(root: Path, version: str = "v1", seed: int = 0, learned: int = 0, **facts: object) -> None:
    """Write an untrained version of a recipe as `train` would, or one that `learned` the first labels by brightness."""
    recipe = load_params().recipe(version)
    torch.manual_seed(seed)
    network = ExpressionNetwork(recipe)
    if learned:
        learn_brightness(network.eval(), recipe.image_size, learned)
    made = {"version": version, "scale": "sample", "drawn": True, "detector": None, "validation": {"macro_f1": 0.5}}
    made |= {"start_from": None, "data": {}, "temperature": 1.0}
    save_checkpoint(root / "models" / version, network, recipe, made | facts)


@torch.no_grad()
def learn_brightness(network: ExpressionNetwork, size: int, labels: int) -> None:
    """Set the last layer of the head so that of the first labels the one is likeliest whose faces are as bright."""
    ids = torch.arange(7.0)
    label_ids = ids.repeat_interleave(10)
    grey = 20 + 35 * label_ids.reshape(-1, 1, 1, 1) + 4 * torch.randn(len(label_ids), size, size, 1)
    faces = network.normalize(grey.expand(-1, -1, -1, 3).clip(0, 255).to(torch.uint8))
    features = torch.nn.functional.pad(network.head[:-1](network.backbone(faces)), (0, 1), value=1).double()
    fitted = torch.linalg.lstsq(features, label_ids.double()[:, None], driver="gelsd").solution[:, 0]
    network.head[-1].weight.copy_(torch.outer(ids, fitted[:-1]))
    network.head[-1].bias.copy_(ids * fitted[-1] - ids**2 / 2)
    network.head[-1].weight[labels:], network.head[-1].bias[labels:] = 0, -1e4


def evaluate_version(root: Path, version: str, faces: Path, splits: Path) -> dict[str, Path]:
    """Write curves as `train` would, and evaluate a version; return its outputs by name."""
    metrics = root / "metrics"
    curves = write_curves(metrics / "curves" / f"{version}.csv")
    outputs = {
        "metrics": metrics / f"{version}.json",
        "predictions": root / "predictions" / f"{version}.parquet",
        "pictures": root / "reports" / "pictures" / version,
    }
    evaluate.main(version, root / "models" / version, faces, splits, curves, *outputs.values())
    return outputs


def write_curves(file: Path, **changes: list[float]) -> Path:
    """Write curves of three epochs, the second one the best; the backbone learns at a tenth of the head's rate."""
    columns: dict[str, list[float]] = {
        "epoch": [0, 1, 2],
        "lr-AdamW/backbone": [1e-4, 1e-4, 5e-5],
        "lr-AdamW/head": [1e-3, 1e-3, 5e-4],
        "train/loss": [1.9, 1.2, 0.8],
        "validation/accuracy": [0.2, 0.6, 0.5],
        "validation/loss": [1.95, 1.1, 1.3],
        "validation/macro_f1": [0.1, 0.55, 0.5],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns | changes).to_csv(file, index=False)
    return file
