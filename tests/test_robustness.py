import numpy as np
import pytest
import torch
from tables import write_tables
from toys import picture
from versions import learn_brightness

from pipeline.datasets.tables import read_split
from pipeline.evaluation.robustness import CORRUPTIONS, build_corruption, measure_robustness
from pipeline.networks.checkpoint import load_checkpoint, save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.params import EvaluateParams
from pipeline.recipes import Recipe
from pipeline.vision.transforms import resize

RECIPE = Recipe(data=("fer2013",), backbone="test_resnet", pretrained=False, image_size=32)
FACE = resize(picture(), 64)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A version that tells labels by brightness, the folder of its faces, and those that it is judged on."""
    root = tmp_path_factory.mktemp("version")
    torch.manual_seed(0)
    network = ExpressionNetwork(RECIPE)
    learn_brightness(network.eval(), RECIPE.image_size, 7)
    save_checkpoint(root / "v0", network, RECIPE, {"version": "v0"})
    faces, splits = write_tables(root, counts={"test": 6})
    return load_checkpoint(root / "v0"), faces, read_split(faces, splits, "fer2013", "test")


def measured(version, **params):
    checkpoint, faces, table = version
    return measure_robustness(checkpoint, faces, table, EvaluateParams(**params))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_the_grade_and_keeps_the_shape(name):
    damaged = [build_corruption(name, grade, 64, seed=0)(image=FACE)["image"] for grade in (1, 2, 3)]
    assert {(image.shape, image.dtype) for image in damaged} == {(FACE.shape, FACE.dtype)}
    differences = [float(np.square(image.astype(float) - FACE).mean()) for image in damaged]
    assert 0 < differences[0] < differences[1] < differences[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_is_the_same_for_the_same_seed(name):
    def all_of(seed):
        corruption = build_corruption(name, 2, 64, seed)
        return np.stack([corruption(image=FACE)["image"] for _ in range(8)])

    np.testing.assert_array_equal(all_of(1), all_of(1))
    if name in {"noise", "rotation", "occlusion"}:  # nothing is random about the others
        assert (all_of(1) != all_of(2)).any()


def test_what_tells_labels_by_brightness_bears_a_turn_and_no_darkness(version):
    found = measured(version)
    assert found["n"] == 42
    assert found["clean"]["accuracy"] > 0.9
    damaged = found["corruptions"]
    assert {name: sorted(grades) for name, grades in damaged.items()} == dict.fromkeys(CORRUPTIONS, ["1", "2", "3"])
    assert damaged["rotation"]["3"]["accuracy"] > 0.9
    assert damaged["darkness"]["3"]["accuracy"] < 0.4
    assert damaged["darkness"]["1"]["macro_f1"] < found["clean"]["macro_f1"]
    accuracies = [part["accuracy"] for grades in damaged.values() for part in grades.values()]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))


def test_of_many_faces_some_are_drawn_and_the_same_for_a_seed(version):
    one, again, other = (measured(version, robustness_faces=20, seed=seed) for seed in (0, 0, 1))
    assert one["n"] == 20
    assert one == again != other


def test_no_faces_no_robustness(version):
    assert measured(version, robustness_faces=0) is None
    assert measured((*version[:2], version[2][:0])) is None
