"""Places where something is to be decided, and deciding it, in a real registry with real exported models."""

import json
from pathlib import Path

import pandas as pd
import torch
import yaml
from tables import write_tables
from versions import write_version

from pipeline.files import write_json
from pipeline.registry import tracking
from pipeline.stages import promote

ROOT = Path(__file__).parents[1]
NAME = "expression-classifier-sample"


def prepare(root):
    """Write faces, and parameters with two recipes, into the working folder."""
    # What these versions learned is brightness, and how sure they are has no meaning. Of all networks this one is
    # exported in the shortest time.
    recipes = dict.fromkeys(("v1", "v2"), {"data": ["fer2013"], "backbone": "basic_cnn", "pretrained": False})
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"run": ["v1", "v2"], "recipes": recipes, "ensembles": {}, "promote": {"ece": 1, "resamples": 1000}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    write_tables(root, ("fer2013", "rafdb", "affectnet", "wild"))
    write_json(root / "metrics" / "validation.json", {"passed": True})


def first_champion(root):
    """Let `v1`, right for four of the seven labels, be champion, and not `v2`, right for two."""
    version(root, "v1", right=4)
    version(root, "v2", right=2)
    decide(root)


def second_champion(root):
    """Let `v2`, then right for six labels, take the place of `v1`."""
    first_champion(root)
    version(root, "v2", right=6, seed=1)
    decide(root)


def version(root, name, right, seed=0, **facts):
    """Write a version that is right for the first `right` of the seven labels, and its predictions."""
    write_version(root, name, seed=seed, learned=right, **facts)
    splits = pd.read_parquet(root / "data" / "splits.parquet").query("split != 'train'")
    faces = pd.concat([pd.read_parquet(file) for file in (root / "data" / "faces").glob("*.parquet")])
    table = faces[["face_id", "label_id", "dataset"]].merge(splits[["face_id", "split", "leaked"]], on="face_id")
    answers = table.label_id.clip(upper=right - 1)
    table = table.assign(probabilities=[list(row) for row in torch.eye(7)[answers.tolist()].numpy()], tta=None)
    (root / "predictions").mkdir(exist_ok=True)
    table.to_parquet(root / "predictions" / f"{name}.parquet")


def decide(root, force=None, why=""):
    """Run the stage; return its decisions."""
    folders = [root / name for name in ("models", "predictions", "data/faces", "data/splits.parquet")]
    folders += [root / "metrics", root / "metrics" / "promotion.json"]
    promote.main(*folders, root / "reports" / "promotion.md", force, why)
    return json.loads((root / "metrics" / "promotion.json").read_text())["decisions"]


def change(root, **settings):
    """Set parameters of the gate."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["promote"] |= settings
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def aliases():
    """Return the numbers of the versions that bear an alias."""
    return {name: str(number) for name, number in tracking.connect().get_registered_model(NAME).aliases.items()}
