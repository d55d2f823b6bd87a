import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import astuple

import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.sample.clip import draw_clips
from pipeline.sample.expression import EXPRESSIONS
from pipeline.vision.transforms import decode

PEOPLE, FRAMES = 3, 3


@pytest.fixture(scope="module")
def clips():
    return list(draw_clips(PEOPLE, FRAMES))


def test_another_process_draws_the_same_bytes(clips):
    code = (
        "import sys; from pipeline.sample.clip import draw_clips\n"
        f"for clip in draw_clips({PEOPLE}, {FRAMES}): sys.stdout.buffer.write(b''.join(clip.frames))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert elsewhere == b"".join(frame for clip in clips for frame in clip.frames)


def test_another_seed_draws_other_clips(clips):
    other = next(draw_clips(PEOPLE, FRAMES, seed=1))
    assert (other.person, other.label) == (clips[0].person, clips[0].label)
    assert not set(other.frames) & set(clips[0].frames)


def test_every_person_has_one_clip_of_each_label_and_stands_in_one_split(monkeypatch):
    monkeypatch.setattr("pipeline.sample.clip._draw_clip", lambda *_: [])
    labels, splits = defaultdict(list), defaultdict(set)
    for clip in draw_clips(40, FRAMES):
        labels[clip.person].append(clip.label)
        splits[clip.person].add(clip.split)
    assert all(sorted(names) == list(LABELS) for names in labels.values())
    assert Counter(split for (split,) in splits.values()) == {"test": 10, "validation": 6, "train": 24}


def test_few_people_leave_no_split_empty(clips):
    assert {clip.split for clip in clips} == {"train", "validation", "test"}


def test_frames_are_small_colour_pictures_and_no_two_are_alike(clips):
    frames = [frame for clip in clips for frame in clip.frames]
    assert {decode(frame).shape for frame in frames} == {(64, 64, 3)}
    assert len(set(frames)) == PEOPLE * len(LABELS) * FRAMES


def test_frames_of_a_clip_share_light_and_backdrop(clips):
    for clip in clips:
        corners = np.stack([decode(frame)[:8, :8].mean((0, 1)) for frame in clip.frames])
        assert np.ptp(corners, axis=0).max() < 12  # of 255; the grain and the head's edge remain


def drawings(monkeypatch, frames):
    """Return by clip what was drawn: persons, expressions and poses, a frame each."""
    drawn = []
    monkeypatch.setattr("pipeline.sample.clip.draw_face", lambda _, *drawing: drawn.append(drawing))
    labels = [clip.label for clip in draw_clips(12, frames)]
    return labels, [drawn[frames * index : frames * (index + 1)] for index in range(len(labels))]


def test_a_face_moves_to_what_its_label_says_and_comes_from_elsewhere(monkeypatch):
    labels, films = drawings(monkeypatch, 5)
    nearer, rested = 0, 0
    for label, film in zip(labels, films, strict=True):
        shown = np.array([astuple(expression) for _, expression, _ in film])
        goal, rest = (np.array(astuple(EXPRESSIONS[name])) for name in (label, "neutral"))
        distances = np.linalg.norm(shown - goal, axis=1)
        nearer += distances[0] > distances[-1]
        rested += np.linalg.norm(shown[0] - rest) < np.linalg.norm(shown[0] - goal) and label != "neutral"
        path = (shown - shown[0]) @ (shown[-1] - shown[0])
        assert (np.diff(path) >= -1e-9).all()  # never back
    assert nearer >= 0.95 * len(films)
    assert rested >= 0.6 * len(films)


def test_the_head_moves_a_little_and_the_person_stays(monkeypatch):
    _, films = drawings(monkeypatch, 8)
    for film in films:
        assert len({person for person, _, _ in film}) == 1
        centres = np.array([pose.centre for _, _, pose in film]) / 3  # they are drawn three times as large
        steps = np.abs(np.diff(centres, axis=0))
        assert (steps > 0).all()
        assert steps.max() < 3
