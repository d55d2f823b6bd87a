import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from toys import SIZE, toy_facts, toy_model, toy_network

from pipeline.inference.predictor import Predictor
from pipeline.networks.embedding import Projection, features_of
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.class_maps import class_maps
from pipeline.packaging.export import export_onnx
from pipeline.recipes import Recipe
from pipeline.vision.transforms import Image


def some_faces(count: int, size: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_export_quietly_leaves_one_file_with_its_facts_and_the_network_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = toy_network().train()
    facts = toy_facts(mean=[0.485, 0.456, 0.406], name="Gesichtsausdrücke")
    export_onnx(network, tmp_path / "new" / "model.onnx", image_size=SIZE, facts=facts)
    assert network.training
    assert capfd.readouterr() == ("", "")
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


def test_failed_export_keeps_the_former_file(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"former")
    with pytest.raises(TypeError):
        export_onnx(toy_network(), file, image_size=SIZE, facts={"labels": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert file.read_bytes() == b"former"


class Summarized(NamedTuple):
    """A network, exported with a summary of the features, as it is and in half precision; and the summary's axes."""

    network: ExpressionNetwork
    projection: Projection
    whole: Path
    half: Path


@pytest.fixture(scope="module")
def summarized(tmp_path_factory: pytest.TempPathFactory) -> Summarized:
    recipe = Recipe(data=("fer2013",), backbone="test_resnet", image_size=32, pretrained=False)
    network = ExpressionNetwork(recipe).eval()
    with torch.no_grad():
        network.temperature.fill_(1.7)
        features = features_of(network, torch.from_numpy(some_faces(12, 32))).numpy()
    axes = np.random.default_rng(0).normal(size=(3, features.shape[1])).astype(np.float32)
    folder = tmp_path_factory.mktemp("summarized")
    made = Summarized(network, Projection(features.mean(0), axes), folder / "whole.onnx", folder / "half.onnx")
    for file in (made.whole, made.half):
        facts, half = toy_facts(image_size=32), file == made.half
        export_onnx(network, file, image_size=32, facts=facts, half=half, projection=made.projection)
    return made


def test_exported_network_answers_like_the_trained_one_for_any_number_of_faces(summarized: Summarized) -> None:
    session = onnxruntime.InferenceSession(summarized.whole)
    for count in (1, 2, 5, 64):
        faces = some_faces(count, 32)
        (found,) = session.run(["probabilities"], {"faces": faces})
        with torch.no_grad():
            expected = summarized.network(torch.from_numpy(faces)).softmax(1).numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_half_precision_takes_half_the_space_and_answers_alike(summarized: Summarized) -> None:
    assert summarized.half.stat().st_size < 0.55 * summarized.whole.stat().st_size
    whole, half = (onnxruntime.InferenceSession(file) for file in (summarized.whole, summarized.half))
    faces = some_faces(8, 32)
    np.testing.assert_allclose(*(session.run(None, {"faces": faces})[0] for session in (whole, half)), atol=0.01)
    assert half.get_modelmeta().custom_metadata_map == whole.get_modelmeta().custom_metadata_map


def test_a_summary_of_the_features_stands_behind_the_probabilities(summarized: Summarized) -> None:
    network, (mean, axes) = summarized.network, (summarized.projection.mean, summarized.projection.components)
    faces = some_faces(12, 32)
    with torch.no_grad():
        features = features_of(network, torch.from_numpy(faces)).numpy()
        probabilities = network(torch.from_numpy(faces)).softmax(1).numpy()
        expected = class_maps(network.conclude, network.places(torch.from_numpy(faces)), 7)
    for file, tolerance in ((summarized.whole, 1e-4), (summarized.half, 0.05)):
        predictor = Predictor(file, name="x", version="1")
        outputs = predictor.outputs(faces)
        assert outputs.shape == (12, 7 + 1 + 3)
        np.testing.assert_array_equal(predictor.probabilities(faces), outputs[:, :7])
        np.testing.assert_allclose(outputs[:, :7], probabilities, atol=tolerance)
        np.testing.assert_allclose(outputs[:, 7], np.linalg.norm(features, axis=1), rtol=tolerance)
        np.testing.assert_allclose(outputs[:, 8:], (features - mean) @ axes.T, atol=20 * tolerance)
        rows, maps = predictor.class_maps(faces)  # stand beside it
        np.testing.assert_array_equal(rows, outputs[:, :7])
        np.testing.assert_allclose(maps, expected, atol=tolerance)
