"""The page of all versions, from versions that were evaluated; what a browser would fetch or run is not in it."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tables import write_tables
from versions import evaluate_version, write_version

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.pages.versions import differences, read_version
from pipeline.stages import report

TRAINED = {"epochs": 3, "precision": "32-true", "device": "GPU <1>", "parameters": 3_400_000}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two versions, evaluated, of which the better one is champion; the folder of metrics knows a third one."""
    root = tmp_path_factory.mktemp("evaluated")
    params = yaml.safe_load(Path("params.yaml").read_text())
    small = {"backbone": "test_resnet", "pretrained": False, "image_size": 32}
    changed = {"head": [{"dropout": 0.5}], "tta": "flip", "loss": {"label_smoothing": 0.1}, "ema": {"decay": 0.999}}
    recipes = {
        "plain": {"data": ["fer2013"], **small},
        "better": {"data": ["rafdb", "fer2013"], **small, **changed, "schedule": [{"name": "one_cycle"}]},
    }
    params |= {"use": ["fer2013", "rafdb"], "run": ["plain", "better"], "recipes": recipes, "ensembles": {}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    faces, splits = write_tables(root, ("fer2013", "rafdb"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        for version in recipes:
            write_version(root, version, **TRAINED, trained_parameters=3_400_000 if version == "plain" else 7)
            evaluate_version(root, version, faces, splits)
    set_score(root, "plain", 0.25)
    set_score(root, "better", 0.75)
    (root / "metrics" / "gone.json").write_text("{}")
    decide(root, load_checkpoint(root / "models" / "better").sha256())
    write_json(root / "metrics" / "validation.json", {"passed": True, "expectations": []})
    for name in ("fer2013", "rafdb"):
        write_json(root / "metrics" / "harmonize" / f"{name}.json", {"dropped": {}})
    return root


@pytest.fixture
def compared(evaluated, tmp_path, monkeypatch):
    """A copy of what was evaluated, to damage."""
    monkeypatch.chdir(shutil.copytree(evaluated, tmp_path / "copy"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/copy/mlflow.db")
    return tmp_path / "copy"


def set_score(root, version, macro_f1):
    file = root / "metrics" / f"{version}.json"
    metrics = json.loads(file.read_text())
    metrics["own"]["macro_f1"] = macro_f1
    file.write_text(json.dumps(metrics))


def decide(root, weights_sha256):
    champion = {"version": "4", "recipe": "better", "weights_sha256": weights_sha256, "macro_f1": 0.75}
    decision = {"decisions": [{"model": "expression-classifier-sample", "champion": champion}]}
    (root / "metrics" / "promotion.json").write_text(json.dumps(decision))


def page_of(root):
    places = ("models", "data/faces", "data/splits.parquet", "predictions", "metrics", "reports/pictures")
    outputs = ("reports/data.html", "reports/versions", "reports/versions.html")
    report.main(*(root / name for name in (*places, *outputs)))
    return (root / "reports" / "versions.html").read_text()


def section(page, heading):
    return page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]


def test_versions_stand_there_by_their_score_with_the_champion_marked(compared):
    page = page_of(compared)
    for heading in ("Scores", "Trained on one, tested on another", "F1 by class"):
        assert re.findall(r'<th scope="row">(\w+)(<span class="star")?', section(page, heading)) == [
            ("better", '<span class="star"'),
            ("plain", ""),
        ]
    assert "All learned from drawn faces" in page
    assert "gone" not in page
    assert {file.name for file in (compared / "reports" / "versions").iterdir()} == {"better.html", "plain.html"}
    assert '<a href="versions/better.html">' in page


def test_page_fetches_nothing_and_escapes_what_it_is_given(compared):
    page = page_of(compared)
    assert not re.search(r"<script|<link|@import|url\(|https?:|<img", page)
    assert "GPU &lt;1&gt;" in page
    assert "GPU <1>" not in page


def test_scores_have_their_intervals_and_what_views_add(compared):
    metrics = json.loads((compared / "metrics" / "better.json").read_text())["own"]
    low, high = metrics["ci95"]["macro_f1"]
    scores = section(page_of(compared), "Scores")
    assert f"95 % interval {low:.3f} to {high:.3f}" in scores
    assert f"left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%" in scores
    assert f"{metrics['tta']['macro_f1']:.3f}<small>{metrics['tta']['macro_f1'] - 0.75:+.3f}, flip" in scores
    assert "3.40 M<small>0.00 M learn" in scores


def test_matrix_has_each_dataset_whole_and_leak_free_and_says_what_was_learned_from(compared):
    matrix = section(page_of(compared), "Trained on one, tested on another")
    parts = json.loads((compared / "metrics" / "plain.json").read_text())["datasets"]
    (row,) = re.findall(r'<th scope="row">plain.*?</tr>', matrix, re.DOTALL)
    cells = re.findall(r'<td class="heat(.*?)".*?title="(.*?)">(.*?)(?=<|$)', row, re.DOTALL)
    assert [(title, float(value)) for _, title, value in cells] == [
        (f"plain on {name}{ending}", round(parts[name][key]["macro_f1"], 3))
        for name in ("fer2013", "rafdb")
        for key, ending in (("whole", ""), ("leak_free", ", leak-free"))
    ]
    assert ["own" in kind for kind, _, _ in cells] == [True, True, False, False]


def test_faces_that_all_leaked_have_no_score(compared):
    file = compared / "metrics" / "plain.json"
    metrics = json.loads(file.read_text())
    metrics["datasets"]["rafdb"]["leak_free"] = {"n": 0, "macro_f1": None}
    file.write_text(json.dumps(metrics))
    assert 'title="plain on rafdb, leak-free">–' in page_of(compared)


def test_curves_have_their_best_epoch_and_a_chart_each(compared):
    training = section(page_of(compared), "Training")
    assert training.count("<svg") == 2 * 3
    assert training.count('aria-label="learning rate"') == 2
    assert "epoch 2: train 1.2, validation 1.1" in training
    assert training.count('<polyline class="line head"') == 2


def test_recipes_show_what_is_not_the_default(compared):
    versions = [read_version(name, *(compared / part for part in ("models", "predictions", "metrics"))) for name in
                ("better", "plain")]  # fmt: skip
    found = differences(versions)
    assert found["head"] == {"better": ["dropout 0.5"]}
    assert found["loss.label_smoothing"] == {"better": ["0.1"]}
    assert found["schedule"] == {"better": ["one_cycle"]}
    assert found["ema.decay"] == {"better": ["0.999"]}
    assert found["data"] == {"better": ["rafdb, fer2013"], "plain": ["fer2013"]}
    assert found["pretrained"] == {"better": ["false"], "plain": ["false"]}
    assert not {"optimizer", "optimizer.lr", "at_sample"} & set(found)
    assert list(found)[:4] == [
        "data",
        "backbone",
        "backbone_args.channels",
        "pretrained",
    ]  # in the order of the recipe's own fields
    recipes = section(page_of(compared), "What their recipes say")
    assert "loss.label_smoothing" in recipes


def test_confusion_is_that_of_the_predictions(compared):
    table = pd.read_parquet(compared / "predictions" / "plain.parquet").query(
        "dataset == 'fer2013' and split == 'test'"
    )
    angry = table[table.label_id == 0]
    answered = int((angry.probabilities.map(lambda row: row.argmax()) == 0).sum())
    plain = section(page_of(compared), "Confusion").split("<h3>")[-1]
    assert f'title="{answered} of {len(angry)} angry faces: angry"' in plain


def test_champion_of_another_training_is_named_and_marks_no_version(compared):
    decide(compared, "0" * 64)
    page = page_of(compared)
    assert 'class="star"' not in page
    assert "version 4, came of another training of better and is not shown" in page


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("models/plain/model.json", "train@plain"),
        ("metrics/plain.json", "evaluate@plain"),
        ("metrics/curves/plain.csv", "train@plain"),
        ("predictions/plain.parquet", "evaluate@plain"),
        ("metrics/promotion.json", "promote"),
    ],
)
def test_what_is_missing_is_a_sentence_that_says_what_to_run(compared, file, stage):
    (compared / Path(file)).unlink()
    with pytest.raises(PipelineError, match=f"{Path(file).name} is missing or damaged.*run `dvc repro {stage}`"):
        page_of(compared)
    assert not (compared / "reports" / "versions.html").exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"decisions": [{"champion": {"version": "1"}}]}'])
def test_decision_that_is_none_is_a_sentence(compared, content):
    (compared / "metrics" / "promotion.json").write_text(content)
    with pytest.raises(
        PipelineError, match="promotion.json names no champion's weights; run `dvc repro --force promote`"
    ):
        page_of(compared)
