from pathlib import Path

import pytest
from toys import toy_model, toy_offer

from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer
from pipeline.serving.slots import Served, Slots, read_slots, write_slots

ONE, TWO = (Served(f"/models/{number}.onnx", "expression-classifier", number, number * 64) for number in "12")


def test_a_model_comes_into_the_slot_beside_and_leaves_the_first_one_empty() -> None:
    slots = Slots({"a": ONE}, "a")
    beside = slots.with_model(slots.free, TWO)
    assert (beside.served, beside.models) == (ONE, {"a": ONE, "b": TWO})
    switched = beside.switched_to("b")
    assert (switched.served, switched.free) == (TWO, "a")
    assert switched.without("a").models == {"b": TWO}


def test_processes_read_what_another_one_wrote(tmp_path: Path) -> None:
    slots = Slots({"a": ONE, "b": TWO}, "b")
    write_slots(tmp_path / "slots.json", slots)
    assert read_slots(tmp_path / "slots.json") == slots


def test_a_model_is_opened_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = Pointer("expression-classifier-sample", "3", "toy.onnx", "0" * 64)
    served = Served.of(pointer, toy_model(tmp_path / "toy.onnx"))
    assert served.open().model["version"] == "3"
    monkeypatch.setenv("FER_YUNET", str(tmp_path / "nothing.onnx"))
    with pytest.raises(PipelineError, match="there is no face detector"):
        served.open()


def test_a_variant_is_opened_where_it_is_offered(tmp_path: Path) -> None:
    model = toy_model(tmp_path / "3.onnx")
    pointer = Pointer("expression-classifier", "3", "3.onnx", sha256_of(model))
    with pytest.raises(PipelineError, match=r"int8 was not made for .*3\.onnx"):
        Served.of(pointer, model, "int8")
    toy_offer(model, "int8", offered=False)
    with pytest.raises(PipelineError, match=r"int8 of .*3\.onnx is not offered: macro-F1 falls"):
        Served.of(pointer, model, "int8")
    variant = toy_offer(model, "int8")
    served = Served.of(pointer, model, "int8")
    assert (served.variant, served.sha256) == ("int8", sha256_of(variant))
    assert served.open().facts["variant"] == "int8"
    assert "variant" not in Served.of(pointer, model).open().facts
