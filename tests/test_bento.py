import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cards import toy_card
from toys import encoded, toy_model, toy_offer

from pipeline.cards.card import write_card
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_json
from pipeline.inference.card_files import CARD_FILES
from pipeline.inference.pointer import DETECTOR_FILE, Pointer, find_model, read_pointer, write_pointer
from pipeline.inference.variants import find_variant, offers_file, variant_file
from pipeline.packaging.bento import build_bento

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source folder of a Bento that was built twice from a registry with two models."""
    folder = tmp_path_factory.mktemp("bento")
    model = toy_model(folder / "models" / "registry" / "expression-classifier-sample" / "2.onnx")
    write_card(model.parent, toy_card())
    (model.parent / "1.onnx").write_bytes(b"an older one")
    pointer = Pointer("expression-classifier-sample", "2", str(model), sha256_of(model))
    write_pointer(folder / "models" / "champion.json", pointer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(folder / "home"))
        for _ in range(2):
            tag = build_bento(ROOT, folder / "models" / "champion.json", "2")
    assert tag == "expression_service:2"
    return folder / "home" / "bentos" / "expression_service" / "2" / "src"


def test_bento_holds_one_model_and_a_pointer_that_finds_it(source: Path) -> None:
    pointer_file = source / "models" / "champion.json"
    pointer = read_pointer(pointer_file)
    assert pointer.location == "registry/expression-classifier-sample/2.onnx"
    assert list(source.rglob("*.onnx")) == [find_model(pointer_file, pointer)]


def test_bento_brings_the_card_and_is_described_by_it(source: Path) -> None:
    card = (source / "models" / "registry" / "expression-classifier-sample" / "card.md").read_text()
    assert card.startswith("# Model card: expression-classifier, v7")
    assert (source.parent / "README.md").read_text() == card
    assert {file.name for file in source.rglob("card.*")} == set(CARD_FILES)


@pytest.fixture(scope="module")
def offering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source folder of a Bento of a model with a detector and variants, of which one is offered."""
    folder = tmp_path_factory.mktemp("offering")
    model = toy_model(folder / "model.onnx", detector="yunet")
    (folder / DETECTOR_FILE).write_bytes(b"yunet")
    write_pointer(folder / "champion.json", Pointer("expression-classifier", "7", str(model), sha256_of(model)))
    offers = {"int8": {"offered": True, "sha256": sha256_of(toy_offer(model, "int8"))}}
    offers["fp16"] = {"offered": False, "reason": "macro-F1 falls"}
    write_json(offers_file(model), {"model_sha256": sha256_of(model), "variants": offers})
    variant_file(model, "fp16").write_bytes(b"not offered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(folder / "home"))
        build_bento(ROOT, folder / "champion.json", "7")
    return folder / "home" / "bentos" / "expression_service" / "7" / "src"


def test_bento_brings_the_detector_that_lies_beside_the_model(offering: Path) -> None:
    folder = offering / "models" / "registry" / "expression-classifier"
    assert (folder / DETECTOR_FILE).read_bytes() == b"yunet"


def test_bento_brings_the_variants_that_are_offered_and_says_why_others_are_not(offering: Path) -> None:
    pointer_file = offering / "models" / "champion.json"
    pointer = read_pointer(pointer_file)
    staged = find_model(pointer_file, pointer)
    brought = {file.name for file in staged.parent.iterdir()}
    assert brought == {"7.onnx", "7.int8.onnx", "7.variants.json", DETECTOR_FILE}
    assert find_variant(staged, pointer.sha256, "int8") == sha256_of(variant_file(staged, "int8"))
    with pytest.raises(PipelineError, match="is not offered: macro-F1 falls"):
        find_variant(staged, pointer.sha256, "fp16")


def test_bento_runs_on_its_own_code_without_the_training_packages(source: Path, tmp_path: Path) -> None:
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import service
service.ExpressionService.inner.choose()
answer = service.read_slots(service.slots_file()).served.open().predict(open(sys.argv[2], "rb").read(), detect=False)
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "mlflow", "dvc", "timm", "pandas"})
code = [module.__file__ for name, module in sys.modules.items() if name.startswith("pipeline.")]
print(json.dumps({"faces": len(answer["faces"]), "loaded": loaded, "code": code}))
"""
    (tmp_path / "face.png").write_bytes(encoded(".png"))
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "face.png"],
        env={**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["faces"], said["loaded"]) == (1, [])
    assert said["code"]
    assert all(Path(file).is_relative_to(source / "src") for file in said["code"])


def test_bento_asks_no_index_and_installs_few_packages(source: Path) -> None:
    requirements = (source.parent / "env" / "python" / "requirements.txt").read_text()
    assert "://" not in requirements
    assert not [name for name in ("torch", "mlflow", "dvc") if name in requirements]


def test_container_runs_as_a_user_who_is_not_root_and_tells_whether_it_is_well(source: Path) -> None:
    """As far as that can be told without Docker."""
    text = (source.parent / "env" / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] not in "# "]
    said = {word: rest for word, rest in lines if word in ("USER", "HEALTHCHECK", "ENTRYPOINT")}  # the last one counts
    user, group = said["USER"].split(":")
    assert int(user) > 0 < int(group)
    assert (f"ARG BENTO_USER_UID={user}" in text, f"ARG BENTO_USER_GID={group}" in text) == (True, True)
    _, _, command = said["HEALTHCHECK"].partition("CMD ")
    assert json.loads(command)[0] == "python"  # `test_protected_service.py` asks a service with it
    assert Path(json.loads(said["ENTRYPOINT"])[0]).name == "entrypoint.sh"
    assert "BENTOML_HOME=/tmp/bentoml" in [rest for word, rest in lines if word == "ENV"][-1]


def test_missing_model_builds_nothing(tmp_path: Path) -> None:
    write_pointer(tmp_path / "champion.json", Pointer("x", "1", "1.onnx", "0" * 64))
    with pytest.raises(PipelineError, match="does not exist"):
        build_bento(ROOT, tmp_path / "champion.json", "1")
