"""The last stage on a registered champion: what its formats say and answer."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from tables import write_tables
from test_evaluate import learn_brightness

from pipeline.artifact import write_artifact
from pipeline.checkpoint import load_checkpoint, save_checkpoint
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.formats import open_formats
from pipeline.images import read_images
from pipeline.labels import LABELS
from pipeline.networks import ExpressionNetwork
from pipeline.parity import prove_parity
from pipeline.pointer import Pointer, write_pointer
from pipeline.predictor import Predictor
from pipeline.recipes import Recipe
from pipeline.tables import read_faces
from pipeline.torchscript import FACTS_FILE

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


def test_what_is_registered_is_made_quietly(made, tmp_path, recwarn, capfd):
    write_artifact(load_checkpoint(made / "models" / "v1"), tmp_path / "again", None)
    assert not [warning for warning in recwarn if "torch.jit" in str(warning.message)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", ["answers", "facts"])
def test_a_format_that_is_not_the_checkpoint_is_refused(made, model, change):
    class Other:
        facts = {**SAID, **({"temperature": 1.0} if change == "facts" else {})}

        def probabilities(self, faces):
            return predict(model).probabilities(255 - faces)

    image = read_images(made / "data" / "faces", read_faces(made / "data" / "faces", "fer2013", COLUMNS)[:1])
    with pytest.raises(PipelineError, match="says another temperature" if change == "facts" else r"by up to 0\.\d"):
        prove_parity(load_checkpoint(made / "models" / "v1"), predict(model), {"other": Other()}, image, 1e-3)
