"""What a face is and how it is cut out: on painted eyes, where every pixel is known."""

import math

import cv2
import numpy as np
import pytest

from pipeline.vision.faces import MARGIN, Face, choose_face, crop, locate
from pipeline.vision.transforms import Image

BOX = (60, 40, 100, 100)
MIDDLE = (109.5, 89.5)


class Found:
    """A detector that finds what it is told."""

    name = "told"

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def __call__(self, image: Image) -> list[Face]:
        return self.faces


def noise(height: int = 180, width: int = 220) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def tilted(degrees: float, apart: float = 40, box: tuple[int, int, int, int] = BOX) -> Face:
    """Return a face whose eyes stand on a line that falls to the right by so many degrees."""
    across, down = (apart / 2 * trigonometric(math.radians(degrees)) for trigonometric in (math.cos, math.sin))
    x, y = MIDDLE[0], MIDDLE[1] - 15
    return Face(box, 1.0, ((x - across, y - down), (x + across, y + down)))


def painted(face: Face) -> Image:
    """Return a black picture with a red spot for the one eye and a blue one for the other."""
    picture = np.zeros((180, 220, 3), np.uint8)
    assert face.eyes is not None
    for (x, y), colour in zip(face.eyes, ((255, 0, 0), (0, 0, 255)), strict=True):
        cv2.circle(picture, (round(x * 16), round(y * 16)), 64, colour, -1, cv2.LINE_AA, shift=4)
    return picture


def spots(image: Image) -> np.ndarray:
    """Return the centres (x, y) of the red and the blue in a picture, one a row."""
    rows, columns = np.indices(image.shape[:2])
    weights = [image[..., channel].astype(float) for channel in (0, 2)]
    return np.array([((columns * w).sum() / w.sum(), (rows * w).sum() / w.sum()) for w in weights])


@pytest.mark.parametrize("degrees", [-44, -20, -4, 4, 20, 44])
def test_tilted_eyes_stand_level_in_the_crop_where_the_face_was(degrees: float) -> None:
    face = tilted(degrees)
    cut = crop(painted(face), face)
    assert cut.shape == (120, 120, 3)
    left, right = spots(cut)
    assert left[1] == pytest.approx(right[1], abs=0.3)
    assert right[0] - left[0] == pytest.approx(40, abs=0.3)
    np.testing.assert_allclose(locate(face, np.array([left, right])), face.eyes, atol=0.3)


def test_the_face_turns_about_its_centre() -> None:
    picture = np.zeros((180, 220, 3), np.uint8)
    cv2.circle(picture, (round(MIDDLE[0] * 16), round(MIDDLE[1] * 16)), 64, (255, 0, 255), -1, cv2.LINE_AA, shift=4)
    for degrees in (-40, 0, 40):
        np.testing.assert_allclose(spots(crop(picture, tilted(degrees))), 59.5, atol=0.3)


@pytest.mark.parametrize("face", [Face(BOX, 1.0), tilted(0), tilted(2.9), tilted(-2.9)])
def test_an_upright_face_keeps_the_pictures_own_pixels(face: Face) -> None:
    np.testing.assert_array_equal(crop(noise(), face), noise()[30:150, 50:170])


@pytest.mark.parametrize(
    "face",
    [tilted(46), tilted(-90), tilted(180), tilted(177), tilted(20, apart=10), tilted(20, apart=0)],
    ids=["steep", "on its side", "upside down", "nearly upside down", "eyes together", "one eye"],
)
def test_eyes_that_can_not_be_believed_turn_nothing(face: Face) -> None:
    assert face.tilt == 0
    np.testing.assert_array_equal(crop(noise(), face), noise()[30:150, 50:170])


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("corner", [(-60, -60), (180, 140), (-500, 20), (300, 400)])
def test_beyond_the_edge_the_picture_repeats_it(corner: tuple[int, int], degrees: float) -> None:
    cut = crop(np.full((180, 220, 3), 77, np.uint8), tilted(degrees, box=(*corner, 100, 80)))
    np.testing.assert_array_equal(cut, np.full((120, 120, 3), 77, np.uint8))


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (40_000, 3)])
def test_a_crop_of_the_thinnest_pictures_is_a_square(shape: tuple[int, int], degrees: float) -> None:
    assert crop(noise(*shape), tilted(degrees)).shape == (120, 120, 3)


@pytest.mark.parametrize(("width", "height"), [(100, 80), (80, 100), (1, 1), (3, 2)])
def test_the_square_is_wider_than_the_face_by_its_margin(width: int, height: int) -> None:
    side = round(max(width, height) * (1 + 2 * MARGIN))
    for degrees in (0, 25):
        eyes = tilted(degrees, apart=max(width, height) / 2).eyes
        assert crop(noise(), Face((90, 80, width, height), 1.0, eyes)).shape == (side, side, 3)


def test_the_largest_face_stands_for_the_picture_and_those_like_it_are_counted() -> None:
    large, half, small = (Face((10, 10, side, side), 0.9) for side in (100, 50, 49))
    choice = choose_face(noise(), Found(large, half, small))
    assert choice is not None
    assert (choice.face, choice.candidates) == (large, 2)
    np.testing.assert_array_equal(choice.pixels, crop(noise(), large))


def test_without_a_face_there_is_no_choice() -> None:
    assert choose_face(noise(), Found()) is None
