"""The gate in a real registry: what gets through, what does not, and what is left behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from promotions import NAME, aliases, change, decide, version
from versions import write_version

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.inference.answer_table import EMBEDDING, REFERENCE
from pipeline.inference.pointer import DETECTOR_FILE, Pointer, find_model, move_pointer, read_pointer
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.packaging.parity import some_of
from pipeline.params import EvaluateParams
from pipeline.promotion import gatekeeper
from pipeline.registry import history, registry, tracking
from pipeline.stages import package, promote
from pipeline.stages.evaluate import evaluate
from pipeline.vision.detectors import YuNet


def test_the_best_on_validation_is_registered_with_its_lineage_and_served(gate):
    version(gate, "v1", right=3)
    version(gate, "v2", right=6, detector="haar")
    (decision,) = decide(gate)
    assert decision["promoted"]
    assert decision["candidate"] == "v2"
    assert [entry["version"] for entry in decision["ranking"]] == ["v2", "v1"]
    assert decision["champion"]["weights_sha256"] == load_checkpoint(gate / "models" / "v2").sha256()
    champion = registry.find_champion(tracking.connect(), NAME)
    assert champion is not None
    assert champion.tags["recipe"] == "v2"
    assert {"scale", "git_commit", "data_hash", "weights_sha256"} <= set(champion.tags)
    pointer = read_pointer(gate / "models" / "champion.json")
    assert (pointer.name, pointer.version) == (NAME, str(champion.version))
    model = find_model(gate / "models" / "champion.json", pointer)
    predictor = Predictor(model, name=pointer.name, version=pointer.version)
    assert predictor.facts["version"] == "v2"
    assert predictor.facts["detector"] == "haar"
    assert predictor.facts["weights_sha256"] == load_checkpoint(gate / "models" / "v2").sha256()


def test_a_recipe_to_compare_with_is_never_promoted(gate):
    file = gate / "params.yaml"
    params = yaml.safe_load(file.read_text())
    recipes = {**params["recipes"], "v2": {**params["recipes"]["v2"], "promote": False}}
    file.write_text(yaml.safe_dump({**params, "recipes": recipes}))
    version(gate, "v1", right=3)
    version(gate, "v2", right=6)
    (decision,) = decide(gate)
    assert [entry["version"] for entry in decision["ranking"]] == ["v1"]
    assert registry.find_champion(tracking.connect(), NAME).tags["recipe"] == "v1"
    with pytest.raises(PipelineError, match="recipes.v2 has `promote: false`; it is only compared with"):
        decide(gate, "v2", "it is better")
    file.write_text(yaml.safe_dump({**params, "recipes": recipes, "run": ["v2"]}))
    with pytest.raises(PipelineError, match="no version in `run` may be promoted"):
        decide(gate)
    assert aliases() == {"champion": "1"}


def test_the_registered_version_has_its_card_wherever_it_is_looked_for(gate, store):
    version(gate, "v1", right=3, device="cpu", processes=1)
    version(gate, "v2", right=2)
    checkpoint, predictions = load_checkpoint(gate / "models" / "v1"), gate / "predictions" / "v1.parquet"
    found = evaluate(pd.read_parquet(predictions), checkpoint.recipe, EvaluateParams(bootstrap=100))
    write_json(gate / "metrics" / "v1.json", found)
    client = tracking.connect()
    run_id = tracking.run_of(client, "v1", checkpoint.facts, checkpoint.sha256())
    client.set_tag(run_id, "seconds", "3600.0")
    (decision,) = decide(gate)
    champion = registry.find_champion(client, NAME)
    folder = registry.fetch(champion, gate / "elsewhere")
    facts = json.loads((folder / "card.json").read_text())
    assert facts["scores"]["own"] == json.loads(json.dumps(found["own"]))
    assert facts["data"][0]["counts"]["train"]["fear"] == 4
    assert facts["decision"]["reason"] == decision["reason"]
    assert facts["decision"]["former"] is None
    assert facts["trainings"][0]["footprint"]["kwh"] == pytest.approx(0.15)
    assert facts["model"]["bytes"] == (folder / registry.MODEL_FILE).stat().st_size
    text = (folder / "card.md").read_text()
    assert f"# Model card: {NAME}, v1" in text
    assert decision["checks"][-1]["says"] in text
    assert champion.description == facts["brief"]
    assert decision["reason"] in champion.description
    assert {file.path for file in client.list_artifacts(run_id, "card")} == {
        "card/card.json", "card/card.md", "card/card.html"
    }  # fmt: skip
    pointer_file = gate / "models" / "champion.json"
    model = find_model(pointer_file, read_pointer(pointer_file))
    assert Predictor(model, name=NAME, version="1").card.facts == facts
    store.lose()
    decide(gate)
    assert registry.find_champion(tracking.connect(), NAME).description == facts["brief"]


def test_what_it_answered_for_validation_faces_is_registered_with_it(really_promoted):
    folder = registry.fetch(registry.find_champion(tracking.connect(), NAME), really_promoted / "elsewhere")
    table = pd.read_parquet(folder / REFERENCE)
    assert (table.emotion == table.label).all()
    assert table.label.value_counts().to_dict() == dict.fromkeys(LABELS, 2)  # those of its own data, and no test faces
    assert sorted(table.brightness.round(-1)) == pytest.approx(sorted(20 + 35 * (n // 2) for n in range(14)), abs=10)
    assert table[["width", "height", "score"]].isna().all(axis=None)  # they came cropped
    assert table[list(EMBEDDING)].notna().all(axis=None)
    axes = table[list(EMBEDDING[1:])]
    np.testing.assert_allclose(axes.mean(), 0, atol=1e-3)
    np.testing.assert_allclose(axes.std(), 1, atol=1e-3)


@pytest.mark.parametrize("detector", YuNet.NAMES)
def test_a_model_that_learned_with_yunet_brings_it_along(gate, shared, detector):
    params = yaml.safe_load((gate / "params.yaml").read_text())
    params["faces"]["yunet"] = str(shared / "models" / "face_detection_yunet.onnx")
    (gate / "params.yaml").write_text(yaml.safe_dump(params))
    version(gate, "v1", right=6, detector=detector)
    version(gate, "v2", right=3)
    decide(gate)
    pointer_file = gate / "models" / "champion.json"
    model = find_model(pointer_file, read_pointer(pointer_file))
    assert (model.parent / DETECTOR_FILE).read_bytes() == Path(params["faces"]["yunet"]).read_bytes()
    folder = registry.fetch(registry.find_champion(tracking.connect(), NAME), gate / "elsewhere")
    assert folder.is_relative_to(gate / "elsewhere")
    assert (folder / DETECTOR_FILE).exists()


def test_a_model_that_learned_with_yunet_is_not_promoted_without_it(gate):
    version(gate, "v1", right=6, detector="yunet")
    version(gate, "v2", right=3)
    with pytest.raises(PipelineError, match=r"set `faces\.yunet`"):
        decide(gate)
    assert registry.find_champion(tracking.connect(), NAME) is None
    assert not (gate / "models" / "champion.json").exists()


def test_the_same_champion_is_not_registered_twice(promoted):
    (decision,) = decide(promoted)
    assert not decision["promoted"]
    assert "champion already" in decision["reason"]
    assert len(tracking.connect().search_model_versions(f"name = '{NAME}'")) == 1


def test_a_better_candidate_takes_the_champions_place(promoted):
    version(promoted, "v1", right=2, seed=1)
    version(promoted, "v2", right=6, seed=1)
    (decision,) = decide(promoted)
    assert decision["promoted"]
    assert decision["candidate"] == "v2"
    # What both really answer for the 56 faces of which each label has 8.
    assert decision["wins"] == [16, 0]
    assert decision["gain"]["value"] == pytest.approx(
        decision["candidate_macro_f1"] - decision["former_champion_macro_f1"]
    )
    assert decision["champion"]["recipe"] == "v2"
    assert aliases() == {"champion": "2", "previous": "1"}
    assert read_pointer(promoted / "models" / "champion.json").version == "2"


def test_the_candidate_and_the_champion_are_judged_by_what_is_served_and_not_by_a_table(promoted):
    write_version(promoted, "v1", seed=1, learned=2)  # and its table still says 4
    (decision,) = decide(promoted)
    assert not decision["promoted"]
    assert decision["wins"] == [0, 16]


@pytest.mark.parametrize("right", [3, 4])
def test_a_worse_candidate_and_one_that_is_as_good_are_not_registered(promoted, right):
    before = read_pointer(promoted / "models" / "champion.json")
    version(promoted, "v1", right=right, seed=1)
    (decision,) = decide(promoted)
    assert not decision["promoted"]
    assert f"{8 * (4 - right)} only the champion" in decision["reason"]
    assert decision["champion"]["version"] == "1"
    assert decision["champion"]["macro_f1"] == decision["former_champion_macro_f1"]
    assert read_pointer(promoted / "models" / "champion.json") == before
    assert len(tracking.connect().search_model_versions(f"name = '{NAME}'")) == 1


def test_every_decision_is_a_run_of_its_own_with_a_report(promoted):
    version(promoted, "v1", right=3, seed=1)
    decide(promoted)
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.DECISIONS)
    assert experiment is not None
    refused, accepted = client.search_runs([experiment.experiment_id])
    assert (accepted.data.tags["outcome"], refused.data.tags["outcome"]) == ("promoted", "refused")
    assert refused.data.metrics["gain/value"] < 0
    assert refused.data.tags["faces_sha256"] == accepted.data.tags["faces_sha256"]
    kept = Path(client.download_artifacts(refused.info.run_id, "promotion.md")).read_text()
    assert kept == (promoted / "reports" / "promotion.md").read_text()
    assert "# v1 is refused: expression-classifier-sample" in kept
    assert "Judged on 56 test faces, on which 1 decision was taken before." in kept
    assert "for all of them together, this one would need a p of at most 0.0083." in kept  # .05 / (2 * 3)
    assert (
        "| more right | **no** | 0 faces only the candidate has right, 8 only the champion: p = 1 (above 0.05) |"
        in kept
    )
    assert "| 2 | v2 | " in kept


def test_without_a_champion_what_breaks_a_rule_leaves_none(gate):
    version(gate, "v1", right=4)
    version(gate, "v2", right=2)
    change(gate, megabytes=0.9)
    with pytest.raises(
        PipelineError, match=r"no version passes the gate, and there is no champion yet; .*promotion\.md"
    ):
        decide(gate)
    (decision,) = json.loads((gate / "metrics" / "promotion.json").read_text())["decisions"]
    assert not decision["promoted"]
    assert decision["champion"] is None
    assert "its file takes 1.0 MB (at most 0.9)" in decision["reason"]
    assert not (gate / "models" / "champion.json").exists()
    assert registry.find_champion(tracking.connect(), NAME) is None


def test_data_that_is_not_valid_refuses(gate):
    version(gate, "v1", right=4)
    version(gate, "v2", right=2)
    write_json(gate / "metrics" / "validation.json", {"passed": False})
    with pytest.raises(PipelineError, match="no version passes"):
        decide(gate)


def test_one_may_be_forced_with_a_reason_that_is_kept(promoted):
    (decision,) = decide(promoted, "v2", "v1 answers nothing but happy")
    assert decision["promoted"]
    assert decision["forced"] == "v1 answers nothing but happy"
    assert decision["wins"] == [0, 16]
    assert aliases() == {"champion": "2", "previous": "1"}
    assert history.read_history(tracking.connect(), NAME)[-1].kind == "forced promotion"
    (decision,) = decide(promoted)  # v1 would win, but a person set it aside
    assert decision["outcome"] == "kept"
    assert "v1 answers nothing but happy" in decision["ranking"][0]["note"]
    with pytest.raises(PipelineError, match="v2 is the champion already"):
        decide(promoted, "v2", "again")
    with pytest.raises(PipelineError, match=r"there is no version 'v9' in `run`; there are v1, v2"):
        decide(promoted, "v9", "why not")


def test_one_that_was_rolled_back_does_not_come_back_by_itself(promoted_twice):
    client = tracking.connect()
    former = registry.find_version(client, NAME, "1")
    history.append(client, history.settle(client, NAME), "rollback", former, "it takes children for old")
    (decision,) = decide(promoted_twice)
    assert aliases() == {"champion": "1", "previous": "2"}
    assert decision["candidate"] == "v1"
    assert "v1 is the champion already" in decision["reason"]
    assert "it takes children for old" in decision["ranking"][0]["note"]
    (decision,) = decide(promoted_twice, "v2", "there are no children here")
    assert aliases() == {"champion": "2", "previous": "1"}
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2  # the very version that it was


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(promoted, monkeypatch):
    version(promoted, "v2", right=6, seed=1)
    register = gatekeeper.register

    def overtaken(*arguments):
        monkeypatch.setattr(gatekeeper, "register", register)
        decide(promoted)  # somebody else, from beginning to end
        return register(*arguments)

    monkeypatch.setattr(gatekeeper, "register", overtaken)
    with pytest.raises(PipelineError, match="was changed by somebody else in the meantime"):
        decide(promoted)
    client = tracking.connect()
    assert [event.version for event in history.read_history(client, NAME)] == ["1", "2"]
    assert aliases() == {"champion": "2", "previous": "1"}
    experiment = client.get_experiment_by_name(tracking.DECISIONS)
    outcomes = [run.data.tags["outcome"] for run in client.search_runs([experiment.experiment_id])]
    assert sorted(outcomes) == ["begun", "promoted", "promoted"]


def test_a_champion_that_was_made_by_hand_is_the_first_of_the_history(promoted):
    client = tracking.connect()
    client.delete_registered_model(f"{NAME}{history.SUFFIX}")
    (promoted / "models" / "history.json").unlink()
    (decision,) = decide(promoted)
    assert decision["outcome"] == "kept"
    assert "was champion before there was a history" in decision["reason"]
    version(promoted, "v2", right=6, seed=1)
    decide(promoted)
    assert aliases() == {"champion": "2", "previous": "1"}


def test_a_champion_that_can_not_be_had_any_more_can_be_replaced_by_force(promoted, store):
    shutil.rmtree(promoted / "models" / "registry")
    store.lose_artifacts()
    version(promoted, "v1", right=5, seed=1)
    with pytest.raises(PipelineError, match="are gone from the registry"):
        decide(promoted)
    (decision,) = decide(promoted, "v1", "the champion is lost")
    assert decision["outcome"] == "forced"
    assert [check["rule"] for check in decision["checks"] if not check["passed"]] == ["compared"]
    assert aliases() == {"champion": "2", "previous": "1"}


def test_the_champion_of_a_name_that_does_not_run_is_followed(gate):
    version(gate, "v1", right=4, drawn=False)
    version(gate, "v2", right=2, drawn=False)
    decide(gate)
    client, name = tracking.connect(), "expression-classifier"
    version(gate, "v1", right=6, seed=1, drawn=False)
    pointer_file = gate / "models" / "champion.json"
    before = pointer_file.read_text()
    decide(gate)
    pointer_file.write_text(before)  # as on another machine, which has not heard of the second one
    version(gate, "v1", right=3)
    version(gate, "v2", right=2)
    decide(gate)
    assert read_pointer(pointer_file).name == name
    assert read_pointer(pointer_file).version == str(client.get_model_version_by_alias(name, "champion").version) == "2"


def test_a_lost_registry_gets_its_champion_back(promoted, store):
    store.lose()
    (decision,) = decide(promoted)
    assert decision["outcome"] == "kept"
    champion = registry.find_champion(tracking.connect(), NAME)
    assert champion is not None
    assert champion.tags["weights_sha256"] == load_checkpoint(promoted / "models" / "v1").sha256()
    assert len(tracking.connect().search_model_versions(f"name = '{NAME}'")) == 1


def test_a_lost_registry_gets_back_what_a_person_decided_against_the_gate(promoted, store):
    decide(promoted, "v2", "v1 answers nothing but happy")
    for _ in range(2):  # it may be lost again
        store.lose()
        (decision,) = decide(promoted)
        assert decision["outcome"] == "kept"
        assert decision["champion"]["recipe"] == "v2"
        assert "v1 answers nothing but happy" in decision["ranking"][0]["note"]
        first, second = history.read_history(tracking.connect(), NAME)
        assert (first.version, first.kind) == ("1 (lost)", "promotion")
        assert (second.version, second.kind) == ("1", "forced promotion")
        assert aliases() == {"champion": "1"}


def test_a_champion_of_drawn_faces_never_takes_a_real_ones_place(tmp_path):
    (tmp_path / "real.onnx").touch()
    real = Pointer("expression-classifier", "4", "real.onnx", "0" * 64)
    drawn = Pointer(NAME, "9", "drawn.onnx", "1" * 64)
    file = tmp_path / "champion.json"
    assert move_pointer(file, [drawn]) == drawn
    assert move_pointer(file, [drawn, real]) == real
    assert move_pointer(file, [drawn]) == real
    assert read_pointer(file) == real


def test_nor_that_of_a_real_one_at_an_address(tmp_path):
    real = Pointer("expression-classifier", "4", "s3://models/real.onnx", "0" * 64)
    file = tmp_path / "champion.json"
    move_pointer(file, [real])
    assert move_pointer(file, [Pointer(NAME, "9", "drawn.onnx", "1" * 64)]) == real


def test_a_registry_that_does_not_answer_is_told_in_a_sentence(gate, monkeypatch):
    version(gate, "v1", right=3)
    version(gate, "v2", right=6)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        decide(gate)


def test_a_champion_that_can_not_be_fetched_keeps_its_files(promoted, store):
    champion = registry.find_champion(tracking.connect(), NAME)
    folder = registry.fetch(champion, promoted / "models")
    (folder / registry.MODEL_FILE).write_bytes(b"of another registry")
    store.lose_artifacts()
    with pytest.raises(PipelineError, match=f"the artifacts of {NAME} version 1 are gone from the registry"):
        registry.fetch(champion, promoted / "models")
    assert (folder / "weights.safetensors").exists()


def test_parity_is_proved_on_faces_of_all_labels(gate):
    faces = pd.DataFrame({"label_id": sorted(list(range(7)) * 50)})
    assert set(some_of(faces, 40).label_id) == set(range(7))
    assert some_of(faces, 40).equals(some_of(faces, 40))
    assert len(some_of(faces, 1000)) == 350


def test_versions_that_learned_from_drawn_faces_are_judged_apart(gate):
    version(gate, "v1", right=3, drawn=False)
    version(gate, "v2", right=6, drawn=True)
    assert {decision["model"]: decision["candidate"] for decision in decide(gate)} == {
        "expression-classifier": "v1",
        NAME: "v2",
    }
    assert read_pointer(gate / "models" / "champion.json").name == "expression-classifier"


def test_package_proves_parity_with_the_registered_checkpoint(really_promoted, monkeypatch):
    monkeypatch.setattr(package, "build_bento", lambda root, pointer, label: f"expression_service:{label}")
    files = [really_promoted / name for name in ("models/champion.json", "data/faces", "data/splits.parquet")]
    package.main(*files, really_promoted / "metrics" / "package.json")
    result = json.loads((really_promoted / "metrics" / "package.json").read_text())
    assert result["parity"]["faces"] == 56  # all test faces
    assert max(result["parity"]["largest_difference"].values()) < 1e-4
    assert set(result["variants"]) == {"full", "int8", "fp16", "bf16"}
    assert result["bento"].startswith("expression_service:sample-1-")


def test_the_registry_knows_the_signature_and_opens_the_model(really_promoted):
    registered = registry.fetch(registry.find_champion(tracking.connect(), NAME), really_promoted / "models")
    champion = f"models:/{NAME}@champion"
    info = mlflow.models.get_model_info(champion)
    side = load_checkpoint(really_promoted / "models" / "v1").recipe.image_size
    assert [(spec.name, spec.type, spec.shape) for spec in (*info.signature.inputs, *info.signature.outputs)] == [
        ("faces", np.dtype("uint8"), (-1, side, side, 3)),
        ("probabilities", np.dtype("float32"), (-1, 7)),
    ]
    opened = mlflow.pyfunc.load_model(champion)
    assert opened.input_example["faces"].shape == (1, side, side, 3)
    answer = opened.predict(opened.input_example)["probabilities"]
    predictor = Predictor(registered / registry.MODEL_FILE, name=NAME, version="1")
    np.testing.assert_allclose(answer, predictor.probabilities(np.full((1, side, side, 3), 128, np.uint8)), atol=1e-6)


BEGINS = ("create_", "log_", "set_", "finalize_", "update_", "delete_")  # of MlflowClient's methods that write


class KilledError(BaseException):
    """What a process that was killed did not live to see."""


def die_after(left, monkeypatch, die):
    """Let nothing be written any more behind so many writes: `die` is called then."""
    written = 0

    def dying(write):
        def wrapped(*arguments, **named):
            nonlocal written
            if written == left:
                die()
            result = write(*arguments, **named)
            written += 1
            if written == left:
                die()
            return result

        return wrapped

    for name in [name for name in dir(MlflowClient) if name.startswith(BEGINS)]:
        monkeypatch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
    monkeypatch.setattr(Path, "replace", dying(Path.replace))


def raise_killed():
    raise KilledError


def killed_here(writes):
    """Promote until so many writes are done; return whether it lived through."""
    with pytest.MonkeyPatch.context() as patch:
        die_after(writes, patch, raise_killed)
        try:
            decide(Path.cwd())
        except KilledError:
            return False
    return True


DIES = """
import os, sys
from pathlib import Path
from promotions import decide
from test_promote import die_after
import pytest

with pytest.MonkeyPatch.context() as patch:
    die_after(int(sys.argv[1]), patch, lambda: os._exit(9))
    decide(Path.cwd())
"""


def killed_process(writes):
    """Do the same in a process that dies; return whether it lived through."""
    path = os.pathsep.join(str(folder) for folder in (Path(promote.__file__).parents[2], Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", DIES, str(writes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode == 0


def check_killed(root, store, writes, promote_until):
    """Kill a promotion behind so many writes, look at what it left, and promote again; return whether it lived."""
    shutil.copytree(root, copy := root.with_name(f"{root.name}-{writes}"))
    store.copy(copy)
    os.chdir(copy)
    lived = promote_until(writes)
    champion = registry.find_champion(tracking.connect(), NAME)
    assert champion is not None
    assert str(champion.version) in ("1", "2")
    pointer_file = copy / "models" / "champion.json"
    find_model(pointer_file, read_pointer(pointer_file))  # what is served is whole
    decide(copy)
    assert aliases() == {"champion": "2", "previous": "1"}
    assert read_pointer(pointer_file).version == "2"
    assert [event.version for event in history.read_history(tracking.connect(), NAME)] == ["1", "2"]
    assert len(tracking.connect().search_model_versions(f"name = '{NAME}'")) == 2
    return lived


@pytest.fixture
def better(promoted):
    """A champion, and a better candidate."""
    version(promoted, "v2", right=6, seed=1)
    return promoted


@pytest.mark.parametrize("writes", [14, 19])
def test_a_promotion_that_was_killed_is_carried_out_by_the_next(better, store, writes):
    assert not check_killed(better, store, writes, killed_here)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_promotion_may_be_killed_between_any_two_of_its_writes(better, store):
    writes = 1
    while not check_killed(better, store, writes, killed_process):
        writes += 1
    assert writes > 15
