"""What a recipe can say. A version is one YAML block under `recipes` in `params.yaml`, checked against these models."""

import math
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.labels import LABEL_IDS, LABELS

SAMPLE_IMAGE_SIZE = 64
# The smallest backbone of a family, and the arguments that make it smaller still where timm's is large.
SMALLEST: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientnet": ("test_efficientnet", {}),
    "convnext": (
        "convnext_atto",
        {
            "depths": [1, 1, 3, 1],
            "dims": [24, 48, 96, 192],
            "kernel_sizes": 3,
            # From scratch and on few faces these learn in a third of the epochs that ConvNeXt's own take.
            "stem_type": "overlap_tiered",
            "norm_layer": "batchnorm2d",
            "ls_init_value": 1.0,
        },
    ),
    "mobilenetv2": ("mobilenetv2_035", {}),
    "resnet": ("resnet18", {"channels": [16, 32, 64, 128]}),
    "vgg": ("vgg11_bn", {"mlp_ratio": 0.01}),
    "vit": ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 4}),
}

Dataset = Literal["fer2013", "rafdb", "affectnet", "wild"]
Label = Literal["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
CLIPS = "clips"  # drawn too, but of rows and splits of its own, so no dataset like the others
Scale = Literal["sample", "full"]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]  # NumPy's take 32 bits


class Section(BaseModel):
    """A frozen part of `params.yaml` that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Section)


class LastLayers(Section):
    """Train only the last layers of the backbone that have weights of their own."""

    last_layers: Count


class LastStages(Section):
    """Train only the last stages of the backbone, as timm groups them."""

    last_stages: Count


class Optimizer(Section):
    """The optimizer; `backbone_lr` gives the backbone a rate of its own.

    Muon (Jordan et al. 2024) makes the update of each weight matrix orthogonal, a convolution's taken as one, and
    scales it so that rates are AdamW's. What is no matrix (biases, norms), or hardly one (a convolution of one channel,
    a side below 4), timm updates by AdamW with Nesterov's momentum.
    """

    name: Literal["adam", "adamw", "sgd", "rmsprop", "muon"] = "adamw"
    lr: Positive = 1e-4
    backbone_lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Phase(Section):
    """A part of the learning-rate schedule that lasts `share` of the run. Periods are in epochs."""

    share: Share = 1.0


class OneCycle(Phase):
    """One rise and one long fall of the rate (Smith and Topin 2018)."""

    name: Literal["one_cycle"]
    warm_up: Annotated[float, Field(gt=0, lt=1)] = 0.3


class Cosine(Phase):
    """A cosine from the rate to `minimum_lr` within `period` epochs, and back (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"]
    period: Positive | None = None
    minimum_lr: Annotated[float, Field(ge=0)] = 0.0


class WarmRestarts(Phase):
    """Cosines that start anew, the first after `period` epochs, each `growth` times as long as the one before."""

    name: Literal["warm_restarts"]
    period: Positive = 10
    growth: Count = 1
    minimum_lr: Annotated[float, Field(ge=0)] = 0.0


class Constant(Phase):
    """Stays at the rate."""

    name: Literal["constant"]


class Exponential(Phase):
    """Falls from the rate by the factor e^-`decay` an epoch."""

    name: Literal["exponential"]
    decay: Positive = 0.1


class Plateau(Phase):
    """Lowers the rate by `factor` when the validation loss has not fallen for `patience` epochs."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Count = 2


SchedulePhase = Annotated[
    OneCycle | Cosine | WarmRestarts | Constant | Exponential | Plateau, Field(discriminator="name")
]


class Loss(Section):
    """Cross-entropy, with smoothed labels and with classes weighted by the inverse of their frequency if asked for.

    With `focal` above 0 it is the focal loss of that exponent (Lin et al. 2017): what is known already counts less.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "inverse_frequency"] = "none"
    focal: Annotated[float, Field(ge=0)] = 0.0


class Balance(Section):
    """As many training faces of every label: some of those that have more, and of the others also changed copies.

    `augment` changes the copies, once and for all: they are the same in every epoch.
    """

    faces_per_class: Count
    augment: Annotated[tuple[dict[str, dict[str, Any]], ...], Field(min_length=1)]


class Distillation(Section):
    """Learns from what other versions answer for a face, as well as from its label (Hinton et al. 2015).

    The mean of the teachers' probabilities takes `share` of each target. They see what the network sees: the face as it
    was changed, and mixed with another one.
    """

    teachers: Annotated[tuple[str, ...], Field(min_length=1)]
    share: Share = 0.5


class Views(Section):
    """Test-time augmentation by this many views: the face, and crops at random places, every other one mirrored."""

    views: Annotated[int, Field(ge=2, le=100)]


class Zooms(Section):
    """Test-time augmentation by size: the face as large as it is times each of these, and its mirror image."""

    zooms: Annotated[tuple[Annotated[float, Field(ge=0.5, le=2)], ...], Field(min_length=1)]


class Recurrent(Section):
    """An LSTM (Hochreiter and Schmidhuber 1997) over the frames of a clip: its features, its layers, and the frames.

    `frames` of each clip are looked at, evenly spaced and up to the last one; a single one is the last.
    """

    width: Count = 128
    layers: Count = 1
    frames: Count = 8


class WeightAveraging(Section):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after each epoch from `start` on."""

    start: Annotated[float, Field(gt=0, lt=1)] = 0.75


class MovingAverage(Section):
    """The exponential moving average of the weights, over the last 1 / (1 - `decay`) steps or so."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class AtSample(Section):
    """How the recipe runs at `scale: sample`, from scratch on a CPU.

    Its epochs and batch, the factor on its rates, the steps after which no further epoch begins (so that a real dataset
    is minutes of work too), the share of the training faces that is augmented (a few hundred faces teach a network
    little when each is bent out of shape every time), and the faces of each label where the recipe balances them.
    """

    epochs: Count = 12
    batch_size: Annotated[int, Field(ge=2)] = 16
    lr_scale: Positive = 1.0
    augment_share: Share | None = None
    most_steps: Count = 4000
    faces_per_class: Count = 100


class Recipe(Section):
    """One version: what differs from these defaults is in `params.yaml`.

    `leave_out` are labels that the version neither learns nor is judged on; `one_against_rest` is a label that it tells
    from all others, and nothing else. `backbone_args` are arguments of timm's model. `small_stem` makes the backbone's
    first convolution one of 3x3 pixels that keeps the size, as for small pictures (He et al. 2016, section 4.2).
    `trainable` is about the backbone; the head always learns. `head` lists the layers between the backbone's pooled
    features and the final linear layer with an output for each class: `relu`, `batch_norm`, `{linear: width}`,
    `{dropout: p}`; `normalize_logits` puts a batch norm behind it. `recurrent` reads clips: the head comes after an
    LSTM over the features of the frames, and `data` is `[clips]`. `start_from` lists versions of which the one with the
    better validation macro-F1 gives the first weights, `distil` versions that teach it. `augment` lists albumentations
    transforms by name with their arguments. `mixup` and `cutmix` are the alpha of their Beta distributions; with both,
    each batch takes one of them. `stages` lists epochs, the last one being `epochs`: early stopping ends a stage, not
    the training, and begins anew in each, which goes on where the one before ended. `checkpoint_every` so many epochs a
    checkpoint is kept for good. `keep` says which weights are the final ones where neither `swa` nor `ema` averages
    any. `promote: false` marks a system to compare with: it is trained and scored like a version, but never becomes
    champion.
    """

    data: Annotated[tuple[Dataset | Literal["clips"], ...], Field(min_length=1)]
    leave_out: tuple[Label, ...] = ()
    one_against_rest: Label | None = None
    balance: Balance | None = None
    backbone: str
    backbone_args: dict[str, Any] = {}
    small_stem: bool = False
    pretrained: bool = True
    colour: Literal["rgb", "grey"] = "rgb"
    image_size: Annotated[int, Field(ge=32)] = 224
    trainable: Literal["all", "none"] | LastLayers | LastStages = "all"
    head: tuple[str | dict[str, float], ...] = ()
    normalize_logits: bool = False
    recurrent: Recurrent | None = None
    start_from: tuple[str, ...] = ()
    distil: Distillation | None = None
    optimizer: Optimizer = Optimizer()
    schedule: tuple[SchedulePhase, ...] = ()
    loss: Loss = Loss()
    batch_size: Annotated[int, Field(ge=2)] = 64
    accumulate: Count = 1
    clip_gradients: Positive | None = None
    epochs: Count = 20
    most_steps: Count | None = None
    patience: Count | None = None
    stages: tuple[Count, ...] = ()
    checkpoint_every: Count | None = None
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    augment: tuple[dict[str, dict[str, Any]], ...] = ()
    augment_share: Share = 1.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    swa: WeightAveraging | None = None
    ema: MovingAverage | None = None
    keep: Literal["best", "last"] = "best"
    tta: Literal["none", "flip", "five_crop", "ten_crop"] | Views | Zooms = "none"
    compile: bool = False
    promote: bool = True
    at_sample: AtSample = AtSample()

    @field_validator("data")
    @classmethod
    def _named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("each name can stand there once")
        return names

    @field_validator("head")
    @classmethod
    def _known_layers(cls, layers: tuple[str | dict[str, float], ...]) -> tuple[str | dict[str, float], ...]:
        for layer in layers:
            match layer:
                case "relu" | "batch_norm":
                    known = True
                case {"linear": float(width)}:
                    known = len(layer) == 1 and width >= 1 and width == int(width)
                case {"dropout": float(share)}:
                    known = len(layer) == 1 and 0 <= share < 1
                case _:
                    known = False
            if not known:
                raise ValueError(f"{layer!r} is no layer; use relu, batch_norm, {{linear: width}}, {{dropout: p}}")
        return layers

    @model_validator(mode="after")
    def _schedule_adds_up(self) -> Self:
        if any(phase.name == "plateau" for phase in self.schedule) and len(self.schedule) > 1:
            raise ValueError("schedule: plateau follows the validation loss and can not be one phase of several")
        if self.schedule and abs(sum(phase.share for phase in self.schedule) - 1) > 1e-6:
            raise ValueError("schedule: the shares of the phases must add up to 1")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lowest = min(self.optimizer.lr, self.optimizer.backbone_lr or math.inf)
        if any(getattr(phase, "minimum_lr", 0) >= lowest for phase in self.schedule):
            raise ValueError(f"schedule: minimum_lr must be below the optimizer's lowest rate, {lowest:g}")
        if self.swa and self.ema:
            raise ValueError("swa and ema both average the weights; choose one")
        if self.stages and (self.patience is None or list(self.stages) != sorted({*self.stages, self.epochs})):
            raise ValueError(
                f"stages: they are ascending epochs up to {self.epochs}, each with patience; set that, too"
            )
        if self.small_stem and self.pretrained:
            raise ValueError("small_stem: no pretrained weights fit a stem of another size; set pretrained: false")
        if self.one_against_rest in self.leave_out:
            raise ValueError(f"leave_out: {self.one_against_rest} is the label that one_against_rest is about")
        if len(set(self.leave_out)) > len(LABELS) - 2:
            raise ValueError("leave_out: at least two labels must be left")
        if self.recurrent and self.data != (CLIPS,):
            raise ValueError("recurrent: it reads clips, and the other datasets have none; set data: [clips]")
        if CLIPS in self.data and not self.recurrent:
            raise ValueError("data: clips are read by a recipe with recurrent; set it, as in recurrent: {width: 128}")
        if self.promote and (self.recurrent or self.one_against_rest):
            kind = "recurrent" if self.recurrent else "one_against_rest"
            raise ValueError(f"{kind}: the service answers for one face with seven labels; set promote: false")
        if self.recurrent and (self.leave_out or self.one_against_rest or self.balance or self.distil):
            raise ValueError("recurrent: leave_out, one_against_rest, balance and distil are for faces; take them out")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The versions that teach it."""
        return self.distil.teachers if self.distil else ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The versions that it may start from, or is taught by."""
        return tuple(dict.fromkeys((*self.start_from, *self.teachers)))

    @property
    def architecture(self) -> str:
        """The backbone's name without the tag of its pretrained weights."""
        return self.backbone.split(".")[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network tells apart: the seven labels, or the rest and one of them."""
        return LABELS if self.one_against_rest is None else ("rest", self.one_against_rest)

    def class_ids(self, label_ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return, for the ids (n,) of labels, those of the recipe's classes; -1 for a label that it leaves out."""
        of_label = np.arange(len(LABELS))
        if self.one_against_rest is not None:
            of_label = (of_label == LABEL_IDS[self.one_against_rest]).astype(np.int64)
        of_label[[LABEL_IDS[label] for label in self.leave_out]] = -1
        return of_label[label_ids]

    def at(self, scale: Scale) -> "Recipe":
        """Return the recipe as it runs at a scale.

        At `sample` it keeps its head, loss, schedule, sampler, mixup, SWA and TTA and shrinks what costs time: the
        family's smallest backbone at 64 pixels from scratch (so nothing is frozen), what `at_sample` says, periods of
        the schedule in proportion to the epochs, and no early stop, which would come before anything is learnt.
        """
        if scale == "full":
            return self
        small, optimizer, balance = self.at_sample, self.optimizer, self.balance
        backbone, arguments = smallest_backbone(self.backbone)
        shorter = self.lasting(min(self.epochs, small.epochs))
        return shorter.model_copy(
            update={
                "backbone": backbone,
                "backbone_args": {**arguments, **self.backbone_args},
                "pretrained": False,
                "image_size": min(self.image_size, SAMPLE_IMAGE_SIZE),
                "trainable": "all",
                "compile": False,
                "patience": None,
                "stages": (),
                "checkpoint_every": None,
                "augment_share": self.augment_share if small.augment_share is None else small.augment_share,
                "most_steps": min(self.most_steps or small.most_steps, small.most_steps),
                "balance": balance
                and balance.model_copy(update={"faces_per_class": min(balance.faces_per_class, small.faces_per_class)}),
                "batch_size": min(self.batch_size, small.batch_size),
                "optimizer": _scaled(optimizer, small.lr_scale),
                "schedule": tuple(_scaled(phase, small.lr_scale) for phase in shorter.schedule),
            }
        )

    def lasting(self, epochs: int) -> "Recipe":
        """Return the recipe with this many epochs, and its stages and the periods of its schedule in proportion."""
        ratio = epochs / self.epochs
        schedule = tuple(_shorten(phase, ratio) for phase in self.schedule)
        stages = tuple(sorted({max(1, round(end * ratio)) for end in self.stages}))
        return self.model_copy(update={"epochs": epochs, "schedule": schedule, "stages": stages})

    def for_faces(self, faces: int) -> "Recipe":
        """Return the recipe with as many epochs of this many training faces as `most_steps` leaves, at least one."""
        whole, rest = divmod(faces, self.batch_size)
        batches = whole + (rest > 1)  # a last one of one face is left out
        steps = max(1, math.ceil(batches / self.accumulate))
        epochs = self.epochs if self.most_steps is None else math.ceil(self.most_steps / steps)
        return self.lasting(min(self.epochs, epochs))


def smallest_backbone(name: str) -> tuple[str, dict[str, Any]]:
    """Return the smallest backbone of the family that a timm name belongs to, with arguments that make it small.

    Where no family is known, that is the name itself.
    """
    return next((small for family, small in SMALLEST.items() if family in name), (name, {}))


def _scaled(section: T, factor: float) -> T:
    """Return an optimizer or a phase with its rates multiplied by a factor."""
    rates = {name: getattr(section, name, None) for name in ("lr", "backbone_lr", "minimum_lr")}
    return section.model_copy(update={name: rate * factor for name, rate in rates.items() if rate})


def _shorten(phase: Phase, ratio: float) -> Phase:
    period = getattr(phase, "period", None)
    return phase.model_copy(update={"period": max(1.0, period * ratio)}) if period else phase
