import hashlib
import re
import subprocess
import sys
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.sample import draw
from pipeline.sample.layouts import LOOKS
from pipeline.vision.detectors import Haar
from pipeline.vision.transforms import decode

COUNT = 5
COUNTS = {"fer2013": COUNT, "rafdb": COUNT, "affectnet": COUNT, "wild": 4 * COUNT}  # five people
DATASETS = tuple(COUNTS)


@pytest.fixture(scope="module")
def samples() -> dict[str, dict[str, bytes]]:
    return {dataset: dict(draw(dataset, count)) for dataset, count in COUNTS.items()}


def digest(files) -> str:
    whole = hashlib.sha256()
    for path, content in files:
        whole.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
    return whole.hexdigest()


def images(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.endswith(".jpg")}


@pytest.mark.parametrize("dataset", DATASETS)
def test_another_process_draws_the_same_bytes(samples, dataset):
    code = (
        "import sys, hashlib; from pipeline.sample import draw; whole = hashlib.sha256()\n"
        "for path, content in draw(sys.argv[1], int(sys.argv[2])):\n"
        "    whole.update(path.encode() + b'\\0' + hashlib.sha256(content).digest())\n"
        "sys.stdout.write(whole.hexdigest())"
    )
    command = [sys.executable, "-c", code, dataset, str(COUNTS[dataset])]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert elsewhere == digest(samples[dataset].items())


@pytest.mark.parametrize("dataset", DATASETS)
def test_another_seed_draws_other_faces_in_the_same_places(samples, dataset):
    other = dict(draw(dataset, COUNTS[dataset], seed=1))
    assert other.keys() == samples[dataset].keys()
    same = [path for path in images(other) if other[path] == samples[dataset][path]]
    assert same == []


@pytest.mark.parametrize(
    ("dataset", "pattern"),
    [
        (
            "fer2013",
            r"(train/(angry|disgust|fear|happy|neutral|sad|surprise)/Training"
            r"|test/(angry|disgust|fear|happy|neutral|sad|surprise)/(PublicTest|PrivateTest))_\d+\.jpg",
        ),
        ("rafdb", r"DATASET/(train|test)/[1-7]/\1_\d{5}_aligned\.jpg|(train|test)_labels\.csv"),
        ("affectnet", r"AffectNet/(train|val|test)/[0-7]/[^/]+\.jpg"),
        ("wild", r"images/\d+/(Anger|Contempt|Disgust|Fear|Happy|Neutral|Sad|Surprised)\.jpg|emotions\.csv"),
    ],
)
def test_layout_is_that_of_the_public_download(samples, dataset, pattern):
    drawn = [path for path, _ in draw(dataset, COUNT)]
    assert len(drawn) == len(set(drawn))
    assert [path for path in drawn if not re.fullmatch(pattern, path)] == []


@pytest.mark.parametrize(("dataset", "classes"), [("fer2013", 7), ("rafdb", 7), ("affectnet", 8)])
def test_every_class_is_in_every_split(samples, dataset, classes):
    folders = Counter(path.rsplit("/", 2)[1] for path in images(samples[dataset]))
    assert list(folders.values()) == [COUNT] * classes
    for split in {path.rsplit("/", 2)[0] for path in images(samples[dataset])}:
        assert len({path.rsplit("/", 2)[1] for path in images(samples[dataset]) if path.startswith(split)}) == classes


def test_fer2013_shares_at_full_size_are_those_of_the_challenge(monkeypatch):
    monkeypatch.setattr("pipeline.sample.layouts.draw_crop", lambda *_: b"")
    usages = Counter(path.split("/")[2].split("_")[0] for path, _ in draw("fer2013", 160) if "/sad/" in path)
    assert usages == {"Training": 115, "PublicTest": 13, "PrivateTest": 32}


@pytest.mark.parametrize(
    ("dataset", "shape"), [("fer2013", (48, 48)), ("rafdb", (100, 100, 3)), ("affectnet", (224, 224, 3))]
)
def test_crops_have_the_size_and_channels_of_the_download(samples, dataset, shape):
    for content in images(samples[dataset]).values():
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).shape == shape


def test_fer2013_has_the_documented_copies():
    faces = dict(draw("fer2013", 16))  # 21 PrivateTest faces: one copy
    groups = defaultdict(list)
    for path, content in faces.items():
        groups[content].append(path)
    leaks, conflicts = [], []
    for group in (group for group in groups.values() if len(group) > 1):
        usages = {path.split("/")[2].split("_")[0] for path in group}
        labels = {path.split("/")[1] for path in group}
        (leaks if len(usages) > 1 else conflicts).append((len(group), usages, labels))
    assert leaks == [(2, {"Training", "PrivateTest"}, {"angry"})]
    assert conflicts == [(2, {"Training"}, {"fear", "surprise"})]


@pytest.mark.parametrize("count", [3, 160])
def test_fer2013_copies_two_percent_of_private_test(monkeypatch, count):
    monkeypatch.setattr("pipeline.sample.layouts.draw_crop", lambda _label, _look, rng: rng.bytes(8))
    usages = defaultdict(set)
    for path, content in draw("fer2013", count):
        usages[content].add(path.split("/")[2].split("_")[0])
    private = sum("PrivateTest" in found for found in usages.values())
    leaks = sum({"PrivateTest", "Training"} <= found for found in usages.values())
    assert leaks == max(1, round(0.02 * private))


@pytest.mark.parametrize("dataset", ["rafdb", "affectnet", "wild"])
def test_other_samples_hold_no_copies(samples, dataset):
    contents = list(images(samples[dataset]).values())
    assert len(set(contents)) == len(contents)


def test_rafdb_tables_agree_with_the_folders(samples):
    for split in ("train", "test"):
        header, *rows = samples["rafdb"][f"{split}_labels.csv"].decode().splitlines()
        assert header == "image,label"
        listed = {f"DATASET/{split}/{label}/{name}" for name, label in (row.split(",") for row in rows)}
        assert listed == {path for path in images(samples["rafdb"]) if path.startswith(f"DATASET/{split}/")}


def test_codes_stand_for_the_right_expressions(monkeypatch):
    monkeypatch.setattr("pipeline.sample.layouts.draw_crop", lambda label, *_: label.encode())
    rafdb = {path.split("/")[2]: label.decode() for path, label in draw("rafdb", 3) if path.endswith(".jpg")}
    affectnet = {path.split("/")[2]: label.decode() for path, label in draw("affectnet", 3)}
    order = ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]
    assert rafdb == {str(code): label for code, label in enumerate(order, 1)}
    order = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"]
    assert affectnet == {str(code): label for code, label in enumerate(order)}
    assert set(rafdb.values()) == set(LABELS)


def test_wild_has_a_row_and_eight_pictures_a_person(samples):
    header, *rows = samples["wild"]["emotions.csv"].decode().splitlines()
    assert header == "set_id,gender,age,country"
    people = Counter(path.split("/")[1] for path in images(samples["wild"]))
    assert people == {row.split(",")[0]: 8 for row in rows}
    assert len(rows) == COUNT
    for content in images(samples["wild"]).values():
        height, width, _ = decode(content).shape
        assert 272 <= height <= 363
        assert 204 <= width <= 272


@pytest.mark.parametrize("dataset", ["fer2013", "rafdb", "affectnet"])
def test_crops_are_off_centre_scaled_and_turned_as_a_cropper_leaves_them(monkeypatch, dataset):
    poses = []
    monkeypatch.setattr("pipeline.sample.scene.draw_face", lambda *drawing: poses.append(drawing[-1]))
    monkeypatch.setattr("pipeline.sample.camera.Camera.take", lambda *_: b"")
    for _ in draw(dataset, 40):
        pass
    side = LOOKS[dataset].size * LOOKS[dataset].oversize
    centres = np.array([pose.centre for pose in poses]) / side
    widths = np.array([2 * pose.scale for pose in poses]) / side
    rolls = np.array([pose.roll for pose in poses])
    assert len(poses) >= 280
    assert np.all(centres.std(0) > 0.015)  # a pixel of 64
    assert 0.03 < widths.std() / widths.mean() < 0.1
    assert 2 < rolls.std() < 6
    # But faces stay in the picture, upright and about in the middle.
    np.testing.assert_allclose(centres.mean(0), (0.5, LOOKS[dataset].framing.height), atol=0.01)
    assert np.quantile(np.abs(centres - centres.mean(0)), 0.95) < 0.12
    assert np.quantile(np.abs(rolls), 0.95) < 12
    assert 0.68 < widths.mean() < 0.85


@pytest.mark.parametrize(("count", "people"), [(3, 3), (16, 4)])
def test_wild_has_a_quarter_as_many_people_as_a_class_has_faces(monkeypatch, count, people):
    monkeypatch.setattr("pipeline.sample.layouts.draw_portrait", lambda *_: b"")
    *portraits, _ = (path for path, _ in draw("wild", count))
    assert len({path.split("/")[1] for path in portraits}) == people


def test_the_detector_finds_most_wild_faces_and_none_where_none_is_drawn(samples):
    haar = Haar()
    found = [len(haar(decode(content))) for content in list(images(samples["wild"]).values())[::2]]
    empty = found.pop(16)
    assert empty == 0
    assert np.mean(np.array(found) > 0) >= 0.85


def test_every_nineteenth_wild_picture_shows_a_second_smaller_face(monkeypatch):
    drawn = []
    monkeypatch.setattr("pipeline.sample.camera.Camera.take", lambda *_: b"")
    monkeypatch.setattr("pipeline.sample.scene.draw_face", lambda *drawing: drawn.append(drawing[-1].scale))
    scales = []
    for _ in draw("wild", COUNTS["wild"]):
        scales.append(sorted(drawn))
        drawn.clear()
    pictures = scales[:40]
    assert [place for place, found in enumerate(pictures, 1) if len(found) == 2] == [19, 38]
    assert [place for place, found in enumerate(pictures, 1) if len(found) == 0] == [33]
    assert all(small < 0.5 * large for small, large in (pictures[18], pictures[37]))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(PipelineError, match="'ck48'.*fer2013, rafdb, affectnet, wild"):
        draw("ck48")


def test_too_few_faces_are_refused():
    with pytest.raises(PipelineError, match="at least 3"):
        draw("fer2013", 2)
