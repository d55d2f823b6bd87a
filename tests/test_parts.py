"""A network that is asked in parts, whichever are quickest, answers as if it was asked for each face alone."""

import threading
from pathlib import Path

import numpy as np
import pytest
from toys import SIZE, picture, toy_model

from pipeline import parts
from pipeline.parts import AT_ONCE, IN_CACHE, Parts
from pipeline.runtimes import open_session
from pipeline.transforms import resize

FACES = np.stack([resize(picture(seed=seed), SIZE) for seed in range(21)])


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that opens a network that is slow from so many seconds a face on, and what it was asked."""
    monkeypatch.setenv("FER_THREADS", "2")
    session, computation = open_session(toy_model(tmp_path / "model.onnx"))
    asked: list[tuple[int, str]] = []

    class Heard:
        get_outputs = session.get_outputs

        def run(self, names, feeds):
            asked.append((len(feeds["faces"]), threading.current_thread().name))
            return session.run(names, feeds)

    def make(slow: float) -> tuple[Parts, list[tuple[int, str]]]:
        monkeypatch.setattr(parts, "SLOW", slow)
        made = Parts(Heard(), computation, SIZE)
        asked.clear()
        return made, asked

    return make


def test_a_quick_network_is_asked_for_as_many_as_fit_into_the_cache(opened):
    made, asked = opened(slow=1e9)
    rows = made.outputs(FACES)
    assert [size for size, _ in asked] == [IN_CACHE, IN_CACHE, 5]
    assert {thread for _, thread in asked} == {threading.current_thread().name}
    assert len(rows) == 21


def test_a_slow_network_is_asked_for_one_by_one_several_at_once_and_answers_in_order(opened):
    quick = opened(slow=1e9)[0].outputs(FACES)
    made, asked = opened(slow=0)
    np.testing.assert_allclose(made.outputs(FACES), quick, atol=1e-6)
    assert [size for size, _ in asked] == [1] * 21
    assert 1 < len({thread for _, thread in asked}) <= AT_ONCE


def test_one_face_is_computed_where_it_is_asked_for_and_none_by_nobody(opened):
    made, asked = opened(slow=0)
    assert len(made.outputs(FACES[:1])) == 1
    assert made.outputs(FACES[:0]).shape == (0, 7)
    assert asked == [(1, threading.current_thread().name)]
