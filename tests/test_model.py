"""What a recipe says about mixing, averaging and clipping takes effect, in short runs of a toy network."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pydantic import ValidationError
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe
from pipeline.training.model import (
    EpochAveraging,
    ExpressionModel,
    MovingAveraging,
    choose_precision,
    mean_of_weights,
)


def recipe(**changes):
    small = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}}
    settings = {"data": ["fer2013"], "pretrained": False, "image_size": 32, **small, **changes}
    return Recipe.model_validate(settings)


def model(**changes):
    said = recipe(**changes)
    return ExpressionModel(ExpressionNetwork(said), said, [1] * 7, seed=0)


@pytest.mark.parametrize(("mixing", "names"), [
    ({"mixup": 0.2}, {"MixUp"}),
    ({"cutmix": 1.0}, {"CutMix"}),
    ({"mixup": 0.2, "cutmix": 1.0}, {"MixUp", "CutMix"}),
])  # fmt: skip
def test_faces_are_mixed_in_pairs_and_their_labels_alike(mixing, names):
    mix = model(**mixing).mix
    assert mix is not None
    assert {type(way).__name__ for way in getattr(mix, "transforms", [mix])} == names
    torch.manual_seed(0)
    labels = torch.arange(14) % 7
    # A face of one value everywhere: what a mixed face has of each is its mean, as a share.
    mixed, shares = mix(torch.eye(7)[labels][:, :, None, None].repeat(1, 1, 32, 32), labels)
    torch.testing.assert_close(shares.sum(1), torch.ones(14))
    torch.testing.assert_close(mixed.mean((2, 3)), shares, atol=1e-5, rtol=0)
    assert ((shares > 0).sum(1) == 2).any()


def test_nothing_is_mixed_unasked():
    assert model().mix is None


class Weights(pl.Callback):
    """Writes down the weights of the last layer after each step and epoch, before anything averages them."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(pl_module.network.head[-1].weight.detach().clone())

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(pl_module.network.head[-1].weight.detach().clone())


def fit(trained, *callbacks, epochs=4, **settings):
    random = np.random.default_rng(0)
    faces = torch.from_numpy(random.integers(0, 256, (28, 32, 32, 3)).astype(np.uint8))
    loader = DataLoader(TensorDataset(faces, torch.arange(28) % 7), batch_size=7)
    trained.on_train_epoch_start = lambda: None  # there is no FaceData here
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", **settings,
    )  # fmt: skip
    trainer.fit(trained, loader, loader)
    return trained.network.head[-1].weight.detach()


def test_swa_ends_with_the_mean_of_the_weights_after_each_epoch_from_its_start_on():
    seen = Weights()
    final = fit(model(optimizer={"name": "sgd", "lr": 0.1}), seen, EpochAveraging(2))
    torch.testing.assert_close(final, torch.stack(seen.epochs[2:]).mean(0))


def test_swa_that_never_began_leaves_the_weights_of_the_last_epoch():
    seen = Weights()
    final = fit(model(optimizer={"name": "sgd", "lr": 0.1}), seen, EpochAveraging(9))
    assert torch.equal(final, seen.epochs[-1])


def test_ema_ends_with_the_moving_average_of_the_weights_after_each_step():
    seen = Weights()
    final = fit(model(optimizer={"name": "sgd", "lr": 0.1}), seen, MovingAveraging(0.5))
    average = seen.steps[0]
    for count, weights in enumerate(seen.steps[1:], start=1):
        keep = min(0.5, (1 + count) / (10 + count))
        average = keep * average + (1 - keep) * weights
    torch.testing.assert_close(final, average)
    assert not torch.equal(final, seen.steps[-1])


def test_gradients_are_clipped_to_the_norm_that_the_recipe_says():
    norms = []

    class Norms(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, _):
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))

    before = model(optimizer={"name": "sgd", "lr": 1e-9})
    fit(before, Norms(), epochs=1)
    clip = min(norms) / 2
    moved = model(optimizer={"name": "sgd", "lr": 1.0, "weight_decay": 0}, clip_gradients=clip)
    first = [parameter.detach().clone() for parameter in moved.network.parameters()]
    fit(moved, epochs=1, limit_train_batches=1, gradient_clip_val=moved.recipe.clip_gradients)
    steps = [(new.detach() - old).norm() for new, old in zip(moved.network.parameters(), first, strict=True)]
    # Nesterov's first step is (1 + momentum) times the gradient.
    assert float(torch.linalg.vector_norm(torch.stack(steps))) == pytest.approx(1.9 * clip, rel=1e-3)


def test_the_last_step_of_an_epoch_is_a_mean_of_the_batches_that_it_has():
    class Gradients(pl.Callback):
        def on_train_start(self, *_):
            self.seen = []

        def on_before_optimizer_step(self, trainer, pl_module, _):
            self.seen.append(pl_module.network.head[-1].weight.grad.clone())

    single, several = Gradients(), Gradients()
    still = {"optimizer": {"name": "sgd", "lr": 1e-9}}
    fit(model(**still), single, epochs=1)
    fit(model(**still), several, epochs=1, accumulate_grad_batches=3)
    expected = [torch.stack(single.seen[:3]).mean(0), single.seen[3]]
    torch.testing.assert_close(several.seen, expected, atol=1e-6, rtol=1e-4)


def test_an_average_is_where_the_weights_are():
    averaging, trained = EpochAveraging(0), model()
    averaging.setup(pl.Trainer(logger=False, accelerator="cpu"), trained, "fit")
    averaging.on_fit_start(None, trained.to("meta"))  # as it goes to a GPU behind `setup`
    assert {weight.device.type for weight in averaging._average_model.parameters()} == {"meta"}


def test_the_mean_of_what_batch_norm_has_counted_is_the_last_count():
    network = torch.nn.BatchNorm1d(1)
    mean = AveragedModel(network, use_buffers=True, multi_avg_fn=mean_of_weights)
    for count in (4, 5, 6):
        network.num_batches_tracked.fill_(count)
        network.running_mean.fill_(count)
        mean.update_parameters(network)
    assert (mean.module.num_batches_tracked, mean.module.running_mean) == (6, 5)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_bf16_is_chosen_where_it_is_not_emulated(monkeypatch, native, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_precision("auto") == chosen


def test_swa_and_ema_exclude_each_other():
    with pytest.raises(ValidationError, match="swa and ema both average the weights; choose one"):
        recipe(swa={}, ema={})
