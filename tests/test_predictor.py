import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from toys import SIZE, encoded, picture, toy_model, toy_network

from pipeline.errors import PipelineError
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.vision.detectors import YuNet
from pipeline.vision.faces import Face, choose_face, crop
from pipeline.vision.transforms import Image, ImageError, decode, resize

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("FER_SHARED", ROOT.parent / "shared"))
HEAVY = {"torch", "torchvision", "timm", "mlflow", "dvc", "pytorch_lightning", "pandas"}


class FixedDetector:
    name = "fixed"

    def __call__(self, image: Image) -> list[Face]:
        return [Face((10, 20, 40, 40), 0.9)]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    model = toy_model(tmp_path_factory.mktemp("model") / "model.onnx")
    return Predictor(model, name="expression-classifier-sample", version="3")


@pytest.fixture(scope="module")
def portrait() -> bytes:
    archive = SHARED / "data" / "wild_images.zip"
    if not archive.exists():
        pytest.skip(f"needs real faces: {archive}")
    with ZipFile(archive) as images:
        return images.read("wild_images/angry/001.jpg")


def test_answer_has_what_the_design_promises(predictor: Predictor) -> None:
    answer = predictor.predict(encoded(".png", picture(90, 80)), detect=False)
    (face,) = answer["faces"]
    assert (face["box"], face["score"]) == ([0, 0, 80, 90], 1.0)
    assert list(face["probabilities"]) == list(LABELS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert face["confidence"] == max(face["probabilities"].values()) == face["probabilities"][face["emotion"]]
    assert face["top"][0] == [face["emotion"], face["confidence"]]
    assert [share for _, share in face["top"]] == sorted((share for _, share in face["top"]), reverse=True)
    assert (answer["model"]["name"], answer["model"]["version"]) == ("expression-classifier-sample", "3")


def test_only_models_of_drawn_faces_carry_a_warning(predictor: Predictor, tmp_path: Path) -> None:
    real = Predictor(toy_model(tmp_path / "model.onnx"), name="expression-classifier", version="1")
    assert real.model == {"name": "expression-classifier", "version": "1"}
    assert "not for real use" in predictor.model["warning"]


def test_service_sees_the_pixels_that_training_sees(predictor: Predictor) -> None:
    image = encoded(".jpg", picture(90, 80))
    ((_, pixels),) = predictor.faces(image, detect=False)
    np.testing.assert_array_equal(pixels, resize(decode(image), SIZE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "_idle_detectors", [FixedDetector()])
        ((_, pixels),) = predictor.faces(image)
    np.testing.assert_array_equal(pixels, resize(crop(decode(image), Face((10, 20, 40, 40), 0.9)), SIZE))


def test_probabilities_are_those_of_the_network_whatever_the_batch(predictor: Predictor) -> None:
    faces = np.stack([resize(picture(seed=seed), SIZE) for seed in range(70)])
    found = predictor.probabilities(faces)
    with torch.no_grad():
        expected = toy_network()(torch.from_numpy(faces)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(predictor.probabilities(faces[::-1])[::-1], found, atol=1e-6)
    assert predictor.probabilities(faces[:0]).shape == (0, 7)


def test_real_face_is_found_also_by_many_threads(predictor: Predictor, portrait: bytes) -> None:
    ((face, pixels),) = predictor.faces(portrait)
    assert face.box[2] > 150
    assert pixels.shape == (SIZE, SIZE, 3)
    with ThreadPoolExecutor(4) as threads:
        assert {found[0][0] for found in threads.map(predictor.faces, [portrait] * 12)} == {face}


def test_yunet_finds_it_too(portrait: bytes, tmp_path: Path) -> None:
    yunet = SHARED / "models" / "face_detection_yunet.onnx"
    if not yunet.exists():
        pytest.skip(f"needs YuNet: {yunet}")
    model = toy_model(tmp_path / "model.onnx", detector=YuNet.ALIGNED)
    predictor = Predictor(model, name="expression-classifier", version="1", yunet=yunet)
    assert len(predictor.predict(portrait)["faces"]) == 1


def test_service_aligns_faces_as_the_models_data_was(tmp_path: Path) -> None:
    """The face leans by 19 degrees."""
    yunet = SHARED / "models" / "face_detection_yunet.onnx"
    archive = SHARED / "data" / "wild_images.zip"
    if not yunet.exists() or not archive.exists():
        pytest.skip(f"needs YuNet and real faces: {SHARED}")
    with ZipFile(archive) as images:
        leaning = images.read("wild_images/neutral/042.jpg")
    for trained_with, level in ((YuNet.ALIGNED, True), (YuNet.UPRIGHT, False)):
        model = toy_model(tmp_path / f"{level}.onnx", detector=trained_with)
        ((face, pixels),) = Predictor(model, name="expression-classifier", version="1", yunet=yunet).faces(leaning)
        assert (abs(face.tilt) > 10) == level
        choice = choose_face(decode(leaning), YuNet(yunet, aligned=level))
        assert choice is not None
        assert choice.face == face
        np.testing.assert_array_equal(pixels, resize(choice.pixels, SIZE))


@pytest.mark.parametrize("size", [(120, 100), (1, 1), (1, 3000)])
def test_no_face_is_an_empty_list_that_says_so(size: tuple[int, int], predictor: Predictor) -> None:
    answer = predictor.predict(encoded(".png", np.zeros((*size, 3), np.uint8)))
    assert answer["faces"] == []
    assert "no face was found" in answer["note"]


def test_picture_with_a_film_behind_it_is_read_as_phones_write_them() -> None:
    jpeg = encoded(".jpg")
    np.testing.assert_array_equal(decode(jpeg + b"ftypmp42" + bytes(5000)), decode(jpeg))


def test_bad_bytes_are_an_image_error(predictor: Predictor) -> None:
    with pytest.raises(ImageError):
        predictor.faces(b"no image")


@pytest.mark.parametrize("facts", [{"labels": ["happy", "sad"]}, {"labels": None}, {"image_size": 64}])
def test_models_that_do_not_fit_this_code_are_refused(facts: dict, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"model\.onnx has the"):
        Predictor(toy_model(tmp_path / "model.onnx", **facts), name="x", version="1")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(PipelineError, match="no model that ONNX Runtime can open"):
        Predictor(tmp_path / "model.onnx", name="x", version="1")


def test_missing_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="there is no face detector"):
        Predictor(tmp_path / "model.onnx", name="x", version="1", yunet=tmp_path / "nix.onnx")


@pytest.mark.parametrize(
    "module",
    [
        "labels",
        "vision.faces",
        "vision.transforms",
        "inference.predictor",
        "inference.pointer",
        "inference.explain",
        "serving.endpoint",
    ],
)
def test_serving_code_imports_no_training_code(module: str) -> None:
    code = f"import sys, pipeline.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY | {"bentoml"}) & set(done.stdout.split())
