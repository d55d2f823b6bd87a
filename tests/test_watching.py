"""From a video to its answer, with a real exported model."""

import json
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pytest
from films import film, opened, portraits, shades, zeroed
from toys import toy_model

from pipeline.inference.options import VideoOptions
from pipeline.inference.predictor import Predictor
from pipeline.inference.watching import Watch, watch
from pipeline.labels import LABELS
from pipeline.sample import draw
from pipeline.vision.transforms import Image, decode


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    model = toy_model(tmp_path_factory.mktemp("model") / "model.onnx")
    return Predictor(model, name="expression-classifier-sample", version="3")


@pytest.fixture(scope="module")
def people(predictor: Predictor) -> list[Image]:
    """Return two drawn pictures, on each of which one face is found."""
    drawn = (decode(file) for path, file in draw("wild", 3) if path.endswith(".jpg"))
    found = islice((picture for picture in drawn if len(predictor.find(picture)) == 1), 2)
    return [cv2.resize(picture, (320, 320)).astype(np.uint8) for picture in found]


def test_an_answer_sums_up_its_timeline(predictor: Predictor) -> None:
    answer = watch(predictor, opened(film(portraits(30))), VideoOptions(fps=5, smoothing=0, detect=False))
    json.dumps(answer, allow_nan=False)
    assert answer["frames"] == {"sampled": 15, "with_face": 15, "unreadable": 0, "share_with_face": 1}
    assert (answer["width"], answer["height"], answer["seconds"]) == (96, 96, 2.8)
    (track,) = answer["tracks"]
    assert [seen["time"] for seen in track["timeline"]] == pytest.approx([number / 5 for number in range(15)])
    counts = Counter(seen["emotion"] for seen in track["timeline"])
    assert track["vote"] == {"emotion": counts.most_common(1)[0][0], "share": counts.most_common(1)[0][1] / 15}
    assert {label: share for label, share in track["distribution"].items() if share} == {
        label: count / 15 for label, count in counts.items()
    }
    assert sum(track["mean"]["probabilities"].values()) == pytest.approx(1)
    assert track["mean"]["probabilities"][track["mean"]["emotion"]] == track["mean"]["confidence"]
    assert {key: track[key] for key in answer["overall"]} == answer["overall"]
    negative = sum(counts[label] for label in ("angry", "disgust", "fear", "sad"))
    assert track["screening"]["negative_share"] == negative / 15
    assert answer["model"] == predictor.model


def test_a_frame_is_read_as_the_same_picture_is(predictor: Predictor) -> None:
    still = portraits(1)[0]
    answer = watch(predictor, opened(film([still] * 3)), VideoOptions(detect=False))
    ((_, pixels),) = predictor.find(still, detect=False)
    (expected,) = predictor.probabilities(pixels[None])
    found = answer["overall"]["mean"]["probabilities"]
    assert [found[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=0.05)  # MPEG-4 loses a little


def test_several_people_are_found_and_followed(predictor: Predictor, people: list[Image]) -> None:
    """The second leaves after one second, and comes back too late to be taken for the same."""
    empty = np.full_like(people[0], 128)
    frames = [np.hstack([people[0], people[1] if number < 10 or number > 45 else empty]) for number in range(60)]
    answer = watch(predictor, opened(film(frames)), VideoOptions(fps=2))
    first, second, again = sorted(answer["tracks"], key=lambda track: (-track["faces"], track["first"]))
    assert [(track["first"], track["last"]) for track in (first, second, again)] == [(0, 5.5), (0, 0.5), (5, 5.5)]
    assert all(seen["box"][0] < 320 for seen in first["timeline"])
    assert all(seen["box"][0] > 320 for track in (second, again) for seen in track["timeline"])
    assert (answer["frames"]["with_face"], answer["overall"]["faces"]) == (12, 16)
    assert first["screening"]["level"] is not None
    assert second["screening"]["level"] is None


def test_no_face_says_so_and_has_no_level(predictor: Predictor) -> None:
    answer = watch(predictor, opened(film(shades(20))))
    assert answer["tracks"] == []
    assert answer["overall"]["vote"] is answer["overall"]["mean"] is answer["overall"]["screening"]["level"] is None
    assert answer["frames"]["share_with_face"] == 0
    assert "no face was found" in answer["note"]


def test_unreadable_frames_are_passed_over_and_counted(predictor: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3)).astype(np.uint8)
    answer = watch(predictor, opened(zeroed(film(noise), 0.4, 0.6)), VideoOptions(detect=False))
    counts = answer["frames"]
    assert counts["unreadable"] >= 1
    assert counts["with_face"] == counts["sampled"] - counts["unreadable"] == answer["overall"]["faces"]
    assert counts["share_with_face"] == 1


def test_a_video_is_let_go_of_before_its_end(predictor: Predictor) -> None:
    watching = Watch(predictor, opened(film(portraits(40))), VideoOptions(fps=10, detect=False))
    assert len(watching.look()) == 16
    watching.close()
    assert watching.look() == []
