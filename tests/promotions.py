"""Places where something is to be decided, and deciding it, in a real registry.

What is decided about is exported in no time by `export_toy`; `export_candidate` of the product takes seconds for each.
"""

import json
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import onnx
import pandas as pd
import torch
import yaml
from onnx import TensorProto, helper
from tables import write_tables
from versions import write_version

from pipeline.files import write_json
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.packaging.artifact import write_artifact
from pipeline.packaging.parity import answer_all
from pipeline.promotion.evidence import Candidate, Forced, export_candidate
from pipeline.registry import tracking
from pipeline.stages import promote

ROOT = Path(__file__).parents[1]
NAME = "expression-classifier-sample"


def prepare(root):
    """Write faces, and parameters with two recipes, into the working folder."""
    # What these versions learned is brightness, and how sure they are has no meaning. Of all networks this one is
    # exported in the shortest time.
    recipe = {"data": ["fer2013"], "backbone": "basic_cnn", "pretrained": False, "image_size": 32}
    recipes = dict.fromkeys(("v1", "v2"), recipe)
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


def real_champion(root):
    """Let `v1`, right for all seven labels, be champion, exported as the product does it."""
    version(root, "v1", right=7)
    version(root, "v2", right=3)
    decide(root, export=export_candidate)


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


def decide(root, force=None, why="", export=None):
    """Run the stage; return its decisions."""
    folders = [root / name for name in ("models", "predictions", "data/faces", "data/splits.parquet")]
    folders += [root / "metrics", root / "metrics" / "promotion.json"]
    forced = Forced(force, why) if force else None
    promote.promote(*folders, root / "reports" / "promotion.md", forced, export or export_toy)
    return json.loads((root / "metrics" / "promotion.json").read_text())["decisions"]


def export_toy(checkpoint, weights_sha256, folder, evidence, params):
    """Do what `export_candidate` does, with a model that answers by brightness what `version` learned."""
    known = int((checkpoint.network().head[-1].bias > -1e4).sum())

    def export_onnx(_, file, *, image_size, facts, **__):
        write_bright_model(file, known, image_size, facts)

    quick = {"export_onnx": export_onnx, "export_torchscript": Mock(), "write_signature": Mock()}
    with patch.multiple("pipeline.packaging.artifact", **quick):
        file = write_artifact(checkpoint, folder, params.faces.yunet)
    answers = answer_all(Predictor(file, name=NAME, version="toy"), evidence.folder, evidence.faces)
    return Candidate(checkpoint, weights_sha256, folder, answers, megabytes=1, milliseconds=1)


def write_bright_model(file, known, image_size, facts):
    """Write a model that tells the first `known` of the labels by how bright faces of `tables` are."""
    ids = np.arange(len(LABELS))
    weight = (ids / 35).astype(np.float32)[None]
    bias = np.where(ids < known, -20 * ids / 35 - ids**2 / 2, -1e4).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["brightness"]),
        helper.make_node("Gemm", ["brightness", "weight", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "column": np.array([-1, 1]), "weight": weight, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", image_size, image_size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, file)


def change(root, **settings):
    """Set parameters of the gate."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["promote"] |= settings
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def aliases():
    """Return the numbers of the versions that bear an alias."""
    return {name: str(number) for name, number in tracking.connect().get_registered_model(NAME).aliases.items()}
