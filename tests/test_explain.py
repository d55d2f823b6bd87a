"""Pictures of explanations: of maps whose hot place is known, on pictures where nothing else shines."""

import math

import numpy as np
import pytest
from toys import encoded

from pipeline.inference.explain import FINE, LONGEST, explain, heat, overlay
from pipeline.labels import LABELS
from pipeline.vision.faces import Face, corners, crop, locate
from pipeline.vision.transforms import Image, decode

HOT = (0, 2)  # row and column of a map of 4 x 4 places
GREY = 60


def hot_map() -> np.ndarray:
    places = np.full((4, 4), -1, np.float32)
    places[HOT] = 3
    return places


def leaning(degrees: float) -> Face:
    across, down = (25 * trigonometric(math.radians(degrees)) for trigonometric in (math.cos, math.sin))
    return Face((140, 90, 120, 120), 1.0, ((200 - across, 140 - down), (200 + across, 140 + down)))


def picture(height: int = 300, width: int = 400) -> Image:
    return np.full((height, width, 3), GREY, np.uint8)


def hottest(drawn: Image) -> np.ndarray:
    """Return the centre (x, y) of what is most colourful on a picture that was grey; the outline is, too."""
    colour = np.ptp(drawn.astype(int), axis=2)
    rows, columns = np.indices(colour.shape)
    weight = np.where(colour > 0.8 * colour.max(), colour, 0)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def test_heat_is_what_speaks_for_the_label() -> None:
    warmth = heat(hot_map())
    assert warmth.shape == (FINE, FINE)
    assert (warmth.min(), warmth.max()) == pytest.approx((0, 1), abs=0.01)
    row, column = np.argwhere(warmth > 0.99).mean(0)
    assert column == pytest.approx(2.5 * FINE / 4, abs=2)
    assert row < FINE / 4
    assert warmth[FINE // 2 :].max() < 0.02  # of cubic interpolation
    np.testing.assert_array_equal(heat(10 * hot_map()), warmth)
    assert heat(np.full((3, 3), -1, np.float32)).max() == 0


@pytest.mark.parametrize("degrees", [0, -30, 30])
def test_the_map_lies_where_the_face_was_cut_out(degrees: float) -> None:
    face = leaning(degrees)
    drawn = overlay(picture(), face, hot_map())
    side = crop(picture(), face).shape[0]
    # Above the centres of the first row nothing is known, and its colour goes on to the edge.
    (place,) = locate(face, np.array([((HOT[1] + 0.5) * side / 4, (HOT[0] + 0.35) * side / 4)]))
    np.testing.assert_allclose(hottest(drawn), place, atol=4)
    assert (drawn[:40] == GREY).all()
    for x, y in np.round(corners(face)).astype(int):
        assert drawn[y - 2 : y + 3, x - 2 : x + 3].max() > 150  # the outline


def test_a_whole_picture_is_stretched_to_the_map_and_has_no_outline() -> None:
    drawn = overlay(picture(90, 200), Face((0, 0, 200, 90), 1.0), hot_map(), whole=True)
    np.testing.assert_allclose(hottest(drawn), (0.625 * 200, 0.0875 * 90), atol=3)
    np.testing.assert_allclose(drawn[60:], GREY, atol=2)


def test_a_large_picture_is_shrunk_and_the_map_with_it() -> None:
    large = picture(1000, 4000)
    drawn = overlay(large, Face((1000, 400, 400, 400), 1.0), hot_map())
    assert drawn.shape == (LONGEST * 1000 // 4000, LONGEST, 3)
    x, y = hottest(drawn)
    assert (x, y) == pytest.approx((0.4 * (1200 - 240 + 480 * 0.625), 0.4 * (600 - 240 + 480 * 0.0875)), abs=4)


def test_nothing_is_laid_over_a_face_of_which_nothing_speaks_for_the_label() -> None:
    whole = Face((0, 0, 400, 300), 1.0)
    np.testing.assert_array_equal(overlay(picture(), whole, -hot_map() - 9, whole=True), picture())


@pytest.mark.parametrize(("label", "expected"), [(None, "happy"), ("sad", "sad")])
def test_the_likeliest_label_is_explained_or_the_one_that_is_asked_for(label: str | None, expected: str) -> None:
    row = np.full(7, 0.05, np.float32)
    row[LABELS.index("happy")] = 0.7
    maps = np.arange(7, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    found = explain(leaning(0), False, row, maps, label, {"name": "x", "version": "1"})
    assert (found.label, found.probability) == (expected, pytest.approx(row[LABELS.index(expected)]))
    assert found.as_json()["map"] == [[LABELS.index(expected)] * 2] * 2
    grey = decode(found.as_png(encoded(".png", picture()), "map"))
    assert grey.shape == (FINE, FINE, 3)
