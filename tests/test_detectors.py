"""The detectors on drawn portraits and, where they are there, on real ones."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.sample import draw
from pipeline.vision.detectors import Haar, YuNet, load_detector
from pipeline.vision.faces import Detector, Face, choose_face, crop
from pipeline.vision.transforms import Image, decode, resize


@pytest.fixture(scope="module")
def yunet(shared: Path) -> YuNet:
    return YuNet(shared / "models" / "face_detection_yunet.onnx")


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return Haar() if request.param == "haar" else request.getfixturevalue("yunet")


@pytest.fixture(scope="module")
def portraits(shared: Path) -> list[Image]:
    """Every twelfth of the real portraits that are no thumbnails."""
    with ZipFile(shared / "data" / "wild_images.zip") as archive:
        pictures = [decode(archive.read(name)) for name in archive.namelist()[::12]]
    return [picture for picture in pictures if max(picture.shape) >= 300]


@pytest.fixture(scope="module")
def drawn() -> list[Image]:
    return [decode(content) for path, content in islice(draw("wild", 3), 8) if path.endswith(".jpg")]


def share_found(detector: Detector, pictures: list[Image]) -> float:
    return float(np.mean([bool(detector(picture)) for picture in pictures]))


def turned(picture: Image, degrees: float) -> Image:
    """Turn a picture clockwise about its middle."""
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    return cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def canvas(*portraits: tuple[Image, int], size: tuple[int, int] = (900, 1200)) -> Image:
    """Return a grey canvas (height, width) with portraits beside each other, each brought to a side in pixels."""
    picture, left = np.full((*size, 3), 128, np.uint8), 0
    for portrait, side in portraits:
        picture[:side, left : left + side] = resize(portrait, side)
        left += side
    return picture


def leaning(face: Face) -> float:
    """Return the degrees on which the eyes stand, believed or not."""
    assert face.eyes is not None
    (left, top), (right, bottom) = face.eyes
    return float(np.degrees(np.arctan2(bottom - top, right - left)))


def test_haar_finds_most_drawn_faces_upright_as_they_are(drawn: list[Image]) -> None:
    haar = Haar()
    assert share_found(haar, drawn) >= 0.85
    assert all(face.eyes is None and 0 < face.score <= 1 for picture in drawn for face in haar(picture))


def test_real_faces_are_found(portraits: list[Image], yunet: YuNet) -> None:
    assert len(portraits) >= 20
    assert share_found(yunet, portraits) >= 0.95
    assert share_found(Haar(), portraits[::2]) >= 0.5


@pytest.mark.parametrize("degrees", [-20, 20, 30])
def test_turned_faces_are_level_again_in_their_crops(degrees: float, portraits: list[Image], yunet: YuNet) -> None:
    pictures = [turned(portrait, degrees) for portrait in portraits[::3]]
    found = [(picture, faces[0]) for picture in pictures if (faces := yunet(picture))]
    before = [leaning(face) for p, f in found for face in yunet(crop(p, replace(f, eyes=None)))]
    after = [leaning(face) for p, f in found for face in yunet(crop(p, f))]
    assert len(after) >= 0.85 * len(pictures)
    assert np.median(before) == pytest.approx(degrees, abs=6)
    assert np.median(np.abs(after)) < 4
    assert np.quantile(np.abs(after), 0.8) < 8


def test_small_faces_are_read_as_well_as_large_ones(portraits: list[Image], yunet: YuNet) -> None:
    straight, leant = (
        [yunet(canvas((turned(portrait, degrees), 350), size=(1050, 1050))) for portrait in portraits[::2]]
        for degrees in (0, 20)
    )
    gained = [leaning(b[0]) - leaning(a[0]) for a, b in zip(straight, leant, strict=True) if a and b]
    assert len(gained) >= 0.8 * len(straight)
    assert np.median(gained) == pytest.approx(20, abs=3)  # 11 where the whole picture alone is looked at


def test_faces_upside_down_are_not_turned_by_much(portraits: list[Image], yunet: YuNet) -> None:
    found = [face for portrait in portraits for face in yunet(turned(portrait, 180))]
    assert found
    assert all(abs(face.tilt) <= 45 for face in found)


def test_both_scales_are_needed(portraits: list[Image], yunet: YuNet, monkeypatch: pytest.MonkeyPatch) -> None:
    filling = [resize(crop(portrait, yunet(portrait)[0]), 1200) for portrait in portraits[:5]]
    small = [canvas((portrait, 70), size=(1200, 1600)) for portrait in portraits[:5]]
    assert share_found(yunet, filling) == share_found(yunet, small) == 1
    for scale, pictures in ((1200, filling), (320, small)):
        monkeypatch.setattr("pipeline.vision.detectors.LONGEST_SIDES", (scale,))
        assert share_found(yunet, pictures) < 0.8


def test_several_faces_come_largest_first_and_tiny_ones_are_no_candidates(portraits: list[Image], yunet: YuNet) -> None:
    one, two, three = portraits[:3]
    picture = canvas((two, 300), (one, 500), (three, 180))
    boxes = [face.box for face in yunet(picture)]
    assert [300 < x + width / 2 < 800 for x, _, width, _ in boxes] == [True, False, False]
    assert [width * height for _, _, width, height in boxes] == sorted((w * h for _, _, w, h in boxes), reverse=True)
    choice = choose_face(picture, yunet)
    assert choice is not None
    assert (choice.face.box, choice.candidates) == (boxes[0], 2)


def test_a_passer_by_in_the_background_is_no_candidate() -> None:
    crowded = [decode(content) for content in islice((data for path, data in draw("wild", 3) if "jpg" in path), 18, 19)]
    choice = choose_face(crowded[0], Haar())
    assert choice is not None
    assert choice.candidates == 1


def test_grey_pictures_have_faces_too(portraits: list[Image], detector: Detector) -> None:
    some = [portrait for portrait in portraits if detector(portrait)][:6]
    grey = [decode(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[1].tobytes()) for picture in some]
    assert share_found(detector, grey) >= 0.8


def test_a_face_that_reaches_over_the_edge_is_cut_out_whole(portraits: list[Image], yunet: YuNet) -> None:
    x, _, width, _ = yunet(portraits[0])[0].box
    halved = np.ascontiguousarray(portraits[0][:, x + width // 4 :])
    (face,) = yunet(halved)
    assert face.box[0] <= 0
    pixels = crop(halved, face)
    assert pixels.shape[0] == pixels.shape[1] > max(face.box[2:])


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (96, 28), (30, 40_000)])
def test_the_thinnest_pictures_have_no_face(shape: tuple[int, int], detector: Detector) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert detector(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)) == []


def test_a_model_of_upright_faces_keeps_them_upright(shared: Path, portraits: list[Image], yunet: YuNet) -> None:
    file = shared / "models" / "face_detection_yunet.onnx"
    for older in ("yunet", "haar"):
        upright = load_detector(file, older)
        assert upright.name == "yunet"
        assert [face.box for face in upright(portraits[0])] == [face.box for face in yunet(portraits[0])]
        assert all(face.eyes is None for face in upright(portraits[0]))
    for newer in (yunet.name, None):
        assert load_detector(file, newer).name == "yunet, aligned by the eyes"
    assert load_detector(None, yunet.name).name == "haar"


def test_a_file_that_is_missing_or_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"there is no file .*nix\.onnx"):
        YuNet(tmp_path / "nix.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(PipelineError, match=r"text\.onnx is no YuNet model"):
        YuNet(tmp_path / "text.onnx")
