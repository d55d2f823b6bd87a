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
from jinja2 import Environment
from jinja2.meta import find_referenced_templates

from pipeline.params import load_params

FILES = ("dvc.yaml", "parents/dvc.yaml", "zoo/dvc.yaml")
DATASETS = ("fer2013", "rafdb", "affectnet", "wild")

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own


def stages_of(file: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a file by name, the `do` of those that run for each item."""
    stages = yaml.safe_load((ROOT / file).read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


STAGES = {f"{file}:{name}": stage for file in FILES for name, stage in stages_of(file).items()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a DVC project with the repository's own dvc.yaml files and params, and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    for file in (*FILES, "params.yaml", "zoo/params.yaml"):
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        Repo.init(str(folder), no_scm=True).close()
        yield folder


@pytest.fixture
def asked_for(
    project: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, set[str]]]:
    """Return a function that tells what `dvc repro` runs with changed params: stages, each with all it needs first."""
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
def test_code_of_a_stage_is_exactly_what_its_module_imports(stage: str) -> None:
    (module,) = re.findall(r"^python -m (\S+)", STAGES[stage]["cmd"])
    if not stage.startswith("parents/"):
        name = stage.partition(":")[2]  # in the zoo, stages of faces run on clips too
        assert module in {f"pipeline.stages.{name}", f"pipeline.stages.{name.removesuffix('_clips')}"}
    listed = [name for name in STAGES[stage]["deps"] if name.endswith(".py")]
    # Code that goes into what a stage makes, such as the service, counts with all it imports, as the module does.
    entries = [PACKAGE.joinpath(*module.split(".")).with_suffix(".py"), *(ROOT / n for n in listed if "/" not in n)]
    assert all(entry.exists() for entry in entries)
    needed = {file.relative_to(ROOT).as_posix() for entry in entries for file in local_imports(entry)}
    assert sorted(listed) == sorted(needed)


def test_pages_depend_on_their_templates() -> None:
    pages = PACKAGE / "pipeline" / "pages"
    parts = {
        file.name: set(find_referenced_templates(Environment().parse(file.read_text()))) for file in pages.glob("*.j2")
    }
    listed = {name: {Path(dep).name for dep in stage["deps"] if dep.endswith(".j2")} for name, stage in STAGES.items()}
    for stage, shown in (
        ("validate", {"data.html.j2"}),
        ("promote", {"promotion.md.j2", "card.md.j2", "card.html.j2", "card_brief.md.j2"}),
        ("compare", {"versions.html.j2"}),
        ("evaluate", {"version.html.j2"}),
    ):
        assert listed[f"dvc.yaml:{stage}"] == shown.union(*(parts[page] for page in shown))
    assert set().union(*listed.values()) == set(parts) - {"monitor.html.j2"}  # which no stage makes


def test_every_module_of_a_stage_has_its_stage() -> None:
    modules = {file.stem for file in (PACKAGE / "pipeline" / "stages").glob("[!_]*.py")}
    named = {*stages_of("dvc.yaml"), *stages_of("zoo/dvc.yaml")}
    assert modules <= named
    assert named - modules == {"inputs_clips", "train_clips"}


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
    versions = {f"{stage}@v{n}" for stage in ("inputs", "train", "evaluate") for n in range(1, 8)}
    datasets = {f"{stage}@{name}" for stage in ("download", "harmonize") for name in DATASETS}
    alone = {"split", "validate", "promote", "compare", "package"}
    listed = [name for name in listed if not name.startswith("zoo/")]
    assert set(listed) == versions | datasets | alone | {"parents/dvc.yaml:v7@v3", "parents/dvc.yaml:v7@v6"}


def test_the_zoo_has_a_stage_for_each_system_and_the_pipeline_needs_none_of_them(asked_for: Callable[..., Any]) -> None:
    assert not [name for stages in asked_for({}).items() for name in (stages[0], *stages[1]) if "zoo" in name]
    zoo = yaml.safe_load((ROOT / "zoo/params.yaml").read_text())
    with Repo() as repo:
        graph = repo.index.graph
        stages = {
            s.name: {d.addressing for d in networkx.descendants(graph, s)} for s in repo.stage.collect("zoo/dvc.yaml")
        }
    systems = {f"{stage}@{name}" for stage in ("inputs", "train", "evaluate") for name in zoo["run"]}
    clips = {f"{stage}_clips@{name}" for stage in ("inputs", "train", "evaluate") for name in zoo["sequences"]}
    assert set(stages) == systems | clips | {"clips", "rank"} | {f"combine@{name}" for name in zoo["ensembles"]}
    assert {"validate", "harmonize@fer2013", "zoo/dvc.yaml:train@basic_cnn"} <= stages["combine@stacking"]
    assert not [name for name in stages["train@vit"] if name.startswith("zoo/dvc.yaml:train")]


def test_the_zoo_runs_the_same_stages_on_the_same_data() -> None:
    ours, zoos = stages_of("dvc.yaml"), stages_of("zoo/dvc.yaml")
    for name in set(ours) & set(zoos):
        theirs = yaml.safe_dump(zoos[name])
        for own, shared in (("zoo/inputs", "data/inputs"), ("zoo/", "")):
            theirs = theirs.replace(own, shared)
        code = [dep for dep in ours[name]["deps"] if dep.endswith(".py")]
        assert code == [dep for dep in zoos[name]["deps"] if dep.endswith(".py")]
        assert all(dep in theirs for dep in ours[name]["deps"])
        assert re.findall(r"\S+", ours[name]["cmd"]) == re.findall(r"\S+", yaml.safe_load(theirs)["cmd"])
        assert zoos[name]["wdir"] == ".."


def test_everything_ends_in_the_package_and_the_page_of_versions(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({})
    assert stages["package"] == stages["compare"] == set(stages) - {"package", "compare"}


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
        *("download@fer2013", "harmonize@fer2013", "split", "validate", "inputs@v1"),
        *("train@v1", "evaluate@v1", "promote", "compare", "package"),
    }


def test_v7_without_parents_asks_for_none(asked_for: Callable[..., Any]) -> None:
    stages = asked_for({"run": ["v7"], "recipes.v7.start_from": []})
    assert not [name for name in stages if name.startswith("parents")]
    assert "train@v7" in stages


def test_training_follows_a_change_in_validation(asked_for: Callable[..., Any]) -> None:
    assert "validate" in asked_for({})["train@v1"]
