import cv2
import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.networks.network import ExpressionNetwork, check_network, first_weights, multiply_adds
from pipeline.recipes import LastStages, Recipe


def build(**changes):
    settings = {"data": ["fer2013"], "backbone": "convnext_atto", "pretrained": False, "image_size": 64, **changes}
    return ExpressionNetwork(Recipe.model_validate(settings))


def learning(network):
    return {name for name, parameter in network.backbone.named_parameters() if parameter.requires_grad}


def test_head_has_the_layers_of_the_recipe_in_their_order():
    network = build(head=[{"linear": 16}, "relu", {"dropout": 0.5}, "batch_norm"])
    assert [type(layer) for layer in network.head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.BatchNorm1d, nn.Linear]
    assert network.head[2].p == 0.5
    assert network.head[-1].weight.shape == (7, 16)


def test_faces_are_scaled_inside_by_the_backbones_own_statistics():
    network = build()
    faces = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((faces / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(network.normalize(faces), expected, atol=1e-5, rtol=1e-5)


def test_order_of_a_batch_changes_nothing():
    network = build().eval()
    faces = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(faces).flip(0), network(faces.flip(0)), atol=1e-5, rtol=1e-5)


def test_residual_blocks_begin_as_the_identity():
    blocks = [block for block in build(backbone="efficientnet_b0").eval().backbone.modules() if hasattr(block, "bn3")]
    kept = [block for block in blocks if block.has_skip]
    assert len(kept) == 9  # of B0's 15 with three convolutions, those that keep shape and width
    features = torch.randn(2, kept[0].conv_pw.in_channels, 8, 8)
    torch.testing.assert_close(kept[0](features), features)


def test_a_backbone_with_another_norm_begins_as_well():
    assert build(backbone="efficientnet_b0_gn")(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, 7)


def test_frozen_backbone_neither_learns_nor_counts_statistics():
    network = build(backbone="efficientnet_b0", head=["batch_norm"])
    network.freeze("none")  # which is enough: Lightning leaves every layer in the mode in which it finds it
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    network(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)).sum().backward()
    assert learning(network) == set()
    assert all(torch.equal(before[name], value) for name, value in network.backbone.state_dict().items())
    assert network.head[0].num_batches_tracked == 1
    assert all(parameter.grad is not None for parameter in network.head.parameters())


def test_a_frozen_backbone_stays_still_when_training_begins_again():
    network = build(backbone="efficientnet_b0")
    network.freeze("none")
    network.eval()
    network.train()
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules() if list(module.parameters(recurse=False)))


def test_last_stages_learn_with_what_follows_them():
    network = build()
    network.freeze(
        Recipe.model_validate({"data": ["wild"], "backbone": "x", "trainable": {"last_stages": 2}}).trainable
    )
    stages = {name.split(".")[1] for name in learning(network) if name.startswith("stages")}
    assert stages == {"2", "3"}
    assert "head.norm.weight" in learning(network)
    assert "stem.0.weight" not in learning(network)


@pytest.mark.parametrize(("backbone", "learns", "stays"), [
    ("resnet18", "layer3.0.conv1.weight", "layer2.1.bn2.weight"),
    ("efficientnet_b0", "blocks.5.0.conv_pw.weight", "blocks.4.0.conv_pw.weight"),
])  # fmt: skip
def test_last_stages_are_those_that_timm_knows(backbone, learns, stays):
    network = build(backbone=backbone)
    network.freeze(LastStages(last_stages=2))
    assert learns in learning(network)
    assert stays not in learning(network)


@pytest.mark.parametrize(("backbone", "known"), [("resnet18", 4), ("basic_cnn", 0)])
def test_more_stages_than_there_are_are_refused(backbone, known):
    with pytest.raises(PipelineError, match=f"timm knows {known} stages of this backbone, not 9; choose last_layers"):
        build(backbone=backbone).freeze(LastStages(last_stages=9))


def test_last_layers_are_counted_from_the_end():
    network = build(backbone="efficientnet_b0")
    network.freeze(
        Recipe.model_validate({"data": ["wild"], "backbone": "x", "trainable": {"last_layers": 3}}).trainable
    )
    assert {name.rpartition(".")[0] for name in learning(network)} == {"bn2", "conv_head", "blocks.6.0.bn3"}


def test_a_version_starts_from_anothers_backbone_and_the_part_of_the_head_that_fits(tmp_path):
    parent, child = build(head=[{"linear": 32}]), build(head=[{"linear": 16}])
    fresh = first_weights(child, parent.state_dict(), tmp_path)
    assert fresh == ["head.0.bias", "head.0.weight", "head.1.weight"]
    assert all(
        torch.equal(parent.backbone.state_dict()[name], value) for name, value in child.backbone.state_dict().items()
    )


def test_another_backbone_is_no_start(tmp_path):
    with pytest.raises(PipelineError, match="another backbone"):
        first_weights(build(), build(backbone="efficientnet_b0").state_dict(), tmp_path)


def test_a_backbone_that_timm_does_not_have_is_refused_by_name():
    with pytest.raises(PipelineError, match="convnext_atom"):
        build(backbone="convnext_atom")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone": "convnext_atto.d2_in1kk"}, "timm has no weights 'convnext_atto.d2_in1kk'"),
        (
            {"backbone": "vit_tiny_patch16_224", "small_stem": True},
            "vit_tiny_patch16_224 is built for faces of one size",
        ),
        ({"backbone": "resnet18", "backbone_args": {"layers": "two"}}, "resnet18 does not take {'layers': 'two'}"),
        ({"backbone": "convnext_atto", "trainable": {"last_stages": 9}}, "4 stages of this backbone, not 9"),
    ],
)
def test_a_network_that_can_not_be_built_is_told_without_building_it(settings, said):
    with pytest.raises(PipelineError, match=said):
        check_network(Recipe.model_validate({"data": ["fer2013"], "pretrained": False, **settings}))


def test_grey_faces_are_what_opencv_makes_of_them():
    network = build(backbone="resnet18", colour="grey")
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3)).astype(np.uint8)
    seen = network.normalize(torch.from_numpy(faces))
    grey = np.stack([cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in faces])[:, None]
    np.testing.assert_allclose(seen * network.std + network.mean, grey, atol=0.51)  # OpenCV rounds
    assert network(torch.from_numpy(faces)).shape == (2, 7)


def test_small_stem_keeps_the_size_of_the_picture():
    usual, small = (build(backbone="resnet18", small_stem=value).backbone for value in (False, True))
    picture = torch.randn(1, 3, 48, 48)
    assert usual.conv1(picture).shape == (1, 64, 24, 24)
    assert small.conv1(picture).shape == (1, 64, 48, 48)
    assert small.conv1.kernel_size == (3, 3)


def test_arguments_of_the_backbone_reach_it():
    network = build(backbone="resnet18", backbone_args={"channels": [8, 16, 24, 32], "layers": [1, 1, 1, 1]})
    assert network.head[-1].in_features == 32
    assert [len(getattr(network.backbone, f"layer{number}")) for number in (1, 2, 3, 4)] == [1, 1, 1, 1]
    with pytest.raises(PipelineError, match="backbone_args: resnet18 does not take .*chanels"):
        build(backbone="resnet18", backbone_args={"chanels": 1})


@pytest.mark.parametrize(
    ("backbone", "reported"), [("resnet18", 1.8), ("efficientnet_b0", 0.4), ("convnext_tiny", 4.5)]
)
def test_multiply_adds_are_those_that_timm_reports_in_billions(backbone, reported):
    recipe = Recipe.model_validate({"data": ["fer2013"], "backbone": backbone, "pretrained": False})
    assert round(multiply_adds(ExpressionNetwork(recipe), 224) / 1e9, 1) == reported
