import pytest
import timm
import torch

from pipeline.errors import PipelineError
from pipeline.networks.backbones import Attention
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe

# Side of the faces, features, and parameters of the backbone, worked out by hand from the reports.
REPORTED = {
    "basic_cnn": (48, 512 * 3 * 3, (9 * 1 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 256 + (9 * 256 + 1) * 512),
    "four_layer_cnn": (
        48, 512 * 3 * 3, 9 * 64 + 25 * 64 * 128 + 9 * 128 * 512 + 9 * 512 * 512 + 2 * (64 + 128 + 512 + 512)
    ),
    "separable_cnn": (48, 512, None),
    "cbam_cnn": (64, 256, None),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_backbone_of_another_system_is_built_by_its_name(name):
    side, features, parameters = REPORTED[name]
    settings = {"backbone": name, "image_size": side, "colour": "grey"}
    network = ExpressionNetwork(Recipe.model_validate({"data": ["fer2013"], "pretrained": False, **settings}))
    assert timm.is_model(name)
    assert network.head[-1].in_features == features
    assert network(torch.zeros(2, side, side, 3, dtype=torch.uint8)).shape == (2, 7)
    if parameters:
        assert sum(parameter.numel() for parameter in network.backbone.parameters()) == parameters


def test_arguments_that_it_does_not_take_and_weights_that_it_does_not_have_are_refused():
    settings = {"data": ["fer2013"], "backbone": "basic_cnn", "image_size": 48}
    with pytest.raises(PipelineError, match="basic_cnn has no pretrained weights; set pretrained: false"):
        ExpressionNetwork(Recipe.model_validate(settings))
    with pytest.raises(PipelineError, match=r"basic_cnn does not take \{'widht': 3\}"):
        ExpressionNetwork(Recipe.model_validate({**settings, "pretrained": False, "backbone_args": {"widht": 3}}))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_tiny", "basic_cnn"])
def test_a_backbone_is_built_for_the_size_of_the_recipes_faces(name):
    settings = {"data": ["fer2013"], "backbone": name, "image_size": 96, "pretrained": False}
    network = ExpressionNetwork(Recipe.model_validate(settings))
    assert network(torch.zeros(2, 96, 96, 3, dtype=torch.uint8)).shape == (2, 7)


def test_attention_weighs_channels_and_places_by_0_to_1():
    features = torch.rand(2, 32, 6, 6) + 0.5
    weights = Attention(32)(features) / features
    assert 0 < weights.min() < weights.max() < 1
    # The weight of a place of a channel is the product of the channel's and the place's.
    ratios = weights / weights[:, :1]
    torch.testing.assert_close(ratios, ratios[:, :, :1, :1].expand_as(ratios))


def test_attention_needs_no_more_places_than_one():
    assert Attention(8)(torch.rand(1, 8, 1, 1)).shape == (1, 8, 1, 1)
