"""Every recipe takes one step, and each option that it names has taken effect.

They run as at sample scale, but for what is frozen: that stays as the recipe has it.
"""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from clip_tables import write_clips
from tables import write_tables
from torch import nn
from torchvision.transforms.v2 import CutMix

from pipeline.evaluation.views import average, views
from pipeline.labels import LABEL_IDS
from pipeline.networks.recurrent import LastState, build_network
from pipeline.params import DATASETS, load_params
from pipeline.recipes import LastLayers, LastStages, Recipe
from pipeline.training.clips import open_data
from pipeline.training.losses import FocalLoss, inverse_frequency
from pipeline.training.model import EpochAveraging, ExpressionModel, MovingAveraging
from pipeline.training.trainer import StagedStopping, build_callbacks, build_checkpoints, build_trainer

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
RECIPES = PARAMS.recipes


class Run:
    """A recipe that takes one step of its optimizer."""

    def __init__(self, recipe: Recipe, tables: tuple[Path, Path], work: Path) -> None:
        frozen = {"trainable": recipe.trainable}
        if isinstance(recipe.trainable, LastLayers):  # the small backbone has fewer
            frozen = {"trainable": LastLayers(last_layers=min(recipe.trainable.last_layers, 10))}
        self.full, self.recipe = recipe, recipe.at("sample").model_copy(update={**frozen, "batch_size": 7})
        pl.seed_everything(0, verbose=False)
        self.data = open_data(self.recipe, *tables, seed=0)
        self.network = build_network(self.recipe)
        self.network.freeze(self.recipe.trainable)
        self.model = ExpressionModel(self.network, self.recipe, self.data.train_faces.class_counts(), seed=0)
        self.before = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.steps = 0
        self.model.on_before_zero_grad = self._count
        self.trainer = build_trainer("v", self.recipe, work, PARAMS.train, None)
        self.trainer.fit_loop.max_epochs, self.trainer.limit_val_batches = 1, 1
        self.trainer.limit_train_batches = self.recipe.accumulate
        self.trainer.fit(self.model, datamodule=self.data)
        self.after = self.network.state_dict()

    def _count(self, _: object) -> None:
        self.steps += 1

    def moved(self, name: str) -> bool:
        return not torch.equal(self.before[name], self.after[name])

    @property
    def groups(self) -> dict[str, dict]:
        return {group["name"]: group for group in self.trainer.optimizers[0].param_groups}

    @cached_property
    def callbacks(self) -> dict[type, object]:
        return {type(callback): callback for callback in self.trainer.callbacks}

    @cached_property
    def drawn(self) -> list[int]:
        """The class ids that some epochs draw."""
        sampler, ids = self.data.train_dataloader().batch_sampler.sampler, []
        for epoch in range(40):
            sampler.set_epoch(epoch)
            ids += self.data.train_faces.label_ids[list(sampler)].tolist()
        return ids


def data(run):
    expected = 7 if run.recipe.recurrent else 14 * len(run.recipe.data) * (7 - len(run.recipe.leave_out)) / 7
    assert len(run.data.validation_faces) == expected


def leave_out(run):
    assert not {LABEL_IDS[label] for label in run.recipe.leave_out} & set(run.drawn)


def one_against_rest(run):
    assert run.network.head[-1].out_features == 2
    assert run.data.train_faces.class_counts() == [24, 4]


def balance(run):
    counts = run.data.train_faces.class_counts()
    assert {count for count in counts if count} == {run.recipe.balance.faces_per_class}


def backbone_args(run):
    assert run.network.backbone.num_features == run.full.backbone_args["channels"][-1]


def small_stem(run):
    first = next(module for module in run.network.backbone.modules() if isinstance(module, nn.Conv2d))
    assert (first.kernel_size, first.stride) == ((3, 3), (1, 1))


def pretrained(run):
    with patch.object(timm, "create_model", wraps=timm.create_model) as create, torch.device("meta"):
        build_network(run.full)
    assert create.call_args.kwargs["pretrained"] is run.full.pretrained


def colour(run):
    assert run.network.normalize(torch.zeros(1, 48, 48, 3, dtype=torch.uint8)).shape[1] == 1


def image_size(run):
    assert run.data.train_faces[0][0].shape[-2] <= run.recipe.image_size
    assert run.data.validation_faces[0][0].shape[-3:] == (run.recipe.image_size, run.recipe.image_size, 3)


def trainable(run):
    learning = {name for name, parameter in run.network.named_parameters() if parameter.requires_grad}
    state = {name for name in run.before if name.startswith("backbone.")}
    still = {name for name in state if not run.moved(name)}
    frozen = {name for name, _ in run.network.named_parameters()} - learning
    assert frozen <= still
    if run.recipe.trainable == "none":
        assert still == state  # batch-norm statistics too
    else:
        assert any(run.moved(name) for name in learning if name.startswith("backbone."))
        assert isinstance(run.recipe.trainable, LastLayers | LastStages)
        assert frozen


def head(run):
    kinds = {"relu": nn.ReLU, "batch_norm": nn.BatchNorm1d, "linear": nn.Linear, "dropout": nn.Dropout}
    named = [kinds[layer if isinstance(layer, str) else next(iter(layer))] for layer in run.recipe.head]
    built = [type(layer) for layer in run.network.head if not isinstance(layer, LastState)]
    assert built[: len(named) + 1] == [*named, nn.Linear]
    assert any(run.moved(name) for name in run.before if name.startswith("head."))


def recurrent(run):
    lstm = run.network.head[0].lstm
    assert (lstm.hidden_size, lstm.num_layers) == (run.recipe.recurrent.width, run.recipe.recurrent.layers)
    assert run.moved("head.0.lstm.weight_ih_l0")
    assert run.data.train_faces[0][0].shape[0] == run.recipe.recurrent.frames


def normalize_logits(run):
    assert isinstance(run.network.head[-1], nn.BatchNorm1d)


def optimizer(run):
    said, (optimizer,) = run.recipe.optimizer, run.trainer.optimizers
    assert type(optimizer).__name__.lower() == said.name
    rates = {"head": said.lr, "backbone": said.backbone_lr or said.lr}
    for name, group in run.groups.items():
        assert group.get("highest_lr", group["lr"]) == rates[name]
        assert group["weight_decay"] == said.weight_decay
    assert set(run.groups) == ({"head"} if run.recipe.trainable == "none" else {"head", "backbone"})


def schedule(run):
    (scheduler,) = run.trainer.lr_scheduler_configs
    names = {
        "plateau": "ReduceLROnPlateau", "one_cycle": "LambdaLR", "cosine": "CosineAnnealingLR",
        "warm_restarts": "CosineAnnealingWarmRestarts", "constant": "ConstantLR", "exponential": "ExponentialLR",
    }  # fmt: skip
    phases = getattr(scheduler.scheduler, "_schedulers", [scheduler.scheduler])
    assert [type(phase).__name__ for phase in phases] == [names[phase.name] for phase in run.recipe.schedule]


def loss(run):
    said, built = run.recipe.loss, run.model.loss
    assert isinstance(built, FocalLoss) == (said.focal > 0)
    assert built.label_smoothing == said.label_smoothing
    counts = run.data.train_faces.class_counts()
    weights = getattr(built, "weight", getattr(built, "weights", None))
    if said.class_weights == "none":
        assert weights is None
    else:
        torch.testing.assert_close(weights, inverse_frequency(counts))
        torch.testing.assert_close(weights * torch.tensor(counts), torch.full((7,), sum(counts) / 7))


def accumulate(run):
    assert run.trainer.fit_loop.total_batch_idx + 1 == run.recipe.accumulate
    assert run.trainer.global_step == 1


def patience(run):
    stopping = {type(c): c for c in build_callbacks("v", run.full)}[StagedStopping]
    assert (stopping.patience, stopping.monitor, stopping.mode) == (run.full.patience, "validation/macro_f1", "max")


def stages(run):
    stopping = {type(c): c for c in build_callbacks("v", run.full)}[StagedStopping]
    assert stopping.state_dict()["ends"] == list(run.full.stages[:-1])


def checkpoint_every(run):
    *_, kept = build_checkpoints(run.full, Path("work"))
    assert (kept._every_n_epochs, kept.save_top_k) == (run.full.checkpoint_every, -1)


def sampler(run):
    shares = np.bincount(run.drawn, minlength=7) / len(run.drawn)
    np.testing.assert_allclose(shares, 1 / 7, atol=0.03)


def augment(run):
    faces = run.data.train_faces
    changed = []
    for row in range(len(faces)):
        (face, _), augment = faces[row], faces.augment
        faces.augment = None
        changed.append(not torch.equal(face, faces[row][0]))
        faces.augment = augment
    assert any(changed)
    if run.recipe.augment_share < 1:
        assert np.mean(changed) < run.recipe.augment_share + 0.35


def mixup(run):
    labels = torch.arange(14) % len(run.recipe.classes)
    _, shares = run.model.mix(torch.rand(14, 3, 32, 32), labels)
    torch.testing.assert_close(shares.sum(1), torch.ones(14))
    assert ((shares > 0).sum(1) == 2).any()


def cutmix(run):
    torch.manual_seed(0)
    (mix,) = [way for way in getattr(run.model.mix, "transforms", [run.model.mix]) if isinstance(way, CutMix)]
    labels = torch.arange(14) % len(run.recipe.classes)
    faces = torch.arange(14.0)[:, None, None, None].expand(-1, 1, 32, 32)
    mixed, shares = mix(faces, labels)
    own = (mixed == faces).float().mean((1, 2, 3))
    assert 0 < own[0] < 1
    assert mix.alpha == run.recipe.cutmix
    torch.testing.assert_close(shares[torch.arange(14), labels], own)  # a label counts by what is left of its face
    torch.testing.assert_close(shares.sum(1), torch.ones(14))


def swa(run):
    start = math.floor(run.recipe.swa.start * run.recipe.epochs)
    averaging = run.callbacks[EpochAveraging]
    assert not averaging.should_update(epoch_idx=start - 1)
    assert averaging.should_update(epoch_idx=start)


def ema(run):
    average = [torch.zeros(1)]
    run.callbacks[MovingAveraging]._kwargs["multi_avg_fn"](average, [torch.ones(1)], 10**6)
    assert float(average[0]) == pytest.approx(1 - run.recipe.ema.decay)


def tta(run):
    faces = torch.rand(2, 1 if run.recipe.colour == "grey" else 3, run.recipe.image_size, run.recipe.image_size)
    with torch.inference_mode():
        seen = [run.network.eval().classify(view).softmax(1) for view in views(faces, run.recipe.tta)]
        torch.testing.assert_close(average(run.network, faces, run.recipe.tta), torch.stack(seen).mean(0))
    assert len(seen) > 1


# Options whose effect is elsewhere: `compile` in test_train, `start_from` there and in test_dvc, `promote` in
# test_promote, and what says how long and how many at a time is in the run itself.
ELSEWHERE = {"backbone", "batch_size", "epochs", "compile", "start_from", "promote", "at_sample"}
CHECKS: dict[str, Callable[[Run], None]] = {
    check.__name__: check
    for check in (
        data, leave_out, one_against_rest, balance, backbone_args, small_stem, pretrained, colour, image_size,
        trainable, head, recurrent, normalize_logits, optimizer, schedule, loss, accumulate, patience, stages,
        checkpoint_every, sampler,
        augment, mixup, cutmix, swa, ema, tta,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    faces, splits = write_tables(tmp_path_factory.mktemp("tables"), DATASETS)
    write_clips(faces, frames=8)
    return faces, splits


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_each_option_takes_effect(name: str, tables: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = RECIPES[name]
    run = Run(recipe, tables, tmp_path)
    assert run.steps == 1
    for option in sorted(recipe.model_fields_set - ELSEWHERE):
        CHECKS[option](run)  # an option without a check fails here


def test_everything_that_is_reported_is_named_by_some_recipe() -> None:
    named = set().union(*(recipe.model_fields_set for recipe in RECIPES.values()))
    assert set(CHECKS) <= named
