"""The gate in a real registry: what gets through, what does not, and what is left behind."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tables import write_tables
from test_evaluate import write_version

from pipeline import registry, tracking
from pipeline.checkpoint import load_checkpoint
from pipeline.detectors import YuNet
from pipeline.errors import PipelineError
from pipeline.parity import some_of
from pipeline.pointer import Pointer, find_model, read_pointer
from pipeline.predictor import DETECTOR_FILE, Predictor
from pipeline.stages import package, promote

NAME = "expression-classifier-sample"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    params = Path("params.yaml").read_text().replace("run: [v1, v2, v3, v4, v5, v6, v7]", "run: [v1, v2]")
    monkeypatch.chdir(tmp_path)
    # By its whole path: MLflow keeps one open store an address, and every test has its own.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "params.yaml").write_text(params)
    write_tables(tmp_path, ("fer2013", "rafdb", "affectnet", "wild"))
    return tmp_path


def version(root, name, right, seed=0, **facts):
    """Write a version whose predictions are right for the first `right` of every seven labels."""
    write_version(root, name, seed=seed, **facts)
    splits = pd.read_parquet(root / "data" / "splits.parquet").query("split != 'train'")
    faces = pd.concat([pd.read_parquet(file) for file in (root / "data" / "faces").glob("*.parquet")])
    table = faces[["face_id", "label_id", "dataset"]].merge(splits[["face_id", "split", "leaked"]], on="face_id")
    answers = table.label_id.where(table.label_id < right, 0)
    table = table.assign(probabilities=[list(row) for row in torch.eye(7)[answers.tolist()].numpy()], tta=None)
    (root / "predictions").mkdir(exist_ok=True)
    table.to_parquet(root / "predictions" / f"{name}.parquet")


def decide(root):
    folders = [root / name for name in ("models", "predictions", "data/faces", "data/splits.parquet")]
    promote.main(*folders, root / "decision.json")
    return json.loads((root / "decision.json").read_text())["decisions"]


def test_the_best_on_validation_is_registered_with_its_lineage_and_served(workplace):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=6, detector="haar")
    (decision,) = decide(workplace)
    assert decision["promoted"]
    assert decision["candidate"] == "v2"
    assert [entry["version"] for entry in decision["ranking"]] == ["v2", "v1"]
    assert decision["champion"]["weights_sha256"] == load_checkpoint(workplace / "models" / "v2").sha256()
    champion = registry.find_champion(tracking.connect(), NAME)
    assert champion is not None
    assert champion.tags["recipe"] == "v2"
    assert {"scale", "git_commit", "data_hash", "weights_sha256"} <= set(champion.tags)
    pointer = read_pointer(workplace / "models" / "champion.json")
    assert (pointer.name, pointer.version) == (NAME, str(champion.version))
    model = find_model(workplace / "models" / "champion.json", pointer)
    predictor = Predictor(model, name=pointer.name, version=pointer.version)
    assert predictor.facts["version"] == "v2"
    assert predictor.facts["detector"] == "haar"
    assert predictor.facts["weights_sha256"] == load_checkpoint(workplace / "models" / "v2").sha256()


@pytest.mark.parametrize("detector", YuNet.NAMES)
def test_a_model_that_learned_with_yunet_brings_it_along(workplace, shared, detector):
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["faces"]["yunet"] = str(shared / "models" / "face_detection_yunet.onnx")
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    version(workplace, "v1", right=6, detector=detector)
    version(workplace, "v2", right=3)
    decide(workplace)
    pointer_file = workplace / "models" / "champion.json"
    model = find_model(pointer_file, read_pointer(pointer_file))
    assert (model.parent / DETECTOR_FILE).read_bytes() == Path(params["faces"]["yunet"]).read_bytes()
    registry.fetch(registry.find_champion(tracking.connect(), NAME), workplace / "fetched")
    assert (workplace / "fetched" / DETECTOR_FILE).exists()


def test_a_model_that_learned_with_yunet_is_not_promoted_without_it(workplace):
    version(workplace, "v1", right=6, detector="yunet")
    version(workplace, "v2", right=3)
    with pytest.raises(PipelineError, match=r"set `faces\.yunet`"):
        decide(workplace)
    assert registry.find_champion(tracking.connect(), NAME) is None
    assert not (workplace / "models" / "champion.json").exists()


def test_the_same_champion_is_not_registered_twice(workplace):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=6)
    decide(workplace)
    (decision,) = decide(workplace)
    assert not decision["promoted"]
    assert "champion already" in decision["reason"]
    assert len(tracking.connect().search_model_versions(f"name = '{NAME}'")) == 1


def test_a_candidate_is_held_against_what_the_champion_really_answers(workplace):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=2)
    decide(workplace)
    # The untrained champion answers one label for every face, whatever its predictions table said.
    version(workplace, "v1", right=0, seed=1)
    version(workplace, "v2", right=7, seed=1)
    (decision,) = decide(workplace)
    assert decision["promoted"]
    assert decision["candidate_macro_f1"] == 1
    assert decision["former_champion_macro_f1"] < 0.2
    client = tracking.connect()
    assert client.get_model_version_by_alias(NAME, "champion").version == 2
    assert client.get_model_version_by_alias(NAME, "previous").version == 1


def test_a_worse_candidate_is_not_registered(workplace, monkeypatch):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=2)
    decide(workplace)
    before = read_pointer(workplace / "models" / "champion.json")
    shutil.rmtree(workplace / "models" / "v1")
    version(workplace, "v1", right=4, seed=1)
    version(workplace, "v2", right=2, seed=1)
    # Made to answer rightly, so that the candidate is the worse of the two.
    answers = {bytes(image): label for image, label in right_answers(workplace)}
    monkeypatch.setattr(promote, "Predictor", lambda *_, **__: Oracle(answers))
    (decision,) = decide(workplace)
    assert not decision["promoted"]
    assert "worse than the champion" in decision["reason"]
    assert read_pointer(workplace / "models" / "champion.json") == before


class Oracle:
    """Answers like a predictor that is always right."""

    def __init__(self, answers):
        self.answers = answers

    def faces(self, image, detect):
        return [image]

    def stack(self, images):
        return images

    def probabilities(self, images):
        return torch.eye(7)[[self.answers[image] for image in images]].numpy()


def right_answers(root):
    for file in (root / "data" / "faces").glob("*.parquet"):
        table = pd.read_parquet(file)
        yield from zip(table.image, table.label_id, strict=True)


def test_a_lost_registry_gets_its_champion_back(workplace, monkeypatch):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=6)
    decide(workplace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/another.db")
    (decision,) = decide(workplace)
    assert decision["promoted"]
    assert registry.find_champion(tracking.connect(), NAME) is not None


def test_a_champion_of_drawn_faces_never_takes_a_real_ones_place(tmp_path):
    (tmp_path / "real.onnx").touch()
    real = Pointer("expression-classifier", "4", "real.onnx", "0" * 64)
    drawn = Pointer(NAME, "9", "drawn.onnx", "1" * 64)
    file = tmp_path / "champion.json"
    assert promote.move_pointer(file, {NAME: drawn}) == drawn
    assert promote.move_pointer(file, {NAME: drawn, real.name: real}) == real
    assert promote.move_pointer(file, {NAME: drawn}) == real
    assert read_pointer(file) == real


def test_nor_that_of_a_real_one_at_an_address(tmp_path):
    real = Pointer("expression-classifier", "4", "s3://models/real.onnx", "0" * 64)
    file = tmp_path / "champion.json"
    promote.move_pointer(file, {real.name: real})
    assert promote.move_pointer(file, {NAME: Pointer(NAME, "9", "drawn.onnx", "1" * 64)}) == real


def test_a_registry_that_does_not_answer_is_told_in_a_sentence(workplace, monkeypatch):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=6)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        decide(workplace)


def test_a_champion_that_can_not_be_fetched_keeps_its_files(workplace, monkeypatch):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=2)
    decide(workplace)
    champion = registry.find_champion(tracking.connect(), NAME)
    folder = workplace / "models" / "registry" / NAME / "1"
    (folder / registry.MODEL_FILE).write_bytes(b"of another registry")
    shutil.rmtree(workplace / "mlartifacts")
    with pytest.raises(PipelineError, match=f"the artifacts of {NAME} version 1 are gone from the registry"):
        registry.fetch(champion, folder)
    assert (folder / "weights.safetensors").exists()


def test_parity_is_proved_on_faces_of_all_labels(workplace):
    faces = pd.DataFrame({"label_id": sorted(list(range(7)) * 50)})
    assert set(some_of(faces, 40).label_id) == set(range(7))
    assert some_of(faces, 40).equals(some_of(faces, 40))
    assert len(some_of(faces, 1000)) == 350


def test_versions_that_learned_from_drawn_faces_are_judged_apart(workplace):
    version(workplace, "v1", right=3, drawn=False)
    version(workplace, "v2", right=6, drawn=True)
    assert {decision["model"]: decision["candidate"] for decision in decide(workplace)} == {
        "expression-classifier": "v1",
        NAME: "v2",
    }
    assert read_pointer(workplace / "models" / "champion.json").name == "expression-classifier"


def test_package_proves_parity_with_the_registered_checkpoint(workplace, monkeypatch):
    version(workplace, "v1", right=3)
    version(workplace, "v2", right=6)
    decide(workplace)
    monkeypatch.setattr(package, "build_bento", lambda root, pointer, label: f"expression_service:{label}")
    images = [image for image, _ in right_answers(workplace)]
    pointer = workplace / "models" / "champion.json"
    result = package.package(Path(), pointer, images, package.PackageParams(faces=20))
    assert result["parity"]["faces"] == 20
    assert result["parity"]["largest_difference"] < 1e-4
    assert result["bento"].startswith("expression_service:sample-1-")
