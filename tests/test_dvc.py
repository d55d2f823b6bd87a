"""The graph of stages: what each depends on, and what a change reruns, as DVC itself says."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networkx
import pytest
import yaml
from dvc.repo import Repo
from imports import PACKAGE, ROOT, local_imports

from pipeline.params import load_params

FILES = ("dvc.yaml", "parents/dvc.yaml")
DATASETS = ("fer2013", "rafdb", "affectnet", "wild")
VERSIONS = tuple(f"v{number}" for number in range(1, 8))

# What stages import and do not depend on, as it does not decide what they write: sentences, the command line, atomic
# writes, the tracking store, pages, and the card, which is written once with the version that it describes. Defaults
# and meanings in params.py are stated by `code`; those of recipes.py reach `train` in what `inputs` writes.
NOT_COUNTED = ("command", "complaints", "errors", "files", "labels", "params", "recipes", "cards", "pages", "registry")
ADAPTERS = ("sources/__init__", *(f"sources/{name}" for name in DATASETS))
NOT_COUNTED_FOR: dict[str, tuple[str, ...]] = {
    "download": (*ADAPTERS, "sources/fingerprint"),  # layouts, in messages; and a file beside the output
    "harmonize": ADAPTERS,  # each dataset depends on its own, which its address names
    "validate": ("sources",),  # label maps: what they change is in the faces
    "train": ("inference/cores",),  # how many processes load faces
    "evaluate": ("sources", "inference/cores"),
    "report": ("datasets", "evaluation"),  # what they read and count is in the stage's data
    "v7": ("datasets",),  # which only `inputs` itself needs
}
# Listed though the stage's imports of it do not count: the order of the labels, the recipe with its defaults, pages.
MEANING = {"harmonize": "labels.py", "inputs": "recipes.py", "report": "pages"}

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own


def stages_of(file: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a file by name, the `do` of those that run for each item."""
    stages = yaml.safe_load((ROOT / file).read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


STAGES = {f"{file}:{name}": stage for file in FILES for name, stage in stages_of(file).items()}


def module_of(stage: str) -> str:
    """Return the name of the module in `pipeline.stages` that a stage runs."""
    (module,) = re.findall(r"^python -m pipeline\.stages\.(\S+)", STAGES[stage]["cmd"])
    return module


def open_project(folder: Path) -> None:
    """Put the repository's own dvc.yaml files and params into a folder, as a DVC project."""
    for file in (*FILES, "params.yaml"):
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    Repo.init(str(folder), no_scm=True).close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a DVC project with the repository's own dvc.yaml files and params, and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        open_project(folder)
        yield folder


@pytest.fixture
def asked_for(
    project: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, set[str]]]:
    """Return a function that gives what `dvc repro` runs with changed params: stages, each with all it needs first."""
    monkeypatch.chdir(project)  # DVC names stages as they are seen from here

    def stages(changes: dict[str, Any]) -> dict[str, set[str]]:
        shutil.copy(write_params(changes), project / "params.yaml")
        with Repo() as repo:
            graph = repo.index.graph
            wanted = set(repo.stage.collect("dvc.yaml"))
            wanted = wanted.union(*(networkx.descendants(graph, stage) for stage in wanted))
            return {s.addressing: {d.addressing for d in networkx.descendants(graph, s)} for s in wanted}

    return stages


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_of_a_stage_is_a_dependency_or_does_not_count(stage: str) -> None:
    name = stage.partition(":")[2]
    not_counted = [PACKAGE / "pipeline" / entry for entry in (*NOT_COUNTED, *NOT_COUNTED_FOR.get(name, ()))]

    def counts(file: Path) -> bool:
        return not any(file.with_suffix("") == entry or entry in file.parents for entry in not_counted)

    def belongs(file: Path, entry: Path) -> bool:
        return entry == file or entry in file.parents

    listed = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("src/") and "${item}" not in dep]
    assert all(entry.exists() for entry in listed)
    # Code that goes into what a stage makes, such as the service, counts with all it imports, as the module does.
    entries = [PACKAGE / "pipeline" / "stages" / f"{module_of(stage)}.py"]
    entries += [ROOT / dep for dep in STAGES[stage]["deps"] if re.fullmatch(r"\w+\.py", dep)]
    needed = {file for entry in entries for file in local_imports(entry, counts) if PACKAGE in file.parents}
    unlisted = {file for file in needed if not any(belongs(file, entry) for entry in listed)}
    assert not {file.relative_to(PACKAGE).as_posix() for file in unlisted}
    unused = {entry.name for entry in listed if not any(belongs(file, entry) for file in needed)}
    assert unused == ({MEANING[name]} if name in MEANING else set())


def test_every_module_of_a_stage_has_its_stage() -> None:
    modules = {file.stem for file in (PACKAGE / "pipeline" / "stages").glob("[!_]*.py")}
    named = stages_of("dvc.yaml")
    assert modules == set(named)
    assert all(module_of(f"dvc.yaml:{name}") == name for name in named)
    assert {module_of(f"parents/dvc.yaml:{name}") for name in stages_of("parents/dvc.yaml")} == {"inputs"}


def test_every_stage_has_its_number_in_code() -> None:
    code = yaml.safe_load((ROOT / "params.yaml").read_text())["code"]
    assert set(code) == set(stages_of("dvc.yaml"))
    assert all(f"code.{name}" in stage["params"] for name, stage in stages_of("dvc.yaml").items())


def test_versions_that_have_others_for_parents_have_their_block_there() -> None:
    recipes = load_params(ROOT / "params.yaml").recipes
    assert set(stages_of("parents/dvc.yaml")) == {name for name, recipe in recipes.items() if recipe.parents}
    blocks = yaml.safe_load((ROOT / "parents/dvc.yaml").read_text())["stages"]
    for version, block in blocks.items():
        assert block["foreach"] in {f"${{recipes.{version}.{key}}}" for key in ("start_from", "distil.teachers")}
        assert block["do"]["outs"] == [f"data/inputs/{version}/${{item}}.json"]


def test_params_of_every_stage_are_in_the_file(asked_for: Callable[..., Any]) -> None:
    asked_for({})
    with Repo() as repo:
        wanted = [(s.addressing, dep) for s in repo.index.stages for dep in s.deps if hasattr(dep, "read_params")]
        missing = {name: set(dep.params) - set(dep.read_params()) for name, dep in wanted}
    assert len(missing) > 20
    assert not any(missing.values()), missing


def test_dvc_lists_a_stage_for_each_item(asked_for: Callable[..., Any]) -> None:
    asked_for({})
    command = [sys.executable, "-m", "dvc", "stage", "list", "--all", "--name-only"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    versions = {f"{stage}@{version}" for stage in ("inputs", "train", "evaluate") for version in VERSIONS}
    datasets = {f"{stage}@{name}" for stage in ("download", "harmonize") for name in DATASETS}
    alone = {"split", "validate", "clips", "promote", "package", "report"}
    assert set(listed) == versions | datasets | alone | {"parents/dvc.yaml:v7@v3", "parents/dvc.yaml:v7@v6"}


def test_recipes_to_compare_with_run_by_the_stages_of_the_versions(asked_for: Callable[..., Any]) -> None:
    params = load_params(ROOT / "params.yaml")
    stages = asked_for({"run": list(params.comparison), "combine": list(params.ensembles)})
    systems = {f"{stage}@{name}" for stage in ("inputs", "train", "evaluate") for name in params.comparison}
    assert systems | {f"combine@{name}" for name in params.ensembles} <= set(stages)
    assert {"validate", "harmonize@fer2013", "train@basic_cnn"} <= stages["combine@stacking"]
    assert "clips" in stages["train@cnn_lstm"]
    assert not [name for name in stages["train@vit"] if name.startswith("train")]


def test_everything_ends_in_the_report(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({})
    assert stages["report"] == set(stages) - {"report"}
    assert stages["package"] == set(stages) - {"package", "report"}


def test_v7_waits_for_the_versions_it_may_start_from(asked_for: Callable[..., Any]) -> None:
    needed = asked_for({})["train@v7"]
    assert {"train@v3", "train@v6"} <= needed
    assert not {"train@v1", "train@v2", "train@v4", "train@v5"} & needed


def test_version_needs_no_other_one_but_its_parents(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({})
    for version in ("v1", "v2", "v3", "v4", "v5", "v6"):
        assert not [name for name in stages[f"train@{version}"] if name.startswith(("train", "parents"))]


def test_v1_alone_asks_for_no_other_version(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({"use": ["fer2013"], "run": ["v1"]})
    assert set(stages) == {
        *("download@fer2013", "harmonize@fer2013", "split", "validate", "clips", "inputs@v1"),
        *("train@v1", "evaluate@v1", "promote", "package", "report"),
    }


def test_v7_without_parents_asks_for_none(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({"run": ["v7"], "recipes.v7.start_from": []})
    assert not [name for name in stages if name.startswith("parents")]
    assert "train@v7" in stages


def test_training_follows_a_change_in_validation(asked_for: Callable[..., Any]) -> None:
    assert "validate" in asked_for({})["train@v1"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of the repository in which all stages are up to date: each output is a file with its own name."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(PACKAGE, folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "data").mkdir()
    for file in ("service.py", "bentofile.yaml", "Dockerfile.template", "data/corrections.csv", ".dvcignore"):
        shutil.copy(ROOT / file, folder / file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        open_project(folder)
        patch.chdir(folder)
        with Repo() as repo:
            outputs = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
            for out in [*outputs, folder / "models" / "champion.json"]:
                file = out if out.suffix else out / "file"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(str(out.relative_to(folder)))
            repo.commit(force=True)
        yield folder


Stale = dict[str, set[str]]


def stale(folder: Path) -> Stale:
    """Return the stages that `dvc status` names in a folder, each with the dependencies and params that changed."""
    with Repo(str(folder)) as repo:
        status = repo.status()
    found: Stale = {}
    for stage, entries in status.items():
        changed = [entry["changed deps"] for entry in entries if "changed deps" in entry]
        assert len(changed) == len(entries), entries
        for dependency, how in (item for deps in changed for item in deps.items()):
            found.setdefault(stage, set()).update([dependency] if isinstance(how, str) else how)
    return found


def every(*stages: str) -> set[str]:
    """Return the addresses of stages that run for each dataset or version."""
    return {
        f"{stage}@{item}" for stage in stages for item in (DATASETS if stage in ("download", "harmonize") else VERSIONS)
    }


UNCHANGED = (  # files that may change without making a stage stale
    "errors.py", "complaints.py", "command.py", "files.py", "params.py", "cli/__init__.py", "registry/progress.py",
    "registry/outbox.py", "registry/tracking.py", "cards/card.py", "sweep/study.py",
)  # fmt: skip
# A changed file, and the stages that it makes stale by itself; what follows them runs if their output changes.
CHANGED: dict[str, set[str]] = {
    "pages/style.css.j2": {"report"},
    "recipes.py": every("inputs"),
    "labels.py": every("harmonize"),
    "sample/head.py": every("download") | {"clips"},
    "sources/kaggle.py": every("download"),
    "sources/affectnet.py": {"harmonize@affectnet"},  # its label map
    "sources/picture.py": every("harmonize"),
    "datasets/holdout.py": {"split"},
    "vision/transforms.py": every("harmonize", "train", "evaluate") | {"validate", "promote"},  # the resize
    "vision/video.py": {"package"},
    "training/losses.py": every("train", "evaluate"),
    "evaluation/metrics.py": every("evaluate") | {"promote", "package"},
    "promotion/gate.py": {"promote"},
    "packaging/export.py": {"promote", "package"},
    "serving/endpoint.py": {"package"},
}
PARAMS: dict[str, tuple[Any, set[str]]] = {
    "recipes.v1.epochs": (51, {"inputs@v1"}),
    "recipes.basic_cnn.epochs": (51, set()),
    "split.seed": (1, {"split"}),
    "code.train": (2, every("train")),
    "promote.alpha": (0.01, {"promote"}),
    "evaluate.bootstrap": (2000, every("evaluate")),
    "monitor.psi": (0.1, set()),
    "sweep.trials": (3, set()),
}


@pytest.fixture
def change(built: Path) -> Iterator[Callable[[Path, str], None]]:
    """Return a function that changes a file of the built copy, given its new text; all are restored in the end."""
    before: dict[Path, str] = {}

    def write(file: Path, text: str) -> None:
        before.setdefault(file, file.read_text())
        file.write_text(text)

    yield write
    for file, text in before.items():
        file.write_text(text)


def test_nothing_is_stale_after_a_run_or_for_a_sentence(built: Path, change: Callable[[Path, str], None]) -> None:
    for name in UNCHANGED:
        file = built / "src" / "pipeline" / name
        change(file, file.read_text() + "\n# a comment\n")
    assert stale(built) == {}


def test_a_changed_file_makes_just_the_stages_stale_whose_results_it_decides(
    built: Path, change: Callable[[Path, str], None]
) -> None:
    for name in CHANGED:
        file = built / "src" / "pipeline" / name
        change(file, file.read_text() + "\n# a comment\n")
    found = stale(built)  # one look at all of them: DVC names what changed for each stage
    for name, wanted in CHANGED.items():
        parts = {f"src/pipeline/{part}" for part in (name, *map(str, Path(name).parents))}
        alone = {stage for stage, changed in found.items() if changed & parts}
        others = {other for other in CHANGED if other != name and Path(other).parent == Path(name).parent}
        assert wanted <= alone <= wanted.union(*(CHANGED[other] for other in others)), name
    assert set(found) == set().union(*CHANGED.values())


def test_a_changed_parameter_makes_just_its_stages_stale(
    built: Path, change: Callable[[Path, str], None], write_params: Callable[..., Path]
) -> None:
    change(built / "params.yaml", write_params({key: value for key, (value, _) in PARAMS.items()}).read_text())
    found = stale(built)
    for key, (_, wanted) in PARAMS.items():
        assert {stage for stage, changed in found.items() if any(key.startswith(part) for part in changed)} == wanted
