"""Reads `params.yaml`, in this one place, into frozen models that refuse what they do not know."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from pipeline.complaints import explain
from pipeline.errors import PipelineError
from pipeline.recipes import CLIPS, Count, Dataset, Recipe, Scale, Section, Seed

DATASETS: tuple[Dataset, ...] = get_args(Dataset)
NO_PATHS = ("sample", "kaggle")  # sources that are words
Fraction = Annotated[float, Field(ge=0, lt=1)]
# `~` is the home folder. pathlib's own `expanduser` raises where there is no such user.
AtHome = AfterValidator(lambda path: type(path)(os.path.expanduser(path)))  # noqa: PTH111


class DatasetParams(Section):
    """Where a dataset comes from: `sample`, `kaggle`, or the path of a folder, zip, tar or CSV file."""

    source: Annotated[str, Field(alias="from", min_length=1), AtHome] = "sample"


class AffectNetParams(DatasetParams):
    """AffectNet's downloads disagree about its numbers, so their meaning is chosen here, never guessed."""

    label_map: Literal["ferplus-order", "official", "alphabetical"] = "ferplus-order"


class DatasetsParams(Section):
    """One entry a dataset."""

    fer2013: DatasetParams = DatasetParams()
    rafdb: DatasetParams = DatasetParams()
    affectnet: AffectNetParams = AffectNetParams()
    wild: DatasetParams = DatasetParams()


class SampleParams(Section):
    """The embedded sample: drawn faces a class and dataset, and the seed they are drawn from."""

    faces_per_class: Annotated[int, Field(ge=10, le=10_000)] = 80  # drawn in some minutes
    seed: Seed = 0


class ClipsParams(Section):
    """The drawn clips: people, each with one clip per label and in one split only, frames per clip, and the seed."""

    people: Annotated[int, Field(ge=3, le=2000)] = 80  # drawn in some minutes
    frames: Annotated[int, Field(ge=2, le=64)] = 8
    seed: Seed = 0


class FacesParams(Section):
    """Face detection: YuNet's file, `fetch` for the one of OpenCV's model zoo, or nothing for OpenCV's Haar cascade."""

    yunet: Annotated[Path, AtHome] | Literal["fetch"] | None = None
    minimum_side: Count = 24


class HarmonizeParams(Section):
    """Who does the work: the processes of this machine, or a Ray cluster. The result is the same."""

    engine: Literal["local", "ray"] = "local"


class SplitParams(Section):
    """Shares that are cut off where a source brings no official split, and what counts as a copy of a picture.

    `near_duplicate_bits`: of the 256 bits of a perceptual hash, how many may differ; -1: only equal pixels are copies.
    """

    validation: Fraction = 0.1
    test: Fraction = 0.1
    seed: Seed = 0
    near_duplicate_bits: Annotated[int, Field(ge=-1, le=96)] = 56


class ValidateParams(Section):
    """What the data must hold to be trained on.

    `brightness` is the range of a face's mean grey value (0..255); sharpness is the variance of its Laplacian at 48
    pixels, 0 where it is all of one colour.
    """

    minimum_train_faces_per_class: Annotated[int, Field(ge=0)] = 10
    minimum_side: Count = 24
    brightness: tuple[float, float] = (40, 220)
    minimum_sharpness: Annotated[float, Field(ge=0)] = 100


class TrainParams(Section):
    """What all recipes share: the seed, the precision, the processes that load faces, and the devices of a training.

    `devices`: processes that train one version together on this machine, a GPU each where it has any; `auto`: as many
    as it has GPUs. torchrun has its own word for it.
    """

    seed: Seed = 0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    devices: Literal["auto"] | Count = 1


class EvaluateParams(Section):
    """How sure a metric is: resamples of the bootstrap, and bins of the calibration error; and what else is asked.

    `slice_by` are columns whose values faces are told apart by for scores of their own (see
    `pipeline.evaluation.slices`); `robustness_faces` is how many faces at most are damaged in 18 ways (see
    `pipeline.evaluation.robustness`), 0 for none.
    """

    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 1000
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    slice_by: tuple[str, ...] = ("brightness", "sharpness", "size", "dataset")
    robustness_faces: Annotated[int, Field(ge=0)] = 250
    seed: Seed = 0


class PromoteParams(Section):
    """The gate's rules; `pipeline.promotion.gate.judge` says how they are applied.

    `alpha` is the probability that a candidate passes that is only as good as the champion; `class_margin` and
    `dataset_margin` are what the F1 of a class and the macro-F1 of a dataset may lose, whatever is gained elsewhere.
    `ece` is the largest calibration error, in `calibration_bins`; `megabytes` that of the exported file, and
    `milliseconds` that for one face on this machine's CPU. `dirty` says whether a version that was trained from
    uncommitted changes is refused, or let through and flagged.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    resamples: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000
    seed: Seed = 0
    class_margin: Fraction = 0.1
    dataset_margin: Fraction = 0.05
    ece: Annotated[float, Field(gt=0, le=1)] = 0.15
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    megabytes: Annotated[float, Field(gt=0)] = 1000
    milliseconds: Annotated[float, Field(gt=0)] = 1000
    dirty: Literal["flag", "refuse"] = "flag"


class PackageParams(Section):
    """The proof before packaging, and the variants that are offered beside the champion in full precision.

    `faces` are compared with the checkpoint, and `tolerance` is the largest difference of a probability that is let
    through. `variants` are made; those are offered that lose less than `variant_loss` of macro-F1. int8 takes its
    ranges from `calibration_faces` of training.
    """

    faces: Count = 256
    tolerance: Annotated[float, Field(gt=0)] = 1e-3
    variants: tuple[Literal["int8", "fp16", "bf16"], ...] = ("int8", "fp16", "bf16")
    variant_loss: Annotated[float, Field(ge=-1, le=1)] = 0.005
    calibration_faces: Count = 256


class CardParams(Section):
    """What the model card estimates the energy and carbon of a training by: power of a device, carbon of electricity.

    `cpu_watts` and `gpu_watts` are those of one device under load with its share of memory, host and cooling. The
    defaults are round figures: a CPU of a server draws 100 to 250 W, and the design power of an A100 is 400 W (NVIDIA's
    data sheet). `grams_per_kwh` of CO2 equivalents is the world's mean of 2023 (Ember, Global Electricity Review 2024).
    """

    cpu_watts: Annotated[float, Field(gt=0)] = 150
    gpu_watts: Annotated[float, Field(gt=0)] = 500
    grams_per_kwh: Annotated[float, Field(ge=0)] = 480


class SweepParams(Section):
    """A sweep over a recipe: its trials, the seeds each is averaged over, and what it varies, by dotted key.

    `epochs` shortens each training; null leaves the recipe's. What `vary` can say is in `pipeline.sweep.space`.
    """

    trials: Count = 20
    epochs: Count | None = None
    seeds: Count = 1
    vary: dict[str, str | tuple[Any, ...]] = {}


class MonitorParams(Section):
    """Watching a service by its log of predictions; see `pipeline.monitoring.drift` and `pipeline.monitoring.monitor`.

    `alpha` is the probability that a window in which nothing changed is called changed; `psi` and `accuracy_drop` are
    how large a change must be besides: that of a column as population stability index, and what the estimated accuracy
    loses. Custom has 0.1 for the index, which is too coarse for a mix of labels: FER2013 without `fear` is at 0.04, as
    `v8` answers. Below `minimum_rows` nothing is said; `reference_faces` is the most validation faces that are kept.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    psi: Annotated[float, Field(ge=0)] = 0.03
    accuracy_drop: Fraction = 0.05
    minimum_rows: Annotated[int, Field(ge=20)] = 50
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: Seed = 0
    reference_faces: Count = 2000


class CodeParams(Section):
    """The version of each stage's code, for changes in meaning that DVC cannot see.

    DVC hashes the packages and modules that decide what a stage writes (see `dvc.yaml`). Where a change elsewhere has
    the same effect, such as a default in `params.py`, raise the number of the stage: it runs again.
    """

    clips: Count = 1
    download: Count = 1
    harmonize: Count = 1
    split: Count = 1
    validate_: Annotated[Count, Field(alias="validate")] = 1
    inputs: Count = 1
    train: Count = 1
    evaluate: Count = 1
    combine: Count = 1
    promote: Count = 1
    package: Count = 1
    report: Count = 1


class Ensemble(Section):
    """Recipes, or other ensembles, whose answers are combined.

    `average`: the mean of their probabilities. `weighted`: a mean whose weights make validation most likely.
    `stacking`: a logistic regression on their log-probabilities, fitted on validation (Wolpert 1992).
    `one_against_rest`: the confidences of one binary recipe per label, normalized to sum to 1.
    """

    how: Literal["average", "weighted", "stacking", "one_against_rest"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]


class Params(Section):
    """All of `params.yaml`."""

    scale: Scale = "sample"
    use: Annotated[tuple[Dataset, ...], Field(min_length=1)] = DATASETS
    run: Annotated[tuple[str, ...], Field(min_length=1)]
    combine: tuple[str, ...] = ()
    datasets: DatasetsParams = DatasetsParams()
    sample: SampleParams = SampleParams()
    clips: ClipsParams = ClipsParams()
    faces: FacesParams = FacesParams()
    harmonize: HarmonizeParams = HarmonizeParams()
    split: SplitParams = SplitParams()
    validate_: Annotated[ValidateParams, Field(alias="validate")] = ValidateParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    promote: PromoteParams = PromoteParams()
    card: CardParams = CardParams()
    package: PackageParams = PackageParams()
    sweep: SweepParams = SweepParams()
    monitor: MonitorParams = MonitorParams()
    code: CodeParams = CodeParams()
    recipes: dict[str, Recipe]
    ensembles: dict[str, Ensemble] = {}

    @field_validator("use", "run", "combine")
    @classmethod
    def _named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("each name can stand there once")
        return names

    @model_validator(mode="after")
    def _ensembles_are_complete(self) -> Self:
        for name in self.ensembles:
            if name in self.recipes:
                raise ValueError(f"ensembles.{name} has the name of a recipe")
            self.systems(name)
        for name in self.combine:
            if name not in self.ensembles:
                raise ValueError(f"combine: there is no ensemble {name!r}; there are {', '.join(self.ensembles)}")
            if left_out := [system for system in self.systems(name) if system not in self.run]:
                raise ValueError(f"combine: {name} needs {left_out[0]}, which `run` leaves out; add it to `run`")
        return self

    @property
    def comparison(self) -> tuple[str, ...]:
        """The recipes that are only compared with, never promoted."""
        return tuple(name for name, recipe in self.recipes.items() if not recipe.promote)

    def systems(self, name: str, within: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the recipes that an ensemble consists of; of a recipe, itself.

        Raises:
            ValueError: if one of them is unknown, or an ensemble contains itself.
        """
        if name in within:
            raise ValueError(f"ensembles.{name} contains itself")
        if name in self.ensembles:
            return sum((self.systems(member, (*within, name)) for member in self.ensembles[name].of), ())
        if name not in self.recipes:
            raise ValueError(f"ensembles.{within[-1]}.of names {name}, which is neither a recipe nor an ensemble")
        return (name,)

    def dataset(self, name: str) -> DatasetParams:
        """Return the parameters of a dataset; raises PipelineError if there is none of that name."""
        if name not in DATASETS:
            raise PipelineError(f"there is no dataset {name!r}; there are {', '.join(DATASETS)}")
        return getattr(self.datasets, name)

    def label_map(self, dataset: str) -> str | None:
        """Return the name of the chosen meaning of a dataset's native labels, or nothing where there is no choice."""
        return getattr(self.dataset(dataset), "label_map", None)

    def recipe(self, version: str) -> Recipe:
        """Return the recipe of a version as it runs at the present scale.

        Raises:
            PipelineError: if there is no such version, or it needs a dataset or a version that is not chosen.
        """
        recipe = self._known_recipe(version)
        missing = [name for name in recipe.data if name not in (*self.use, CLIPS)]
        if missing:
            raise PipelineError(
                f"recipes.{version}.data names {', '.join(missing)}, which `use` leaves out; "
                f"add it to `use`, or take {version} out of `run`"
            )
        for parent in recipe.parents:
            if parent == version or parent not in self.run:
                key, none = ("start_from", "[]") if parent in recipe.start_from else ("distil", "null")
                raise PipelineError(
                    f"recipes.{version}.{key} names {parent}, which `run` leaves out or trains only as itself; "
                    f"add it to `run`, or set `recipes.{version}.{key}: {none}`"
                )
        for parent in recipe.start_from:
            mine, theirs = (r.at(self.scale).architecture for r in (recipe, self._known_recipe(parent)))
            if mine != theirs:
                raise PipelineError(f"recipes.{version}.start_from: the backbone of {parent} is {theirs}, not {mine}")
        return recipe.at(self.scale)

    def _known_recipe(self, version: str) -> Recipe:
        if version not in self.recipes:
            raise PipelineError(f"run: there is no recipe {version!r}; there are {', '.join(self.recipes)}")
        return self.recipes[version]


def load_params(file: Path = Path("params.yaml")) -> Params:
    """Read and check the parameters.

    Raises:
        PipelineError: naming the file, the key, what was expected and what was found.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Params.model_validate(content)
    except OSError as error:
        raise PipelineError(f"{file} can not be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise PipelineError(f"{file}: {explain(error, content)}") from error
