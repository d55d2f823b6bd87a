"""Both runtimes on the same models; no GPU is needed, and none is pretended."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toys import SIZE, picture, toy_facts, toy_model

from pipeline.errors import PipelineError
from pipeline.inference import runtimes
from pipeline.inference.predictor import Predictor
from pipeline.inference.runtimes import choose_providers, choose_runtime, open_onnxruntime
from pipeline.networks.embedding import Projection
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.export import export_onnx
from pipeline.packaging.quantization import make_bf16
from pipeline.recipes import Recipe
from pipeline.vision.transforms import resize

FACES = np.stack([resize(picture(seed=seed), SIZE) for seed in range(70)])
RECIPE = Recipe.model_validate(
    {"data": ["fer2013"], "backbone": "test_resnet", "pretrained": False, "colour": "grey", "image_size": SIZE}
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the file of a model with all outputs that there are."""
    torch.manual_seed(0)
    network = ExpressionNetwork(RECIPE).eval()
    width = network.backbone.num_features
    projection = Projection(np.zeros(width, np.float32), np.eye(4, width, dtype=np.float32))
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(network, file, image_size=SIZE, facts=toy_facts(), projection=projection)
    return file


@pytest.fixture(scope="module")
def bf16(model):
    """Return the file of its variant in bfloat16, where OpenVINO and the CPU have it."""
    require("bf16")
    file = model.with_suffix(".bf16.onnx")
    made = make_bf16(model)
    onnx.helper.set_model_props(made, {entry.key: entry.value for entry in made.metadata_props} | {"variant": '"bf16"'})
    onnx.save(made, file)
    return file


def require(variant):
    try:
        runtimes.require("openvino", variant)
    except PipelineError as error:
        pytest.skip(str(error))


def predict(file, runtime="onnxruntime"):
    return Predictor(file, name="expression-classifier", version="1", runtime=runtime)


def test_openvino_says_what_onnxruntime_says(model):
    require("full")
    one, other = predict(model), predict(model, "openvino")
    assert other.outputs(FACES).shape == (70, 12)
    np.testing.assert_allclose(other.outputs(FACES), one.outputs(FACES), atol=1e-4)
    np.testing.assert_allclose(other.probabilities(FACES), one.probabilities(FACES), atol=1e-5)
    for mine, theirs in zip(other.class_maps(FACES[:3]), one.class_maps(FACES[:3]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    np.testing.assert_allclose(other.probabilities(FACES[:1]), one.probabilities(FACES[:1]), atol=1e-5)  # as before
    assert other.probabilities(FACES[:0]).shape == (0, 7)


def test_openvino_answers_many_threads_at_once(model):
    require("full")
    predictor = predict(model, "openvino")
    expected = predictor.outputs(FACES)
    with ThreadPoolExecutor(4) as threads:
        parts = threads.map(lambda row: predictor.outputs(FACES[row : row + 1]), [*range(70)] * 3)
    np.testing.assert_allclose(np.concatenate(list(parts)), np.tile(expected, (3, 1)), atol=1e-4)


def test_bfloat16_is_computed_in_and_weighs_half(model, bf16):
    full, half = predict(model).probabilities(FACES), predict(bf16, "openvino").probabilities(FACES)
    assert 1e-6 < np.abs(full - half).max() < 0.02
    assert bf16.stat().st_size < 0.6 * model.stat().st_size
    # Not the weights alone: ONNX Runtime rounds these too, but multiplies in full precision.
    assert np.abs(predict(bf16).probabilities(FACES) - half).max() > 1e-6


def test_what_computes_is_told(model, request, monkeypatch):
    monkeypatch.setenv("FER_THREADS", "1")
    told = asdict(predict(model).computation)
    assert told == {"runtime": "onnxruntime", "precision": "fp32", "device": "cpu", "threads": 1}
    require("bf16")
    assert asdict(predict(model, "openvino").computation) == told | {"runtime": "openvino"}
    told = asdict(predict(request.getfixturevalue("bf16"), "openvino").computation)
    assert (told["runtime"], told["precision"]) == ("openvino", "bf16")


def test_providers_that_are_there_are_chosen_a_gpus_first():
    available = onnxruntime.get_available_providers()
    assert choose_providers(available)[-1] == "CPUExecutionProvider"
    assert set(choose_providers(available)) <= set(available)
    several = ["TensorrtExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"]
    assert choose_providers(several) == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_session_takes_the_providers_that_were_chosen(model):
    chosen = choose_providers(onnxruntime.get_available_providers())
    session = open_onnxruntime(model, chosen, threads=1)
    assert set(session.get_providers()) <= set(chosen)
    assert predict(model).computation.device == (
        "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    )


def test_a_variant_is_computed_by_what_measured_it(monkeypatch):
    monkeypatch.delenv("FER_RUNTIME", raising=False)
    assert [choose_runtime(variant) for variant in ("full", "int8", "fp16")] == ["onnxruntime"] * 3
    monkeypatch.setenv("FER_RUNTIME", "onnxruntime")
    with pytest.raises(PipelineError, match="bf16 was measured by openvino; unset FER_RUNTIME=onnxruntime"):
        choose_runtime("bf16")
    monkeypatch.setenv("FER_RUNTIME", "openvino")
    with pytest.raises(PipelineError, match="int8 was measured by onnxruntime; unset FER_RUNTIME=openvino"):
        choose_runtime("int8")
    monkeypatch.setenv("FER_RUNTIME", "tensorflow")
    with pytest.raises(PipelineError, match="FER_RUNTIME must be one of onnxruntime, openvino, not 'tensorflow'"):
        choose_runtime("full")


def test_openvino_is_taken_where_it_is_asked_for_or_needed(monkeypatch):
    require("bf16")
    monkeypatch.delenv("FER_RUNTIME", raising=False)
    assert choose_runtime("bf16") == "openvino"
    monkeypatch.setenv("FER_RUNTIME", "openvino")
    assert choose_runtime("full") == "openvino"


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setenv("FER_RUNTIME", "openvino")
    with pytest.raises(PipelineError, match="OpenVINO is not installed; run `pip install openvino`"):
        choose_runtime("full")


def test_what_openvino_can_not_open_is_refused(tmp_path):
    require("full")
    predictor = predict(toy_model(tmp_path / "model.onnx"), "openvino")
    predictor.model_file.write_bytes(b"no model")
    with pytest.raises(PipelineError, match="no model that OpenVINO can open"):
        predictor.probabilities(FACES)
