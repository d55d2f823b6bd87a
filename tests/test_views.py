import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from pipeline.evaluation.views import average, views
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe, Views, Zooms

FACES = torch.rand(2, 3, 64, 64)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("none", 1), ("flip", 2), ("five_crop", 5), ("ten_crop", 10), (Views(views=4), 4), (Zooms(zooms=(0.9, 1.1)), 4)],
)
def test_views_have_the_shape_of_the_faces(kind, count):
    shown = list(views(FACES, kind))
    assert len(shown) == count
    assert all(view.shape == FACES.shape for view in shown)


def test_random_views_differ_and_are_the_same_every_time():
    first, again = (list(views(FACES, Views(views=6))) for _ in range(2))
    assert all(torch.equal(view, other) for view, other in zip(first, again, strict=True))
    assert torch.equal(first[0], FACES)
    assert len({view.numpy().tobytes() for view in first}) == 6


def test_zooms_are_of_the_face_and_its_mirror_image_about_its_centre():
    smaller, mirrored, same, _, larger, _ = views(FACES, Zooms(zooms=(0.5, 1, 2)))
    assert torch.equal(same, FACES)
    torch.testing.assert_close(mirrored, smaller.flip(-1))
    torch.testing.assert_close(smaller[..., 16:48, 16:48], avg_pool2d(FACES, 2))
    torch.testing.assert_close(smaller[..., 0, :], smaller[..., 1, :])  # the edge goes on
    torch.testing.assert_close(interpolate(FACES[..., 16:48, 16:48], scale_factor=2, mode="bilinear")[..., 2:-2, 2:-2],
                               larger[..., 2:-2, 2:-2])  # fmt: skip


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="six_crop"):
        list(views(FACES, "six_crop"))


def test_the_average_is_the_mean_of_the_views_probabilities():
    recipe = Recipe.model_validate({"data": ["fer2013"], "backbone": "convnext_atto", "pretrained": False})
    network = ExpressionNetwork(recipe).eval()
    with torch.inference_mode():
        each = torch.stack([network.classify(view).softmax(1) for view in views(FACES, "flip")])
        found = average(network, FACES, "flip")
    torch.testing.assert_close(found, each.mean(0))
    torch.testing.assert_close(found.sum(1), torch.ones(2))


def test_a_mirrored_face_keeps_its_answer_when_both_are_seen():
    recipe = Recipe.model_validate({"data": ["fer2013"], "backbone": "convnext_atto", "pretrained": False})
    network = ExpressionNetwork(recipe).eval()
    with torch.inference_mode():
        torch.testing.assert_close(average(network, FACES, "flip"), average(network, FACES.flip(-1), "flip"))
