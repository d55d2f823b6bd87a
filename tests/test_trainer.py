"""What looks on at a training, in short runs of a toy network whose scores are made up."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from pipeline.params import TrainParams
from pipeline.recipes import Recipe
from pipeline.registry import progress
from pipeline.registry.progress import Stopwatch
from pipeline.training.optimization import build_schedule
from pipeline.training.trainer import LAST, StagedStopping, WholeCheckpoints, build_checkpoints, build_trainer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Let Lightning write where nobody minds."""
    monkeypatch.chdir(tmp_path)


def test_the_trainer_accumulates_and_clips_as_the_recipe_says(tmp_path):
    asked = recipe(accumulate=3, clip_gradients=0.5, epochs=4)
    trainer = build_trainer("v", asked, tmp_path, TrainParams(), None, parts=2)
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val, trainer.max_epochs) == (6, 0.5, 4)


class Scored(pl.LightningModule):
    """Has the validation scores that it is told to have, one an epoch."""

    def __init__(self, scores):
        super().__init__()
        self.layer, self.scores = torch.nn.Linear(1, 1), scores

    def training_step(self, batch, _):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch, _):
        self.log_dict({"validation/macro_f1": self.scores[self.current_epoch], "validation/loss": 1.0})

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        plateau = recipe(schedule=[{"name": "plateau", "patience": 2, "factor": 0.1}])
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, plateau, steps, int(self.trainer.num_training_batches))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class Clock:
    """A clock that a test winds."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Rates(pl.Callback):
    """Writes down the learning rate of each epoch."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def fit(scores, *callbacks, resume=None, epochs=None):
    loader = DataLoader(TensorDataset(torch.zeros(2, 1)))
    trainer = pl.Trainer(
        max_epochs=epochs or len(scores), callbacks=list(callbacks), logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Scored(scores), loader, loader, ckpt_path=resume)
    return trainer.fit_loop.epoch_progress.current.processed


FALLING = [0.9 - 0.01 * epoch for epoch in range(30)]


def test_without_stages_patience_ends_the_training():
    assert fit(FALLING, StagedStopping((), 3)) == 4  # the first epoch is the best, and three more


def test_patience_ends_a_stage_and_only_the_last_one_ends_the_training():
    assert fit(FALLING, StagedStopping((20, 25, 30), 3)) == 4 + 4 + 4


def test_a_stage_ends_at_its_epoch_with_a_patience_of_its_own_for_the_next():
    scores = [0.1 * epoch for epoch in range(5)] + FALLING[:15]  # rises to .4, and falls from .9 on
    assert fit(scores, StagedStopping((5, 20), 3)) == 5 + 4
    assert fit(scores[:5] + [0.3] * 15, StagedStopping((5, 20), 3)) == 5 + 4  # .4 of the first stage is forgotten


def recipe(**changes):
    return Recipe.model_validate({"data": ["fer2013"], "backbone": "basic_cnn", **changes})


@pytest.mark.parametrize("cut", [2, 5, 9])
def test_a_resumed_training_is_in_the_stage_in_which_it_was(tmp_path, cut):
    whole = fit(FALLING, StagedStopping((20, 25, 30), 3))
    fit(FALLING, StagedStopping((20, 25, 30), 3), *build_checkpoints(recipe(), tmp_path), epochs=cut)
    assert fit(FALLING, StagedStopping((20, 25, 30), 3), resume=tmp_path / LAST) == whole


def test_an_interruption_does_not_defer_the_plateau(tmp_path):
    whole, resumed = Rates(), Rates()
    fit(FALLING[:8], whole)
    assert whole.seen == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    for epochs in range(1, 9):  # an epoch in each life
        last = tmp_path / LAST if epochs > 1 else None
        fit(FALLING[:8], resumed, *build_checkpoints(recipe(), tmp_path), resume=last, epochs=epochs)
    assert resumed.seen == pytest.approx(whole.seen)


def test_a_training_that_had_stopped_is_not_resumed(tmp_path):
    scores = [*FALLING[:4], 0.99, *FALLING[4:]]  # it would learn more
    assert fit(scores, StagedStopping((), 3), *build_checkpoints(recipe(), tmp_path)) == 4
    assert fit(scores, StagedStopping((), 3), *build_checkpoints(recipe(), tmp_path), resume=tmp_path / LAST) == 4


def test_a_training_whose_folder_was_moved_keeps_its_best_epoch(tmp_path):
    scores = [0.1, 0.9, 0.2, 0.3]
    fit(scores, *build_checkpoints(recipe(), tmp_path / "here"), epochs=2)
    there = (tmp_path / "here").rename(tmp_path / "there")
    best, last = build_checkpoints(recipe(), there)
    assert fit(scores, best, last, resume=there / LAST) == 4
    assert (best.best_model_path, float(best.best_model_score)) == (str(there / "best.ckpt"), pytest.approx(0.9))
    assert torch.load(there / "best.ckpt", weights_only=True)["epoch"] == 1
    assert sorted(file.name for file in there.iterdir()) == ["best.ckpt", LAST]


def test_each_epoch_may_be_kept_and_a_second_time_takes_the_place_of_the_first(tmp_path):
    for _ in range(2):
        fit(FALLING[:2], *build_checkpoints(recipe(checkpoint_every=1), tmp_path / "work"))
        assert sorted(file.name for file in (tmp_path / "kept-work").iterdir()) == ["epoch-000.ckpt", "epoch-001.ckpt"]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints, file = WholeCheckpoints(), tmp_path / LAST
    checkpoints.save_checkpoint({"epoch": 1}, file)

    def cut_off(self, content):
        with self.open("wb") as opened:
            opened.write(content[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint({"epoch": 2}, file)
    assert checkpoints.load_checkpoint(file) == {"epoch": 1}


def test_checkpoints_are_kept_beside_the_folder_of_the_training(tmp_path):
    fit(FALLING[:7], *build_checkpoints(recipe(checkpoint_every=3), tmp_path / "work"))
    assert sorted(file.name for file in (tmp_path / "kept-work").iterdir()) == ["epoch-002.ckpt", "epoch-005.ckpt"]
    assert {"best.ckpt", LAST} == {file.name for file in (tmp_path / "work").iterdir()}


@pytest.mark.parametrize("said", [
    {"stages": (5, 20), "epochs": 20},  # no patience
    {"stages": (5, 10), "epochs": 20, "patience": 3},
    {"stages": (10, 5, 20), "epochs": 20, "patience": 3},
])  # fmt: skip
def test_stages_that_make_no_sense_are_refused(said):
    with pytest.raises(ValueError, match="stages: they are ascending epochs up to 20, each with patience"):
        recipe(**said)


def test_the_time_of_a_training_that_went_on_is_that_of_all_its_parts(tmp_path, monkeypatch):
    clock, watch, again = Clock(), Stopwatch(), Stopwatch()
    monkeypatch.setattr(progress, "time", clock)

    class Hour(pl.Callback):
        def on_train_epoch_start(self, *_):
            clock.now += 3600

    last = build_checkpoints(recipe(), tmp_path)[1]
    fit([0.1, 0.2, 0.3], watch, Hour(), last, epochs=2)
    assert float(watch) == 2 * 3600
    clock.now += 24 * 3600  # nobody trained
    fit([0.1, 0.2, 0.3], again, Hour(), resume=tmp_path / LAST)
    assert float(again) == 3 * 3600
