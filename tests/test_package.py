"""The last stage on a registered champion: what its formats say and answer, and which variants are offered."""

import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tables import write_tables
from toys import SIZE, toy_facts, toy_model
from versions import learn_brightness

from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_faces, read_split
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.inference.predictor import Predictor
from pipeline.inference.variants import find_variant, offers_file, variant_file
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import load_checkpoint, save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging import artifact
from pipeline.packaging.artifact import write_artifact
from pipeline.packaging.export import export_onnx
from pipeline.packaging.formats import open_formats
from pipeline.packaging.offering import Faces, offer_variants
from pipeline.packaging.parity import prove_parity
from pipeline.packaging.quantization import MAKERS, make_fp16, make_int8
from pipeline.packaging.torchscript import FACTS_FILE
from pipeline.params import PackageParams
from pipeline.recipes import Recipe
from pipeline.stages import package
from pipeline.vision.transforms import decode

COLUMNS = ("face_id", "dataset")
RECIPE = Recipe.model_validate(
    {"data": ["fer2013"], "backbone": "test_resnet", "pretrained": False, "colour": "grey", "image_size": 48}
)
SAID = {
    "labels": list(LABELS),
    "image_size": 48,
    "mean": [0.5],
    "std": [0.5],
    "interpolation": "area where the face shrinks, bilinear where it grows",
    "colour": "grey",
    "temperature": 1.7,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with faces, and a version that knows six labels, as it is registered."""
    root = tmp_path_factory.mktemp("package")
    write_tables(root)
    torch.manual_seed(0)
    network = ExpressionNetwork(RECIPE, pretrained=False).eval()
    learn_brightness(network, RECIPE.image_size, 6)
    network.temperature.fill_(1.7)
    facts = {"version": "v1", "detector": None, "temperature": 1.7, "drawn": False, "data": {}}
    save_checkpoint(root / "models" / "v1", network, RECIPE, facts)
    write_artifact(load_checkpoint(root / "models" / "v1"), root / "models" / "registered", None)
    model = root / "models" / "registered" / "model.onnx"
    write_pointer(
        root / "models" / "champion.json",
        Pointer("expression-classifier", "1", "registered/model.onnx", sha256_of(model)),
    )
    return root


@pytest.fixture
def model(made):
    return made / "models" / "registered" / "model.onnx"


@pytest.fixture
def faces(made):
    folder, splits = made / "data" / "faces", made / "data" / "splits.parquet"
    return Faces(folder, *(read_split(folder, splits, "fer2013", split) for split in ("test", "train")))


@pytest.fixture
def packaged(made, faces, monkeypatch):
    """Return a function that packages the champion, all but the Bento."""
    monkeypatch.setattr(package, "build_bento", lambda root, pointer, label: f"expression_service:{label}")
    return lambda **params: package.package(made, made / "models" / "champion.json", faces, PackageParams(**params))


def predict(file):
    return Predictor(file, name="expression-classifier", version="1")


def test_every_format_says_in_its_file_how_it_is_used(model):
    formats = open_formats(model.parent, predict(model))
    assert set(formats) == {"onnx", "torchscript", "safetensors"}
    for name, opened in formats.items():
        assert {key: opened.facts.get(key) for key in SAID} == SAID, name


def test_torchscript_needs_torch_alone_and_tells_nothing_of_this_machine(model):
    file, extra = model.with_name("model.torchscript"), {FACTS_FILE: ""}
    with pytest.warns(FutureWarning):
        opened = torch.jit.load(file, _extra_files=extra)
    assert json.loads(extra[FACTS_FILE])["labels"] == list(LABELS)
    for count in (1, 2, 5):
        answer = opened(torch.zeros(count, 48, 48, 3, dtype=torch.uint8))
        assert (answer.shape, answer.dtype) == ((count, 7), torch.float32)
        assert torch.allclose(answer.sum(1), torch.ones(count))
    with zipfile.ZipFile(file) as content:
        pickles = {Path(name).name for name in content.namelist() if b"\x80\x02" in content.read(name)[:2]}
        assert pickles == {"data.pkl", "constants.pkl"}
        assert not [name for name in content.namelist() if b"site-packages" in content.read(name)]


def test_what_is_registered_is_made_quietly(made, model, tmp_path, monkeypatch, recwarn, capfd):
    # Takes seconds, and has a test of its own: `test_export.py`.
    monkeypatch.setattr(artifact, "export_onnx", lambda _, file, **__: shutil.copy(model, file))
    write_artifact(load_checkpoint(made / "models" / "v1"), tmp_path / "again", None)
    assert not [warning for warning in recwarn if "torch.jit" in str(warning.message)]
    assert capfd.readouterr() == ("", "")


def test_package_reports_the_parity_of_every_format(packaged):
    parity = packaged(faces=10, variants=())["parity"]
    assert parity["faces"] == 10
    assert set(parity["largest_difference"]) == {"onnx", "torchscript", "safetensors"}
    assert max(parity["largest_difference"].values()) < 1e-4


@pytest.mark.parametrize("change", ["answers", "facts"])
def test_a_format_that_is_not_the_checkpoint_is_refused(made, model, change):
    class Other:
        facts = {**SAID, **({"temperature": 1.0} if change == "facts" else {})}

        def probabilities(self, faces):
            return predict(model).probabilities(255 - faces)

    image = read_images(made / "data" / "faces", read_faces(made / "data" / "faces", "fer2013", COLUMNS)[:1])
    with pytest.raises(PipelineError, match="says another temperature" if change == "facts" else r"by up to 0\.\d"):
        prove_parity(load_checkpoint(made / "models" / "v1"), predict(model), {"other": Other()}, image, 1e-3)


def test_variants_that_answer_as_well_are_offered_with_their_numbers(packaged, model, caplog):
    caplog.set_level(logging.INFO)
    variants = packaged(variant_loss=1)["variants"]
    assert list(variants) == ["full", "int8", "fp16", "bf16"]
    made = [name for name, measured in variants.items() if "bfloat16" not in measured.get("reason", "")]
    for name in made:  # all, on a machine that computes in bfloat16
        assert {"macro_f1", "megabytes", "milliseconds"} <= set(variants[name]), name
    for name in made[1:]:
        assert variants[name]["offered"], variants[name]
        assert find_variant(model, sha256_of(model), name) == variants[name]["sha256"]
        opened = predict(variant_file(model, name))
        assert {key: opened.facts[key] for key in SAID} == SAID
        assert (opened.facts["variant"], opened.facts["made_from"]) == (name, sha256_of(model))
        assert f"variant {name} is offered: macro-F1" in caplog.text
    # Integers are integers: quantized weights are among what the file holds.
    kinds = {weight.data_type for weight in onnx.load(variant_file(model, "int8")).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_one_that_is_not_offered_is_gone_and_says_why(packaged, model, caplog):
    caplog.set_level(logging.INFO)
    packaged(variant_loss=1)
    variants = packaged(variant_loss=-1)["variants"]
    assert not variants["int8"]["offered"]
    assert "variant int8 is not offered (macro-F1 falls by " in caplog.text
    assert not list(model.parent.glob("model.*.onnx"))
    with pytest.raises(PipelineError, match="is not offered: macro-F1 falls by .* must be less than -1"):
        find_variant(model, sha256_of(model), "int8")


class Bright(torch.nn.Module):
    """Tells labels by brightness, and has beside it a channel that it makes no use of, so many times as bright."""

    def __init__(self, times):
        super().__init__()
        self.body = torch.nn.Conv2d(3, 2, 1, bias=False)
        self.head = torch.nn.Linear(2, 7)
        ids = torch.arange(7.0)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([1 / 3, times / 3])[:, None, None, None].expand(-1, 3, -1, -1))
            self.head.weight.copy_(torch.stack([ids / 35, 0 * ids], 1))
            self.head.bias.copy_(-20 / 35 * ids - ids**2 / 2)

    def forward(self, faces):
        return self.head(torch.relu(self.body(faces.permute(0, 3, 1, 2).float())).mean((2, 3)))


@pytest.mark.parametrize(("times", "offered"), [(1, [True, True]), (1e5, [False, True])])
def test_a_network_that_integers_harm_is_offered_without_them(faces, tmp_path, times, offered):
    file = tmp_path / "model.onnx"
    export_onnx(Bright(times), file, image_size=SIZE, facts=toy_facts())
    variants = offer_variants(file, predict(file), faces, PackageParams())
    assert variants["full"]["macro_f1"] == 1
    assert (variants["int8"]["macro_f1"] > 0.99) == offered[0]
    assert [variants[name]["offered"] for name in ("int8", "fp16")] == offered


def test_a_network_that_can_not_be_quantized_is_offered_without(faces, model, tmp_path, monkeypatch, caplog):
    with pytest.raises(PipelineError, match="can not be quantized"):
        MAKERS["int8"](offers_file(model), [])
    monkeypatch.setitem(MAKERS, "int8", lambda model, faces: make_int8(tmp_path / "nothing.onnx", faces))
    file = toy_model(tmp_path / "model.onnx")
    variants = offer_variants(file, predict(file), faces, PackageParams(variants=("int8",)))
    assert not variants["int8"]["offered"]
    assert "can not be quantized" in caplog.text


def test_integers_are_fitted_to_training_faces_alone(faces, model, monkeypatch):
    seen = []
    monkeypatch.setitem(MAKERS, "int8", lambda model, stacks: seen.extend(np.concatenate(stacks)) or make_fp16(model))
    offer_variants(model, predict(model), faces, PackageParams(variants=("int8",), calibration_faces=20))
    training = {decode(image)[0, 0].tobytes() for image in read_images(faces.folder, faces.training)}
    assert len(seen) == 20
    assert {face[0, 0].tobytes() for face in seen} <= training


def test_variants_of_another_model_are_not_found(packaged, model):
    packaged(variant_loss=1)
    with pytest.raises(PipelineError, match=r"was not made for .*; `dvc repro package`"):
        find_variant(model, "0" * 64, "int8")
    variant_file(model, "int8").write_bytes(b"another")
    with pytest.raises(PipelineError, match="not the variant that was measured"):
        find_variant(model, sha256_of(model), "int8")
    with pytest.raises(PipelineError, match=r"there is no variant 'int4' of a model; there are full, int8, fp16"):
        find_variant(model, sha256_of(model), "int4")
