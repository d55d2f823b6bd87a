import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from pipeline.recipes import Loss
from pipeline.training.losses import FocalLoss, build_loss, inverse_frequency


def test_class_weights_are_scikit_learns_balanced_ones():
    counts = [3, 1, 5, 2, 4, 6, 7]
    labels = np.repeat(np.arange(7), counts)
    expected = compute_class_weight("balanced", classes=np.arange(7), y=labels)
    np.testing.assert_allclose(inverse_frequency(counts), expected, rtol=1e-6)


def test_a_label_without_faces_weighs_nothing():
    weights = inverse_frequency([1, 0, 1, 1, 1, 1, 1])
    assert weights[1] == 0
    assert torch.isfinite(weights).all()


def test_smoothing_and_weights_take_effect():
    logits, targets = torch.randn(8, 7), torch.randint(0, 7, (8,))
    plain, smooth, weighted = (
        build_loss(loss, [1, 2, 3, 4, 5, 6, 7])(logits, targets).item()
        for loss in (Loss(), Loss(label_smoothing=0.1), Loss(class_weights="inverse_frequency"))
    )
    assert plain == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item())
    assert len({round(plain, 5), round(smooth, 5), round(weighted, 5)}) == 3


def test_focal_loss_is_cross_entropy_at_exponent_0_and_weighs_what_is_known_less_above() -> None:
    logits, targets = torch.randn(8, 7), torch.randint(0, 7, (8,))
    by_face = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(FocalLoss(0.0, None, 0.0)(logits, targets), by_face.mean())
    known = logits.softmax(1)[torch.arange(8), targets]
    expected = ((1 - known) ** 2 * by_face).mean()
    torch.testing.assert_close(build_loss(Loss(focal=2), [1] * 7)(logits, targets), expected)


def test_focal_loss_has_a_slope_where_a_label_is_known_for_sure() -> None:
    logits = torch.tensor([[200.0, *[0.0] * 6]], requires_grad=True)
    FocalLoss(0.5, None, 0.0)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_focal_loss_takes_ids_and_shares_smooths_them_and_weighs_classes() -> None:
    logits, targets = torch.randn(8, 7), torch.randint(0, 7, (8,))
    shares = torch.nn.functional.one_hot(targets, 7).float()
    loss = build_loss(Loss(focal=2, label_smoothing=0.1, class_weights="inverse_frequency"), [1, 2, 3, 4, 5, 6, 7])
    torch.testing.assert_close(loss(logits, targets), loss(logits, shares))
    smooth, terms = 0.9 * shares + 0.1 / 7, -logits.log_softmax(1) * (1 - logits.softmax(1)) ** 2
    expected = (smooth * terms * inverse_frequency([1, 2, 3, 4, 5, 6, 7])).sum(1).mean()
    torch.testing.assert_close(loss(logits, targets), expected)
