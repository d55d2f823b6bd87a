"""Versions that teach another one: what they are shown, and what comes of it."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe
from pipeline.training.model import ExpressionModel
from pipeline.training.parents import Teachers, find_parents

FACES = torch.randint(0, 256, (5, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 6])


def recipe(**changes: object) -> Recipe:
    small = {"backbone": "resnet18", "backbone_args": {"channels": [8, 16, 24, 32]}, "image_size": 48}
    return Recipe.model_validate({"data": ["fer2013"], "pretrained": False, **small, **changes})


@pytest.fixture
def teacher(tmp_path: Path):
    """Return a function that leaves a version as training would."""

    def make(name: str, **changes: object) -> Checkpoint:
        torch.manual_seed(len(list(tmp_path.glob("models/*"))))
        facts = {"version": name, "drawn": False, "temperature": 1.0}
        save_checkpoint(tmp_path / "models" / name, ExpressionNetwork(recipe(**changes)), recipe(**changes), facts)
        write_json(tmp_path / "inputs" / f"{name}.json", {"validation_macro_f1": 0.5})
        return load_checkpoint(tmp_path / "models" / name)

    return make


def shown(**changes: object) -> torch.Tensor:
    """Return the faces as a network shows them to its teachers."""
    network = ExpressionNetwork(recipe(**changes))
    return network.normalize(FACES) * network.std + network.mean


def alone(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.inference_mode():
        return checkpoint.network()(FACES).softmax(1)


def test_teachers_answer_by_the_mean_of_their_probabilities(teacher) -> None:
    one, other = teacher("one"), teacher("other")
    said = Teachers([one, other], 48).answer(shown())
    torch.testing.assert_close(said, (alone(one) + alone(other)) / 2)
    assert not said.requires_grad


def test_a_grey_teacher_of_a_coloured_network_sees_what_it_would_see(teacher) -> None:
    grey = teacher("grey", colour="grey")
    torch.testing.assert_close(Teachers([grey], 48).answer(shown()), alone(grey))


def test_a_coloured_teacher_of_a_grey_network_sees_grey_in_three_channels(teacher) -> None:
    one = teacher("one")
    pixels = shown(colour="grey")
    network = one.network()
    expected = network.classify((pixels.expand(-1, 3, -1, -1) - network.mean) / network.std).softmax(1)
    torch.testing.assert_close(Teachers([one], 48).answer(pixels), expected)


@pytest.mark.parametrize(
    ("changes", "given", "seen"),
    [
        ({"image_size": 96}, 48, 96),
        ({"image_size": 96}, 44, 88),  # a crop is as large a part of the face as before
        ({"image_size": 48}, 44, 44),
        (
            {"backbone": "vit_tiny_patch16_224", "backbone_args": {"patch_size": 8, "depth": 1}, "image_size": 64},
            44,
            64,
        ),
    ],
)
def test_a_teacher_sees_faces_in_its_own_size(teacher, monkeypatch, changes, given, seen) -> None:
    sides, classify = [], ExpressionNetwork.classify

    def look(self, faces):
        sides.append(faces.shape[-2:])
        return classify(self, faces)

    monkeypatch.setattr(ExpressionNetwork, "classify", look)
    Teachers([teacher("one", **changes)], 48).answer(shown()[:, :, :given, :given])
    assert sides == [(seen, seen)]


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_what_they_say_takes_its_share_of_each_target(teacher, share: float) -> None:
    asked = recipe(distil={"teachers": ["one"], "share": share}, loss={"label_smoothing": 0.1})
    one = teacher("one")
    network = ExpressionNetwork(asked)
    model = ExpressionModel(network, asked, [1] * 7, 0, [one])
    model.log = lambda *_, **__: None
    expected = (1 - share) * one_hot(LABELS, 7) + share * alone(one)
    loss = model.training_step((FACES, LABELS), 0)
    torch.testing.assert_close(loss, cross_entropy(network(FACES), expected, label_smoothing=0.1))
    assert not [name for name in model.state_dict() if "teach" in name]


def test_a_teacher_that_was_not_trained_is_named(teacher, tmp_path: Path) -> None:
    asked = recipe(distil={"teachers": ["one", "two"]})
    teacher("one")
    with pytest.raises(
        PipelineError, match=r"v8 is taught by two, but two was not trained; .*`recipes.v8.distil: null`"
    ):
        find_parents("v8", asked, tmp_path / "inputs", tmp_path / "models")


def test_a_teacher_of_other_classes_is_refused(teacher, tmp_path: Path) -> None:
    teacher("one", one_against_rest="happy", promote=False)
    with pytest.raises(PipelineError, match="v8 is taught by one, which tells other classes apart"):
        find_parents("v8", recipe(distil={"teachers": ["one"]}), tmp_path / "inputs", tmp_path / "models")
