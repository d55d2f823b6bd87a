import pytest
import torch
from clip_tables import CLIP_RECIPE

from pipeline.evaluation.views import average
from pipeline.networks.network import ExpressionNetwork, first_weights
from pipeline.networks.recurrent import ClipNetwork, build_network
from pipeline.recipes import Recipe
from pipeline.training.model import ExpressionModel
from pipeline.training.optimization import build_optimizer


def recipe(**changes):
    return Recipe.model_validate({**CLIP_RECIPE, **changes})


def random_clips(batch=2, frames=3):
    return torch.randint(0, 256, (batch, frames, 32, 32, 3), dtype=torch.uint8)


def build(**changes):
    torch.manual_seed(0)
    return build_network(recipe(**changes))


def test_a_recipe_says_which_network_it_is():
    assert isinstance(build(), ClipNetwork)
    assert type(build(data=["fer2013"], recurrent=None)) is ExpressionNetwork


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_it_takes_clips_of_any_number_of_frames(frames, colour):
    assert build(colour=colour).eval()(random_clips(frames=frames)).shape == (2, 7)


def test_frames_are_scaled_as_faces_are():
    clips, network = random_clips(), build()
    faces = build(data=["fer2013"], recurrent=None)
    seen = network.normalize(clips).unflatten(1, (3, 3))
    for frame in range(3):
        assert torch.equal(seen[:, frame], faces.normalize(clips[:, frame]))


@torch.no_grad()
def test_order_of_frames_matters_and_order_of_clips_does_not():
    clips, network = random_clips(4), build().eval()
    logits = network(clips)
    torch.testing.assert_close(network(clips.flip(0)), logits.flip(0), atol=1e-5, rtol=1e-5)
    assert (network(clips.flip(1)) - logits).abs().max() > 1e-4


@torch.no_grad()
def test_each_frame_counts():
    clips, network = random_clips(1), build().eval()
    for frame in range(3):
        changed = clips.clone()
        changed[:, frame] = 255 - changed[:, frame]
        assert (network(changed) - network(clips)).abs().max() > 1e-5


@pytest.mark.parametrize(("mixing", "trainable"), [({"mixup": 0.2}, "all"), ({"cutmix": 1.0}, "none")])
def test_a_step_of_training_moves_the_lstm_and_a_frozen_backbone_stays(mixing, trainable):
    network = build(**mixing, trainable=trainable, head=["batch_norm", {"dropout": 0.2}])
    network.freeze(trainable)
    network.train()
    model = ExpressionModel(network, recipe(**mixing), [1] * 7, seed=0)
    model.log = lambda *_, **__: None  # there is no trainer
    optimizer = build_optimizer(network, recipe().optimizer)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model.training_step((random_clips(4), torch.tensor([0, 1, 2, 3])), 0).backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {f"head.0.lstm.{name}" for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")} <= moved
    assert any(name.startswith("backbone.") for name in moved) == (trainable == "all")


@torch.no_grad()
def test_mixing_cuts_the_same_place_out_of_all_frames():
    clips = torch.stack([torch.zeros(3, 32, 32, 3), torch.full((3, 32, 32, 3), 255)]).to(torch.uint8)
    network = build()
    model = ExpressionModel(network, recipe(cutmix=1.0), [1] * 7, seed=0)
    torch.manual_seed(1)
    mixed, _ = model.mix(network.normalize(clips), torch.tensor([0, 1]))
    own = (mixed == network.normalize(clips)).unflatten(1, (3, 3))
    assert 0 < own.float().mean() < 1
    assert torch.equal(own, own[:, :1].expand_as(own))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flip", "five_crop"])
def test_views_of_a_clip_are_views_of_its_frames(kind):
    network, clips = build().eval(), random_clips()
    probabilities = average(network, network.normalize(clips), kind)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    if kind == "flip":
        both = torch.stack([network(clips).softmax(1), network(clips.flip(3)).softmax(1)]).mean(0)
        torch.testing.assert_close(probabilities, both, atol=1e-5, rtol=1e-5)


def test_a_clip_network_starts_from_the_backbone_of_one_for_faces(tmp_path):
    faces, clips = build(data=["fer2013"], recurrent=None), build_network(recipe())
    fresh = first_weights(clips, faces.state_dict(), tmp_path)
    assert all(name.startswith("head.") for name in fresh)
    assert torch.equal(clips.backbone.conv1.weight, faces.backbone.conv1.weight)
