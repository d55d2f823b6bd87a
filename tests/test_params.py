import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.params import DATASETS, Params, load_params
from pipeline.recipes import Recurrent

ROOT = Path(__file__).parents[1]
Write = Callable[..., Path]

# What is changed in params.yaml, the key that the error must begin with, and words that must follow.
REFUSED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "unknown key": ({"scal": "full"}, "scal", ["not a known key", "did you mean scale?"]),
    "unknown key of a dataset": ({"datasets.fer2013.form": "x"}, "datasets.fer2013.form", ["did you mean from?"]),
    "unknown key of a recipe": ({"recipes.v1.epoch": 3}, "recipes.v1.epoch", ["did you mean epochs?"]),
    "unknown key like none": ({"split.zebra": 1}, "split.zebra", ["not a known key"]),
    "no number": ({"recipes.v1.epochs": "many"}, "recipes.v1.epochs", ["integer", "'many'"]),
    "rate that is no number": ({"recipes.v1.optimizer.lr": "1e-4x"}, "recipes.v1.optimizer.lr", ["number", "1e-4x"]),
    "too small": ({"sample.faces_per_class": 2}, "sample.faces_per_class", ["10", "got 2"]),
    "more than is drawn in a day": ({"sample.faces_per_class": 10**12}, "sample.faces_per_class", ["equal to 10000"]),
    "more resamples than fit": ({"evaluate.bootstrap": 10**12}, "evaluate.bootstrap", ["equal to 100000"]),
    "more bins than faces": ({"evaluate.calibration_bins": 10**12}, "evaluate.calibration_bins", ["equal to 1000"]),
    "seed that NumPy does not take": ({"train.seed": 1 << 32}, "train.seed", ["less than 2147483648"]),
    "unknown scale": ({"scale": "huge"}, "scale", ["'sample' or 'full'", "'huge'"]),
    "dataset in use that is unknown": ({"use": ["fer2013", "ck48"]}, "use.1", ["'ck48'", *DATASETS]),
    "nothing in use": ({"use": []}, "use", ["at least 1"]),
    "one name in place of a list": ({"use": "fer2013"}, "use", ["list", "'fer2013'"]),
    "nothing to run": ({"run": []}, "run", ["at least 1"]),
    "unknown schedule": ({"recipes.v3.schedule": [{"name": "step"}]}, "recipes.v3.schedule.0", ["'step'", "one_cycle"]),
    "option of another schedule": (
        {"recipes.v3.schedule": [{"name": "plateau", "period": 3}]},
        "recipes.v3.schedule.0",
        ["plateau", "period", "not a known key"],
    ),
    "plateau as one phase of several": (
        {"recipes.v3.schedule": [{"name": "plateau", "share": 0.5}, {"name": "cosine", "share": 0.5}]},
        "recipes.v3",
        ["schedule", "plateau"],
    ),
    "shares that do not add up": (
        {"recipes.v5.schedule": [{"name": "cosine", "share": 0.5}]},
        "recipes.v5",
        ["add up"],
    ),
    "unknown layer": ({"recipes.v1.head": ["gelu"]}, "recipes.v1.head", ["'gelu'", "batch_norm"]),
    "unknown label map": (
        {"datasets.affectnet.label_map": "jaffe"},
        "datasets.affectnet.label_map",
        ["'official'", "'alphabetical'", "'jaffe'"],
    ),
    "label map of a dataset with one": ({"datasets.rafdb.label_map": "official"}, "datasets.rafdb.label_map", []),
    "empty section": ({"recipes.v1": None}, "recipes.v1", ["None"]),
    # Keys that allow one of several kinds of values: the error must still name them as they stand in the file.
    "unknown part to train": ({"recipes.v1.trainable": "some"}, "recipes.v1.trainable:", ["'some'"]),
    "unknown kind of part to train": (
        {"recipes.v1.trainable": {"last_layer": 4}},
        "recipes.v1.trainable",
        ["last_layers"],
    ),
    "no layers to train": ({"recipes.v1.trainable": {"last_layers": 0}}, "recipes.v1.trainable.last_layers", ["got 0"]),
    "recurrent without clips": (
        {"recipes.v1.recurrent": {"width": 64}},
        "recipes.v1: recurrent:",
        ["the other datasets have none", "set data: [clips]"],
    ),
    "recurrent over clips and faces": (
        {"recipes.v1.recurrent": {"width": 64}, "recipes.v1.data": ["clips", "fer2013"]},
        "recipes.v1: recurrent:",
        ["set data: [clips]"],
    ),
    "clips without recurrent": (
        {"recipes.v1.data": ["clips"]},
        "recipes.v1: data:",
        ["recurrent: {width: 128}"],
    ),
    "clips of no frame": (
        {"recipes.v1.data": ["clips"], "recipes.v1.recurrent": {"frames": 0}},
        "recipes.v1.recurrent.frames",
        ["got 0"],
    ),
    "negative number of workers": ({"train.workers": -1}, "train.workers:", ["greater than or equal to 0", "-1"]),
}


def sentence(file: Path) -> str:
    with pytest.raises(PipelineError) as error:
        load_params(file)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_file_of_the_repository_is_sound() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.use == DATASETS
    assert params.run == ("v1", "v2", "v3", "v4", "v5", "v6", "v7")
    assert {params.recipe(version).image_size for version in params.run} == {64}


def test_numbers_with_an_exponent_are_floats(write_params: Write) -> None:
    file = write_params()
    file.write_text(file.read_text() + "package: {tolerance: 1e-4}\n")  # PyYAML alone reads this as a string
    assert load_params(file).package.tolerance == 1e-4
    assert load_params(ROOT / "params.yaml").recipes["v1"].optimizer.lr == 1e-4


def test_tilde_stands_for_the_home_folder(write_params: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    params = load_params(write_params({"datasets.fer2013.from": "~/fer2013.zip", "faces.yunet": "~/yunet.onnx"}))
    assert params.dataset("fer2013").source == "/home/anna/fer2013.zip"
    assert params.faces.yunet == Path("/home/anna/yunet.onnx")
    params = load_params(write_params({"datasets.fer2013.from": "~nobody-here/fer2013.zip"}))
    assert params.dataset("fer2013").source == "~nobody-here/fer2013.zip"


@pytest.mark.parametrize("problem", REFUSED)
def test_one_sentence_names_file_and_key(problem: str, write_params: Write) -> None:
    changes, key, words = REFUSED[problem]
    file = write_params(changes)
    said = sentence(file)
    assert re.match(re.escape(f"{file}: {key}"), said)
    assert not re.search(r"literal\[|\.str\b|function-", said)  # pydantic's names for its own parts
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("content", "words"), [("use: [fer2013", "no YAML"), ("", "the file"), ("- scale", "the file")]
)
def test_what_holds_no_parameters_is_refused(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    said = sentence(file)
    assert str(file) in said
    assert words in said


def test_missing_file_and_missing_key_are_named(tmp_path: Path) -> None:
    assert sentence(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml can not be read: No such file or directory"
    (tmp_path / "short.yaml").write_text("recipes: {}")
    assert sentence(tmp_path / "short.yaml") == f"{tmp_path}/short.yaml: run is missing"


def refusal(params: Params, version: str) -> str:
    with pytest.raises(PipelineError) as error:
        params.recipe(version)
    return str(error.value)


def test_unknown_version_is_refused_with_the_known_ones(write_params: Write) -> None:
    said = refusal(load_params(write_params({"run": ["v99"]})), "v99")
    assert "'v99'" in said
    assert "v1, v2, v3" in said


def test_recipe_with_a_dataset_that_is_not_in_use_is_refused_by_name(write_params: Write) -> None:
    params = load_params(write_params({"use": ["fer2013", "rafdb"]}))
    assert params.recipe("v1").data == ("fer2013",)
    said = refusal(params, "v7")
    assert said.startswith("recipes.v7.data names affectnet, wild")
    assert "`use`" in said


def test_clips_need_not_be_in_use(write_params: Write) -> None:
    recipe = {"recipes.v1.data": ["clips"], "recipes.v1.recurrent": {"width": 16}, "recipes.v1.promote": False}
    params = load_params(write_params(recipe))
    assert params.recipe("v1").recurrent == Recurrent(width=16)


def test_parent_with_another_backbone_is_refused(write_params: Write) -> None:
    said = refusal(load_params(write_params({"recipes.v7.start_from": ["v1"]})), "v7")
    assert said.startswith("recipes.v7.start_from")
    assert "v1" in said


def test_recipe_is_that_of_the_chosen_scale(write_params: Write) -> None:
    assert load_params(write_params({"scale": "full"})).recipe("v3").backbone == "convnext_large.fb_in22k_ft_in1k"
    assert load_params(write_params({"scale": "sample"})).recipe("v3").backbone == "convnext_atto"


COMPARED: dict[str, Any] = {
    "run": ["one", "two"],
    "recipes": {
        "one": {"data": ["fer2013"], "backbone": "basic_cnn", "promote": False},
        "two": {"data": ["fer2013"], "backbone": "basic_cnn", "one_against_rest": "happy", "promote": False},
        "v1": {"data": ["fer2013"], "backbone": "basic_cnn"},
    },
    "ensembles": {"both": {"how": "average", "of": ["one", "two"]}},
    "combine": ["both"],
}
REFUSED_ENSEMBLES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown member": (
        {"ensembles": {"both": {"how": "average", "of": ["one", "six"]}}},
        "ensembles.both.of names six, which is neither a recipe nor an ensemble",
    ),
    "member that does not run": ({"run": ["one"]}, "combine: both needs two, which `run` leaves out; add it to `run`"),
    "of itself": ({"ensembles": {"both": {"how": "average", "of": ["one", "both"]}}}, "ensembles.both contains itself"),
    "unknown": ({"combine": ["boht"]}, "combine: there is no ensemble 'boht'; there are both"),
    "name of a recipe": ({"ensembles": {"one": {"how": "average", "of": ["one", "two"]}}}, "has the name of a recipe"),
}


def write(folder: Path, **changes: Any) -> Path:
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump({**COMPARED, **changes}))
    return file


def test_recipes_that_are_only_compared_with_are_known_and_so_are_the_members_of_an_ensemble(tmp_path: Path) -> None:
    params = load_params(write(tmp_path))
    assert params.recipe("two").classes == ("rest", "happy")
    assert params.comparison == ("one", "two")
    assert params.systems("both") == ("one", "two")


@pytest.mark.parametrize("case", REFUSED_ENSEMBLES)
def test_mistakes_in_ensembles_are_sentences_that_name_the_file(tmp_path: Path, case: str) -> None:
    changes, said = REFUSED_ENSEMBLES[case]
    with pytest.raises(PipelineError, match=f"params.yaml: .*{re.escape(said)}"):
        load_params(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"recipes.v1.one_against_rest": "happy"}, "one_against_rest"),
        ({"recipes.v1.recurrent": {"width": 8}, "recipes.v1.data": ["clips"]}, "recurrent"),
    ],
)
def test_what_cannot_be_served_must_not_be_promoted(write_params: Write, changes: dict[str, Any], kind: str) -> None:
    with pytest.raises(PipelineError, match=f"recipes.v1: {kind}: the service answers .*; set promote: false"):
        load_params(write_params(changes))


def test_an_unknown_stage_in_code_is_refused(write_params: Write) -> None:
    assert "code.trian is not a known key (did you mean train?)" in sentence(write_params({"code.trian": 2}))
