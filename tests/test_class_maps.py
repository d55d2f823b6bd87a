"""Class maps of exported networks, against Grad-CAM by hooks and torch's own gradients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from onnx import numpy_helper
from scipy.stats import spearmanr
from toys import SIZE, toy_facts, toy_model, toy_network

from pipeline.errors import PipelineError
from pipeline.inference.predictor import Predictor
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.class_maps import class_maps
from pipeline.packaging.export import export_onnx
from pipeline.recipes import Recipe
from pipeline.sample import draw
from pipeline.vision.transforms import decode, resize

ROOT = Path(__file__).parents[1]
HEAD = [{"dropout": 0.5}, {"linear": 16}, "relu", "batch_norm"]
V8 = yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"]["v8"]
# A recipe, and the layer behind which its mean over all places is taken.
NETWORKS = {
    "convnext": ({"backbone": "test_convnext", "head": HEAD}, "stages"),
    "efficientnet": ({"backbone": "test_efficientnet", "head": HEAD}, "bn2"),
    "resnet": ({"backbone": "test_resnet", "head": HEAD, "normalize_logits": True}, "layer4"),
    "v8": (V8, "layer4"),
}


def faces(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.manual_seed(1))


def build(**changes: Any) -> ExpressionNetwork:
    """Return a network whose norms and weights are as far from their beginnings as those of a trained one."""
    torch.manual_seed(0)
    settings = {"data": ["fer2013"], "image_size": 64, **changes, "pretrained": False}
    recipe = Recipe.model_validate(settings)
    network = ExpressionNetwork(recipe)
    network.temperature.fill_(1.7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        network.head[-2 if recipe.normalize_logits else -1].weight.mul_(10)
        for _ in range(5):
            network(faces(8, settings["image_size"]))
    return network.eval()


def grad_cam(network: ExpressionNetwork, layer: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return Grad-CAM (batch, 7, height, width) as its paper has it, by hooks, before it is rectified."""
    kept: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = network(pixels)
    handle.remove()
    maps = []
    for label in range(7):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), kept[0], retain_graph=True)
        maps.append((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1))
    return torch.stack(maps, 1).detach()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "v8" else []) for name in NETWORKS]
)
def test_the_exported_maps_are_grad_cam(name: str, tmp_path: Path) -> None:
    recipe, layer = NETWORKS[name]
    network = build(**recipe)
    side = recipe.get("image_size", 64)
    pixels = faces(3, side)
    expected = grad_cam(network, getattr(network.backbone, layer), pixels)
    probabilities = network(pixels).softmax(1)
    assert expected.abs().amax() > 0.1
    facts = toy_facts(image_size=side)
    export_onnx(network, tmp_path / "model.onnx", image_size=side, facts=facts)
    predictor = Predictor(tmp_path / "model.onnx", name="x", version="1")
    for count in (1, 3):
        rows, maps = predictor.class_maps(pixels[:count].numpy())
        np.testing.assert_allclose(maps, expected[:count], atol=1e-4)
        np.testing.assert_allclose(rows, probabilities[:count].detach(), atol=1e-5)
        np.testing.assert_array_equal(rows, predictor.probabilities(pixels[:count].numpy()))


@pytest.mark.parametrize("backbone", ["basic_cnn", "separable_cnn"])
def test_the_maps_of_a_linear_head_add_up_to_its_logits(backbone: str) -> None:
    network = build(backbone=backbone, image_size=48, head=[])
    pixels = faces(2, 48)
    maps = class_maps(network.conclude, network.places(pixels), 7)
    sums = maps.sum((2, 3)) + network.head[-1].bias / network.temperature
    assert maps.shape[2:] == ((3, 3) if backbone == "basic_cnn" else (2, 2))
    torch.testing.assert_close(sums, network(pixels), atol=1e-4, rtol=1e-4)


class Placeless(torch.nn.Module):
    """A network that tells labels apart by the mean of the pixels, and has no places, as a transformer has none."""

    def __init__(self) -> None:
        super().__init__()
        recipe = {"data": ["fer2013"], "backbone": "test_vit", "pretrained": False, "image_size": 160}
        self.transformer = ExpressionNetwork(Recipe.model_validate(recipe)).eval()
        self.head = torch.nn.Linear(3, 7)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(pixels.float().mean((1, 2)))

    def places(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.transformer.places(torch.zeros(len(pixels), 160, 160, 3, dtype=torch.uint8))


def test_what_has_no_places_is_exported_without_maps_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_onnx(Placeless().eval(), tmp_path / "model.onnx", image_size=SIZE, facts=toy_facts())
    assert "can not explain its answers: its backbone has no map of features" in caplog.text
    predictor = Predictor(tmp_path / "model.onnx", name="expression-classifier", version="5")
    pixels = faces(1, SIZE).numpy()
    assert predictor.probabilities(pixels).shape == (1, 7)
    with pytest.raises(PipelineError, match="expression-classifier version 5 can not explain its answers"):
        predictor.class_maps(pixels)


def kernels(file: Path, asked: list[str], explain: bool) -> int:
    """Return how many operations ONNX Runtime runs for a face."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 3
    options.profile_file_prefix = str(file.parent / "profile")
    session = onnxruntime.InferenceSession(file, options)
    session.run(asked, {"faces": faces(1, SIZE).numpy()} | ({"explain": np.array(True)} if explain else {}))
    events = json.loads(Path(session.end_profiling()).read_text())
    return sum(event["name"].endswith("kernel_time") for event in events)


def test_a_prediction_does_not_compute_the_maps(tmp_path: Path) -> None:
    file = toy_model(tmp_path / "model.onnx")
    model = onnx.load(file)
    (branch,) = (node for node in model.graph.node if node.op_type == "If")
    model.graph.node.remove(branch)
    del model.graph.output[1:]
    onnx.save(model, tmp_path / "without.onnx")
    without = kernels(tmp_path / "without.onnx", ["probabilities"], explain=False)
    assert kernels(file, ["probabilities"], explain=False) <= without + 2  # the branch that is not taken
    assert kernels(file, ["probabilities", "maps"], explain=True) > without + 10


def test_a_map_that_is_not_asked_for_has_no_rows(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(toy_model(tmp_path / "model.onnx"))
    rows, maps = session.run(None, {"faces": faces(2, SIZE).numpy()})
    assert (rows.shape, maps.shape) == ((2, 7), (0, 7, 23, 23))


def test_the_backbones_weights_are_in_the_file_once(tmp_path: Path) -> None:
    model, network = onnx.load(toy_model(tmp_path / "model.onnx")), toy_network()
    stored = sum(numpy_helper.to_array(weight).size for weight in model.graph.initializer)
    twice = network.head[-1].weight.numel()
    assert stored < sum(value.numel() for value in network.state_dict().values()) + twice + 50


def test_another_head_gives_another_map(tmp_path: Path) -> None:
    """Maps that stayed would show edges of the picture and not what was learned (Adebayo et al. 2018, NeurIPS)."""
    file = ROOT / "models" / "ready-made" / "model.onnx"
    drawn = [decode(content) for path, content in draw("fer2013", 3) if path.endswith(".jpg")]
    pixels = np.stack([resize(image, 48) for image in drawn])
    model, random = onnx.load(file), np.random.default_rng(0)
    head = [weight for weight in model.graph.initializer if list(weight.dims) == [7, 256]]
    values = [numpy_helper.to_array(weight) for weight in head]
    np.testing.assert_array_equal(*values)  # one for the way forth, one for the way back
    other = random.normal(scale=values[0].std(), size=values[0].shape).astype(values[0].dtype)
    for weight in head:
        weight.CopyFrom(numpy_helper.from_array(other, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    maps, others = (
        Predictor(one, name="x", version="1").class_maps(pixels)[1] for one in (file, tmp_path / "other.onnx")
    )
    shifted = Predictor(file, name="x", version="1").class_maps(np.clip(pixels, 2, 253))[1]

    def likeness(one: np.ndarray, two: np.ndarray) -> float:
        pairs = zip(one.reshape(-1, 9), two.reshape(-1, 9), strict=True)
        return float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))

    assert likeness(maps, shifted) > 0.9
    assert abs(likeness(maps, others)) < 0.3
