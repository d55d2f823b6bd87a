"""The page of a version that was evaluated; what a browser would fetch or run is not in it."""

import base64
import json
import re

import pytest
from tables import write_tables
from versions import PICTURES, evaluate_version, write_version

from pipeline.files import read_json
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.pages.version import version_page
from pipeline.registry import tracking
from pipeline.stages.report import write_version_pages


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of a version that was evaluated on two datasets."""
    root = tmp_path_factory.mktemp("evaluated")
    recipe = {"data": ["fer2013"], "backbone": "test_resnet", "pretrained": False, "image_size": 32, "tta": "flip"}
    params = {"use": ["fer2013", "rafdb"], "run": ["v<1>"], "recipes": {"v<1>": recipe}}
    (root / "params.yaml").write_text(json.dumps(params))  # YAML as well
    faces, splits = write_tables(root, ("fer2013", "rafdb"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        write_version(root, "v<1>", learned=5, temperature=1.25, data={"fer2013": "0123abcd"})
        evaluate_version(root, "v<1>", faces, splits)
    return root


@pytest.fixture(scope="module")
def page(evaluated):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{evaluated}/mlflow.db")
        folders = (evaluated / name for name in ("models", "predictions", "metrics", "reports/pictures", "pages"))
        write_version_pages(["v<1>"], *folders)
        weights = load_checkpoint(evaluated / "models" / "v<1>").sha256()
        run = tracking.find_run(tracking.connect(), "v<1>", weights)
        assert [file.path for file in tracking.connect().list_artifacts(run.info.run_id, "report")] == [
            "report/v<1>.html"
        ]
    return (evaluated / "pages" / "v<1>.html").read_text()


@pytest.fixture(scope="module")
def metrics(evaluated):
    return json.loads((evaluated / "metrics" / "v<1>.json").read_text())


def section(page, heading):
    return page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]


def test_page_opens_without_a_network(page):
    assert "http" not in page
    assert "<script" not in page
    assert not re.findall(r"@import|<link|url\(", page)
    assert set(re.findall(r'(?:src|href)="([^,"]*)', page)) == {"data:image/png;base64"}


def test_every_picture_is_in_it(page, evaluated):
    shown = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = [(evaluated / "reports" / "pictures" / "v<1>" / f"{name}.png").read_bytes() for name in PICTURES]
    assert sorted(map(base64.b64decode, shown)) == sorted(files)


def test_its_numbers_are_those_of_the_metrics(page, metrics):
    assert set(metrics["slices"]) == {"brightness", "sharpness"}  # of one dataset, with faces of one size
    for parts in metrics["slices"].values():
        for part in parts.values():
            assert f"<b>{part['macro_f1']:.3f}</b>" in section(page, "Slices")
    for grades in metrics["robustness"]["corruptions"].values():
        for part in grades.values():
            assert f"{part['macro_f1']:.3f} ({part['accuracy']:.3f})" in section(page, "Robustness")
    calibration = metrics["calibration"]
    assert calibration["temperature"] == 1.25
    assert calibration["ece"] == pytest.approx(metrics["own"]["ece"])
    for bins in (calibration["bins"], calibration["bins_uncalibrated"]):
        for part in bins:
            assert not part["n"] or f"{part['accuracy']:.3f}" in section(page, "Calibration")
    for part in metrics["classes"].values():
        assert f"{part['average_precision']:.3f}" in section(page, "Classes")
    assert "in no training set" in section(page, "Scores")


def test_what_it_is_made_from_stands_there_and_names_are_shown_as_they_are(page, evaluated):
    assert "<h1>v&lt;1&gt;</h1>" in page
    assert "v<1>" not in page
    assert "0123abcd" in page
    assert load_checkpoint(evaluated / "models" / "v<1>").sha256() in page
    assert "backbone: resnet18" in page  # as it ran at scale: sample


def test_what_was_not_measured_is_not_on_it(evaluated, metrics, tmp_path):
    (tmp_path / "roc.png").write_bytes(b"\x89PNG")
    clips = {key: value for key, value in metrics.items() if key != "slices"} | {"robustness": None}
    page = version_page(read_json(evaluated / "models" / "v<1>" / "model.json"), "0" * 64, clips, tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Scores", "Calibration", "Classes"]
    assert page.count("<img") == 1
