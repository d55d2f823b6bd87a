import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from toys import SIZE, toy_facts, toy_model, toy_network

from pipeline.inference.predictor import Predictor
from pipeline.networks.embedding import Projection, features_of
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.class_maps import class_maps
from pipeline.packaging.export import export_onnx
from pipeline.recipes import Recipe
from pipeline.vision.transforms import Image


class SmallNetwork(torch.nn.Module):
    """A backbone of the smallest kind with every layer that a recipe's head may have."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, num_classes=0)
        width = self.backbone.num_features
        head = [torch.nn.LayerNorm(width), torch.nn.Linear(width, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16)]
        self.head = torch.nn.Sequential(*head, torch.nn.Dropout(0.5), torch.nn.Linear(16, 7))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.conclude(self.places(faces))

    def places(self, faces: torch.Tensor) -> torch.Tensor:
        return self.backbone.forward_features(faces.permute(0, 3, 1, 2).float() / 127.5 - 1)

    def conclude(self, places: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.forward_head(places))


def some_faces(count: int, size: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "convnext_atto"])
def test_exported_network_answers_like_the_trained_one(backbone: str, tmp_path: Path) -> None:
    network = SmallNetwork(backbone).eval()
    export_onnx(network, tmp_path / "model.onnx", image_size=64, facts=toy_facts(image_size=64))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 2, 5, 64):
        faces = some_faces(count, 64)
        (found,) = session.run(["probabilities"], {"faces": faces})
        with torch.no_grad():
            expected = network(torch.from_numpy(faces)).softmax(1).numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_file_is_alone_and_carries_its_facts(tmp_path: Path) -> None:
    facts = toy_facts(mean=[0.485, 0.456, 0.406], name="Gesichtsausdrücke")
    export_onnx(toy_network(), tmp_path / "new" / "model.onnx", image_size=SIZE, facts=facts)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx")
    stored = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in stored.items()} == facts
    assert [(value.name, value.type) for value in session.get_inputs()] == [("faces", "tensor(uint8)")]
    outputs = [("probabilities", "tensor(float)"), ("maps", "tensor(float)")]
    assert [(value.name, value.type) for value in session.get_outputs()] == outputs


def test_file_tells_nothing_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    toy_model(tmp_path / "toy.onnx")
    content = (tmp_path / "toy.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_export_is_quiet_and_leaves_the_network_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = toy_network().train()
    export_onnx(network, tmp_path / "model.onnx", image_size=SIZE, facts=toy_facts())
    assert network.training
    assert capfd.readouterr() == ("", "")


def test_failed_export_keeps_the_former_file(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"former")
    with pytest.raises(TypeError):
        export_onnx(toy_network(), file, image_size=SIZE, facts={"labels": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert file.read_bytes() == b"former"


def test_half_precision_takes_half_the_space_and_answers_alike(tmp_path: Path) -> None:
    network = SmallNetwork("convnext_atto").eval()
    for name, half in (("whole", False), ("half", True)):
        export_onnx(network, tmp_path / name, image_size=64, facts=toy_facts(image_size=64), half=half)
    assert (tmp_path / "half").stat().st_size < 0.55 * (tmp_path / "whole").stat().st_size
    whole, half = (onnxruntime.InferenceSession(tmp_path / name) for name in ("whole", "half"))
    faces = some_faces(8, 64)
    np.testing.assert_allclose(*(session.run(None, {"faces": faces})[0] for session in (whole, half)), atol=0.01)
    assert half.get_modelmeta().custom_metadata_map == whole.get_modelmeta().custom_metadata_map


def test_a_summary_of_the_features_stands_behind_the_probabilities(tmp_path: Path) -> None:
    recipe = Recipe(data=("fer2013",), backbone="test_resnet", image_size=32, pretrained=False)
    network = ExpressionNetwork(recipe).eval()
    with torch.no_grad():
        network.temperature.fill_(1.7)
    faces = some_faces(12, 32)
    with torch.no_grad():
        features = features_of(network, torch.from_numpy(faces)).numpy()
        probabilities = network(torch.from_numpy(faces)).softmax(1).numpy()
        expected = class_maps(network.conclude, network.places(torch.from_numpy(faces)), 7)
    random = np.random.default_rng(0)
    axes = random.normal(size=(3, features.shape[1])).astype(np.float32)
    projection = Projection(features.mean(0), axes)
    for name, half, tolerance in (("whole.onnx", False, 1e-4), ("half.onnx", True, 0.05)):
        facts = toy_facts(image_size=32)
        export_onnx(network, tmp_path / name, image_size=32, facts=facts, half=half, projection=projection)
        predictor = Predictor(tmp_path / name, name="x", version="1")
        outputs = predictor.outputs(faces)
        assert outputs.shape == (12, 7 + 1 + 3)
        np.testing.assert_array_equal(predictor.probabilities(faces), outputs[:, :7])
        np.testing.assert_allclose(outputs[:, :7], probabilities, atol=tolerance)
        np.testing.assert_allclose(outputs[:, 7], np.linalg.norm(features, axis=1), rtol=tolerance)
        np.testing.assert_allclose(outputs[:, 8:], (features - features.mean(0)) @ axes.T, atol=20 * tolerance)
        rows, maps = predictor.class_maps(faces)  # stand beside it
        np.testing.assert_array_equal(rows, outputs[:, :7])
        np.testing.assert_allclose(maps, expected, atol=tolerance)
