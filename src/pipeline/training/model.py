"""The Lightning module: one shared step, the losses, rates and mixing that a recipe names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from pipeline.errors import NotFiniteError
from pipeline.files import written_whole
from pipeline.networks.checkpoint import Checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe
from pipeline.training import processes
from pipeline.training.losses import build_loss
from pipeline.training.optimization import build_optimizer, build_schedule
from pipeline.training.parents import Teachers


class ExpressionModel(pl.LightningModule):
    """Trains a network by a recipe; logs `train/loss`, `validation/{loss,accuracy,macro_f1}`."""

    def __init__(
        self,
        network: ExpressionNetwork,
        recipe: Recipe,
        class_counts: list[int],
        seed: int,
        teachers: Sequence[Checkpoint] = (),
    ) -> None:
        """Take the network to train, its recipe as it runs, the training faces of each of its classes, a seed.

        The `teachers` are the versions that the recipe's `distil` names.
        """
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.seed = seed
        self.loss = build_loss(recipe.loss, class_counts)
        self.validation_loss = nn.CrossEntropyLoss()
        self.mix = build_mix(recipe)
        self.teachers = Teachers(teachers, recipe.image_size)
        self.shares: list[tuple[float, int]] | None = None  # see `Shares.weigh`; none where batches are whole
        self.last_step = 0, 1.0  # of an epoch: its first batch, and what the loss of each is multiplied by
        self.accuracy = MulticlassAccuracy(len(recipe.classes), average="micro")
        self.macro_f1 = MulticlassF1Score(len(recipe.classes), average="macro")

    def _epoch_seed(self) -> int:
        return processes.own_seed(processes.epoch_seed(self.seed, self.current_epoch))

    def on_fit_start(self) -> None:
        """Bring the teachers to where the network is."""
        self.teachers.to(self.device)

    def on_train_start(self) -> None:
        """Note the last step of an epoch, of fewer batches perhaps: Lightning divides by what a step usually has."""
        batches, usual = int(self.trainer.num_training_batches), self.trainer.accumulate_grad_batches
        rest = batches % usual or usual
        self.last_step = batches - rest, usual / rest

    def on_train_epoch_start(self) -> None:
        """Seed all that is random by the epoch's number, so that a resumed run is the run it would have been."""
        pl.seed_everything(self._epoch_seed(), workers=True, verbose=False)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        data.seed_changes(self.current_epoch)
        # Cross-entropy of label ids divides by the sum of their weights, everything else by the number of faces.
        shared = self.mix or self.teachers
        self.shares = data.weigh_shares(None if shared else getattr(self.loss, "weight", None))

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Seed dropout and mixing once more: when the loader takes its own seed depends on how the run began."""
        if batch_idx == 0:
            torch.manual_seed(self._epoch_seed())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, its faces mixed in pairs, and teachers heard, if the recipe says so.

        Where it is a share of one, the mean over all shares is the batch's loss (see `Shares.weigh`).

        Raises:
            NotFiniteError: if the loss is not finite; the batch is saved in the trainer's folder.
        """
        faces, targets = batch
        faces = self.network.normalize(faces)
        if self.mix:
            faces, targets = self.mix(faces, targets)
        if self.recipe.distil:
            told = self.teachers.answer(faces * self.network.std + self.network.mean)
            targets = torch.lerp(_shares(targets, told), told, self.recipe.distil.share)
        loss = self.loss(self.network.classify(faces), targets)
        if not torch.isfinite(loss):
            file = Path(self.trainer.default_root_dir) / "not-finite.safetensors"
            with written_whole(file) as partial:  # several processes may come here at once
                save_file({"faces": batch[0].cpu(), "label_ids": batch[1].cpu()}, partial)
            raise NotFiniteError(
                f"the loss is {loss.item()} at step {self.global_step} in epoch {self.current_epoch + 1}; its batch "
                f"is in {file}; set a lower optimizer.lr, or clip_gradients, in the recipe"
            )
        size = len(faces)
        if self.shares:
            factor, size = self.shares[batch_idx]
            loss = loss * factor
        self.log(
            "train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, logger=False, sync_dist=True,
            batch_size=size,
        )  # fmt: skip
        first, factor = self.last_step
        return loss * factor if batch_idx >= first else loss

    def on_train_epoch_end(self) -> None:
        """Log the loss before the checkpoint is written; Lightning would do it behind, and a kill between lose it."""
        facts = {"train/loss": float(self.trainer.callback_metrics["train/loss"]), "epoch": self.current_epoch}
        for each in self.trainer.loggers:
            each.log_metrics(facts, self.trainer.global_step - 1)  # the step by which Lightning logs an epoch
            each.save()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Score a batch of validation faces, by plain cross-entropy, so that versions compare."""
        faces, label_ids = batch
        logits = self.network(faces)
        self.accuracy(logits, label_ids)
        self.macro_f1(logits, label_ids)
        scores = {
            "validation/loss": self.validation_loss(logits, label_ids),
            "validation/accuracy": self.accuracy,
            "validation/macro_f1": self.macro_f1,
        }
        self.log_dict(scores, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(faces))

    def configure_optimizers(self) -> Any:
        """Build optimizer and schedule over the steps that the trainer will take."""
        optimizer = build_optimizer(self.network, self.recipe.optimizer)
        steps = int(self.trainer.estimated_stepping_batches)  # it loads the data, which tells the batches of an epoch
        schedule = build_schedule(optimizer, self.recipe, steps, int(self.trainer.num_training_batches))
        return {"optimizer": optimizer, "lr_scheduler": schedule} if schedule else optimizer


def _shares(targets: Tensor, told: Tensor) -> Tensor:
    """Return label ids (batch), or shares of labels (batch, classes), as shares, of the kind of what is told."""
    if not targets.is_floating_point():
        targets = nn.functional.one_hot(targets, told.shape[1])
    return targets.to(told.dtype)


def build_mix(recipe: Recipe) -> nn.Module | None:
    """Return what mixes the faces of a batch in pairs, and their labels alike, or nothing."""
    ways: list[nn.Module] = []
    if recipe.mixup:
        ways.append(MixUp(alpha=recipe.mixup, num_classes=len(recipe.classes)))
    if recipe.cutmix:
        ways.append(CutMix(alpha=recipe.cutmix, num_classes=len(recipe.classes)))
    return RandomChoice(ways) if len(ways) > 1 else next(iter(ways), None)


class Averaging(WeightAveraging):
    """Lightning's averaging of weights, for a training that may be resumed at its end, or stop before it averages."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the average to where the weights are: it was made before they were brought there."""
        assert self._average_model is not None  # made by `setup`
        self._average_model.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the mean, once there is one; before, Lightning would put the first random weights in its place."""
        if self.has_begun:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the weights in training."""
        if self.has_begun:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the mean for the final weights, if there is one."""
        if self.has_begun:
            super().on_train_end(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take it here as well: a training that is resumed when it was over already has no end of its own."""
        self.on_train_end(trainer, pl_module)

    @property
    def has_begun(self) -> bool:
        """Whether there is a mean: a training may stop before the first weights that count."""
        return self._average_model is not None and int(self._average_model.n_averaged) > 0


class EpochAveraging(Averaging):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after each epoch from `start` on.

    The schedule stays the recipe's own. Batch-norm statistics are averaged like the weights.
    """

    def __init__(self, first_epoch: int) -> None:
        """Average from the end of the epoch with this number on, counted from 0."""
        super().__init__(use_buffers=True, multi_avg_fn=mean_of_weights)
        self.first_epoch = first_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Tell Lightning to average after this epoch; never after a step."""
        return epoch_idx is not None and epoch_idx >= self.first_epoch


def mean_of_weights(averages: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
    """Make averages over `count` weights, in place, into those over one more.

    Of the batches that batch norm has counted it is the last number: torch's mean can not take theirs on a GPU.
    """
    if averages[0].is_floating_point():
        get_swa_multi_avg_fn()(averages, weights, count)
    else:
        for average, weight in zip(averages, weights, strict=True):
            average.copy_(weight)


class MovingAveraging(Averaging):
    """The exponential moving average of the weights after each step, batch-norm statistics included.

    It begins with a short memory, so that it does not carry the first random weights along (the rule of TensorFlow's
    `ExponentialMovingAverage`): after n steps it keeps min(`decay`, (1 + n) / (10 + n)) of what it was.
    """

    def __init__(self, decay: float) -> None:
        """Keep this share of the average at each step, once there were many."""

        def update(averages: Any, weights: Any, steps: Tensor | int) -> None:
            keep = min(decay, (1 + int(steps)) / (10 + int(steps)))
            get_ema_multi_avg_fn(keep)(averages, weights, steps)

        super().__init__(use_buffers=True, multi_avg_fn=update)


def choose_precision(asked: str) -> str:
    """Return the precision to run in: as asked, or by `auto` mixed on a GPU (bf16 where it can) and full on a CPU."""
    if asked != "auto":
        return asked
    if not torch.cuda.is_available():
        return "32-true"
    # What has no bf16 of its own, such as a T4, can emulate it, slowly.
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
