"""Making a registered version once more: its commit, its parameters and its data, trained and scored anew."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.errors import PipelineError
from pipeline.files import read_json, sha256_of
from pipeline.networks.checkpoint import WEIGHTS, load_checkpoint
from pipeline.registry import registry, tracking
from pipeline.registry.lineage import FILE, PARAMS
from pipeline.registry.repro import cache_folder, run_dvc

PLACE = Path("checkpoints/reproduce")  # what is interrupted goes on from there
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "albumentations", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Reproduction:
    """What came out of making a version again: its scores, then and now, by name, and whether the weights are equal."""

    then: dict[str, float]
    now: dict[str, float]
    same_weights: bool

    @property
    def largest_difference(self) -> float:
        """The largest difference of a score."""
        return max(abs(self.now[name] - value) for name, value in self.then.items())

    def beyond(self, tolerance: float) -> list[str]:
        """Return the names of the scores that differ by more."""
        return [name for name, value in self.then.items() if abs(self.now[name] - value) > tolerance]


def reproduce(client: MlflowClient, version: ModelVersion, models: Path) -> Reproduction:
    """Check out the commit of a registered version, restore its parameters and data, and train and score it anew.

    It happens in a clone of this repository, which shares DVC's cache: data comes from there if it can; versions that
    this one started from are trained again as well. It has a tracking store of its own, so that nothing here changes;
    only the registered version is told the outcome, as its tag `reproduced`. An interrupted call goes on at the next
    one.

    Args:
        client: of the registry.
        version: what to make again.
        models: folder below which its files lie, or are fetched to.

    Raises:
        PipelineError: if its commit or its data can not be had, or nothing is known of its scores.
    """
    made = registry.fetch(version, models)
    checkpoint, then = load_checkpoint(made), tracking.scores_of(client.get_run(str(version.run_id)))
    if not then:
        raise PipelineError(f"the run of {version.name} version {version.version} has no scores to compare with")
    recipe = checkpoint.facts["version"]
    clone = PLACE / f"{version.name}-{version.version}"
    if not (clone / FILE).exists():
        shutil.rmtree(clone, ignore_errors=True)
        _clone(version.tags.get("git_commit", "unknown"), clone)
        (clone / PARAMS).write_text(yaml.safe_dump(read_json(made / FILE)["params"], sort_keys=False), encoding="utf-8")
        shutil.copy(made / FILE, clone)  # last: the clone is whole
    store = f"sqlite:///{clone.resolve()}/mlflow.db"
    sources = os.pathsep.join([str(clone.resolve() / "src"), os.environ.get("PYTHONPATH", "")])

    def dvc(*arguments: str) -> None:
        run_dvc("repro", *arguments, folder=clone, MLFLOW_TRACKING_URI=store, PYTHONPATH=sources)

    dvc(f"inputs@{recipe}", *(f"parents/dvc.yaml:{recipe}@{parent}" for parent in checkpoint.recipe.parents))
    _check_data(checkpoint.facts["data"], read_json(clone / "data" / "inputs" / recipe / "faces.json"))
    dvc("--single-item", "--force", f"train@{recipe}")  # by force, or DVC would restore what it knows
    dvc("--single-item", "--force", f"evaluate@{recipe}")
    weights = sha256_of(clone / "models" / recipe / WEIGHTS)
    run = tracking.find_run(MlflowClient(store, store), recipe, weights)
    assert run is not None  # the evaluation has seen to it
    now = tracking.scores_of(run)
    outcome = Reproduction(
        {name: value for name, value in then.items() if name in now}, now, weights == version.tags["weights_sha256"]
    )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    equal = "the same weights" if outcome.same_weights else "other weights"
    client.set_model_version_tag(
        version.name,
        str(version.version),
        registry.REPRODUCED,
        f"{at}: {equal}, scores differ by {outcome.largest_difference:.4f} at most",
    )
    shutil.rmtree(clone)
    return outcome


def changed_packages(version: ModelVersion, models: Path) -> list[str]:
    """Return what is installed here otherwise than where a version was made, of what its scores may depend on."""
    made_with: Mapping[str, str] = read_json(registry.fetch(version, models) / FILE).get("environment", {})
    return [
        f"{name} {_installed(name)}, not {made_with[name]}"
        for name in PACKAGES
        if name in made_with and _installed(name) != made_with[name]
    ]


def describe(outcome: Reproduction) -> str:
    """Return the scores side by side, as lines for a person."""
    rows = [("", "registered", "again", "difference")]
    rows += [
        (name, f"{value:.4f}", f"{outcome.now[name]:.4f}", f"{outcome.now[name] - value:+.4f}")
        for name, value in outcome.then.items()
    ]
    lines = [f"  {name:<36}{then:>11}{now:>9}{difference:>12}" for name, then, now, difference in rows]
    return "\n".join([*lines, f"  the weights are {'the same' if outcome.same_weights else 'others'}"])


def _clone(commit: str, folder: Path) -> None:
    """Clone this repository at a commit; DVC finds data where it does here."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}"):
        raise PipelineError(f"commit {commit} is not in this repository; fetch it (`git fetch --all`) and try again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if error := _git("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder)):
        raise PipelineError(f"git can not clone this repository: {error}")
    if error := _git("-C", str(folder), "checkout", "--quiet", "--detach", commit):
        raise PipelineError(f"git can not check out {commit}: {error}")
    if (local := Path(".dvc/config.local")).exists():
        shutil.copy(local, folder / ".dvc")
    run_dvc("config", "--local", "cache.dir", str(cache_folder()), folder=folder)


def _check_data(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [name for name, sha256 in then.items() if now.get(name) != sha256]
    if changed:
        raise PipelineError(
            f"the data is not what the version learned from: {', '.join(changed)}; its source was replaced, and DVC's "
            "cache does not hold the former one; `dvc pull` it, or give the source back"
        )


def _installed(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "none"


def _git(*arguments: str) -> str:
    """Run git, and return what it complains about, if anything."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
