"""What the README tells a newcomer to do exists."""

import re
import shutil
import subprocess
from pathlib import Path

import networkx
import yaml
from dvc.utils.hydra import apply_overrides
from imports import imports, local_imports

from pipeline.labels import LABELS
from pipeline.packaging.bento import NAME
from pipeline.params import DATASETS, Params, load_params
from pipeline.recipes import Recipe
from pipeline.sources import SOURCES
from pipeline.sources.fer2013 import CSV_CODES

ROOT = Path(__file__).parents[1]
CODE = ROOT / "src" / "pipeline"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {file: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
EVERYTHING = "\n".join(PAGES.values())
DATA = PAGES[ROOT / "docs" / "data.md"]


def test_every_make_target_exists():
    named = set(re.findall(r"`?\bmake ([a-z-]+)\b", EVERYTHING))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"repro", "test", "ui", "serve"} <= named <= targets


def test_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert all(f"make {target} " in shown for target in phony[1].split())


def test_every_file_that_is_linked_exists():
    links = [
        (file, link) for file, text in PAGES.items() for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link
    ]
    assert {file for file, _ in links} >= set(PAGES) - {ROOT / "docs" / "ml-test-score.md"}
    assert [(file, link) for file, link in links if not (file.parent / link).exists()] == []


def test_the_table_of_native_labels_is_what_the_adapters_do():
    lines = [line.strip("| ").split(" | ") for line in DATA.splitlines() if line.count(" | ") == 6]
    table = {cells[0].removeprefix("*dropped*: "): cells[1:] for cells in lines if cells[1] != "`fer2013` CSV"}
    assert set(table) == {*LABELS, "contempt"}
    maps = [
        CSV_CODES,
        *(labels for name in ("rafdb", "affectnet", "wild") for labels in SOURCES[name].label_maps.values()),
    ]
    for label, cells in table.items():
        for cell, labels in zip(cells, maps, strict=True):
            assert set(cell.split(", ")) - {""} == {native for native, meant in labels.items() if meant == label}


def test_every_dataset_is_listed_with_its_handle():
    for name in DATASETS:
        assert f"| `{name}` |" in DATA
        assert f"`{SOURCES[name].handle}`" in DATA


def test_the_example_of_a_version_is_a_recipe():
    block = re.search(r"```yaml\n(run:.*?)```", README, re.DOTALL)
    assert block is not None
    example = yaml.safe_load(block[1])
    recipes = {**load_params(ROOT / "params.yaml").recipes, **example["recipes"]}
    params = Params.model_validate({"recipes": recipes, "run": example["run"]})
    assert params.recipe("v8").loss.label_smoothing == 0.1


def test_every_overridden_param_exists():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key in re.findall(r"-S '?([a-z0-9_.]+)=", EVERYTHING):
        section = params
        for part in key.split("."):
            assert part in section
            section = section[part]


def test_every_ablation_takes_one_part_out_of_the_recipe(tmp_path):
    ablations = dict(re.findall(r"--name no-(\w+) -S (\S+) evaluate@v6", EVERYTHING))
    assert set(ablations) == {"swa", "mixup", "tta"}
    whole = load_params(ROOT / "params.yaml").recipe("v6").model_dump()
    for part, override in ablations.items():
        shutil.copy(ROOT / "params.yaml", tmp_path)
        apply_overrides(tmp_path / "params.yaml", [override])  # what `dvc exp run` does with -S
        without = load_params(tmp_path / "params.yaml").recipe("v6").model_dump()
        assert without == whole | {part: Recipe.model_fields[part].default}
        assert without != whole


def test_every_system_to_compare_with_is_in_its_table():
    params = load_params(ROOT / "params.yaml")
    known = {*params.comparison, *params.ensembles}
    rows = [line for line in README.split("| system |")[1].split("\n\n")[0].splitlines() if line.count("|") == 5]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])}
    assert {name for name in known if not name.endswith("_or_not")} <= listed
    assert listed <= known


def test_the_bento_is_called_what_the_readme_says():
    assert f"bentoml serve {NAME}:latest" in README


def test_every_line_of_the_architecture_uses_only_itself_and_what_follows():
    listing = README.split("## Architecture")[1].split("```")[1]
    lines = [line.strip().split("  ")[0].split() for line in listing.splitlines() if line.startswith("    ")]
    places = {name.rstrip("/"): number for number, names in enumerate(lines) for name in names}
    assert sorted(places) == sorted(path.name for path in CODE.glob("[!_]*"))
    upwards = {
        (file.relative_to(CODE).as_posix(), other.relative_to(CODE).as_posix())
        for file in CODE.rglob("*.py")
        for other in imports(file)
        if file.parent != CODE or file.name != "__init__.py"
        if places[other.relative_to(CODE).parts[0]] < places[file.relative_to(CODE).parts[0]]
    }
    assert upwards == set()


def test_no_modules_use_each_other():
    used = {(file, other) for file in CODE.rglob("[!_]*.py") for other in imports(file) if other.name != "__init__.py"}
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph(used))


def test_the_service_needs_nothing_that_trains():
    parts = {file.relative_to(CODE).parts[0] for file in local_imports(ROOT / "service.py") if CODE in file.parents}
    assert parts == {"serving", "inference", "vision", "labels.py", "files.py", "errors.py"}


def test_the_service_stands_above_all_that_it_uses():
    users = {
        file.relative_to(CODE).parts[0]
        for file in CODE.rglob("*.py")
        if any((CODE / "serving") in other.parents for other in imports(file))
    }
    assert users == {"serving", "cli"}
