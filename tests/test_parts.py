"""A network that is asked in parts, whichever are quickest, answers as if it was asked for each face alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import SIZE, picture, toy_model

from pipeline.inference import parts
from pipeline.inference.parts import IN_CACHE, Parts
from pipeline.inference.runtimes import Session, open_session
from pipeline.vision.transforms import resize

FACES = np.stack([resize(picture(seed=seed), SIZE) for seed in range(21)])


Opened = tuple[Parts, list[tuple[int, int]]]


class Heard:
    """A session that notes how many faces it was asked for, and by how many threads it computes them."""

    def __init__(self, session: Session, threads: int, asked: list[tuple[int, int]]) -> None:
        self._session, self._threads, self._asked = session, threads, asked
        self.get_outputs = session.get_outputs

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        self._asked.append((len(feeds["faces"]), self._threads))
        return self._session.run(names, feeds)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Opened]:
    """Return a function that opens a network that is slow from so many seconds a face on, and what it was asked."""
    monkeypatch.setenv("FER_THREADS", "2")
    file, asked = toy_model(tmp_path / "model.onnx"), []
    session, computation = open_session(file)

    def make(slow: float) -> Opened:
        monkeypatch.setattr(parts, "SLOW", slow)
        alone = open_session(file, threads=1)
        made = Parts(Heard(session, 2, asked), computation, SIZE, lambda: Heard(alone[0], alone[1].threads, asked))
        asked.clear()
        return made, asked

    return make


def test_a_quick_network_is_asked_for_as_many_as_fit_into_the_cache(opened: Callable[[float], Opened]) -> None:
    made, asked = opened(1e9)
    assert len(made.outputs(FACES)) == 21
    assert asked == [(IN_CACHE, 2), (IN_CACHE, 2), (5, 2)]


def test_a_slow_network_is_asked_one_by_one_in_one_thread_and_answers_in_order(
    opened: Callable[[float], Opened],
) -> None:
    quick = opened(1e9)[0].outputs(FACES)
    made, asked = opened(0)
    np.testing.assert_allclose(made.outputs(FACES), quick, atol=1e-6)
    assert asked == [(1, 1)] * 21


def test_fewer_faces_than_threads_are_computed_by_all_threads_together_and_none_by_nobody(
    opened: Callable[[float], Opened],
) -> None:
    made, asked = opened(0)
    assert len(made.outputs(FACES[:1])) == 1
    assert made.outputs(FACES[:0]).shape == (0, 7)
    assert asked == [(1, 2)]
