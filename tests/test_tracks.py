"""Following faces over frames, and smoothing what is read in them."""

import math

import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.vision.faces import Face
from pipeline.vision.tracks import PATIENCE, Tracker, match, overlap

CERTAIN = np.eye(len(LABELS), dtype=np.float32)


def face(x: int, y: int = 0, side: int = 100) -> Face:
    return Face((x, y, side, side), 0.9)


def rows(*labels: int) -> np.ndarray:
    return CERTAIN[list(labels)]


def test_overlap_is_the_share_of_both_boxes_together() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == overlap((0, 0, 10, 10), (50, 50, 10, 10)) == 0


def test_the_best_pairs_come_first_and_nothing_is_paired_twice() -> None:
    before = [(0, 0, 100, 100), (60, 0, 100, 100)]
    assert match(before, [(30, 0, 100, 100), (0, 0, 100, 100)]) == {1: 0, 0: 1}
    assert match(before, [(500, 0, 100, 100)]) == {}


def test_people_are_followed_whatever_the_order_of_their_faces() -> None:
    tracker = Tracker(0)
    for number in range(6):
        left, right = face(10 * number), face(400 - 10 * number)
        faces = [left, right] if number % 2 else [right, left]
        tracker.add(number / 2, faces, rows(1, 2) if number % 2 else rows(2, 1))
    read = [{int(reading.probabilities.argmax()) for reading in track.readings} for track in tracker.tracks]
    assert read == [{2}, {1}]
    assert [track.number for track in tracker.tracks] == [1, 2]


@pytest.mark.parametrize(("gap", "tracks"), [(PATIENCE, 1), (PATIENCE + 0.1, 2)])
def test_a_face_is_waited_for_but_not_forever(gap: float, tracks: int) -> None:
    tracker = Tracker(0)
    tracker.add(0, [face(0)], rows(0))
    tracker.add(0.1, [], rows())
    tracker.add(gap, [face(0)], rows(0))
    assert len(tracker.tracks) == tracks


def test_smoothing_is_exponential_in_time_whatever_the_rate() -> None:
    slow, fast = Tracker(0.5), Tracker(0.5)
    for tracker, times in ((slow, (0, 1)), (fast, (0, 0.25, 0.5, 0.75, 1))):
        for time in times:
            tracker.add(time, [face(0)], rows(3 if time else 0))
    for tracker in (slow, fast):
        last = tracker.tracks[0].readings[-1]
        assert last.smoothed[0] == pytest.approx(math.exp(-2), abs=1e-6)
        assert last.smoothed.sum() == pytest.approx(1)
        assert last.probabilities[3] == 1


def test_one_odd_frame_does_not_change_what_is_seen() -> None:
    def seen(smoothing: float) -> list[int]:
        tracker = Tracker(smoothing)
        for number, label in enumerate((3, 3, 3, 0, 3)):
            tracker.add(number / 2, [face(0)], rows(label) * 0.5 + 0.5 / 7)
        return [int(reading.smoothed.argmax()) for reading in tracker.tracks[0].readings]

    assert seen(0) == [3, 3, 3, 0, 3]
    assert seen(1) == [3] * 5
