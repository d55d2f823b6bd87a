import hashlib
import zipfile

import cv2
import imagehash
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from pipeline.datasets.duplicates import group_pictures, near_pairs
from pipeline.datasets.harmonization import PHASH_SIDE
from pipeline.params import SplitParams
from pipeline.sample import draw
from pipeline.vision.transforms import decode

BITS = SplitParams().near_duplicate_bits


def phash(pixels):
    return str(imagehash.phash(PIL.Image.fromarray(pixels), hash_size=PHASH_SIDE))


def bits_apart(one, other):
    return (int(phash(one), 16) ^ int(phash(other), 16)).bit_count()


@pytest.fixture(scope="module")
def faces():
    """Drawn faces of different people."""
    return [decode(data) for path, data in draw("rafdb", 10, 0) if path.endswith(".jpg")]


def test_pairs_are_those_that_a_look_at_every_pair_finds():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (70, 32), dtype=np.uint8)
    hashes[40] = hashes[3] ^ np.uint8(0b111)  # in each byte
    hashes[69] = hashes[68]
    expected = [
        (i, j) for i in range(70) for j in range(i + 1, 70) if np.unpackbits(hashes[i] ^ hashes[j]).sum() <= 110
    ]
    found = near_pairs(hashes, 110)
    assert sorted(zip(*(part.tolist() for part in found), strict=True)) == expected
    assert {(3, 40), (68, 69)} < set(expected)


def test_faces_without_a_hash_are_only_compared_by_pixels():
    pixels = pd.Series(["a" * 64, "b" * 64, "c" * 64, "b" * 64])
    hashes = pd.Series(["0" * 64, None, "0" * 64, None])
    assert [name[0] for name in group_pictures(pixels, hashes, 0)] == ["a", "b", "a", "b"]


def test_any_number_of_pictures_with_one_hash_is_one_picture():
    """Blank pictures have one hash, and every pair of them would be more than any memory holds."""
    pixels = pd.Series([f"{number:<064x}" for number in range(50_000)])
    hashes = pd.Series(["0" * 64] * 49_999 + ["0" * 63 + "3"])
    assert group_pictures(pixels, hashes, 2).nunique() == 1
    assert group_pictures(pixels, hashes, 1).nunique() == 2


def test_nothing_gives_no_pairs():
    assert [len(part) for part in near_pairs(np.empty((0, 32), np.uint8), 56)] == [0, 0]


def test_pictures_are_chained_and_named_by_their_first_pixels():
    pixels = pd.Series(["c" * 64, "a" * 64, "b" * 64, "d" * 64, "c" * 64], index=[7, 3, 9, 1, 2])
    hashes = pd.Series(
        [f"{number:064x}" for number in (0b0001, 0b0011, 0b0111, 0xFF << 200, 0b0001)], index=pixels.index
    )
    chained = group_pictures(pixels, hashes, 1)
    assert list(chained) == ["a" * 16, "a" * 16, "a" * 16, "d" * 16, "a" * 16]
    assert list(chained.index) == list(pixels.index)
    assert group_pictures(pixels, hashes, -1).nunique() == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda face: cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR),
        lambda face: cv2.resize(face, (224, 224)),
        lambda face: cv2.resize(face[1:-1, 1:-1], face.shape[:2]),
        lambda face: np.clip(face * 0.8 + 20, 0, 255).astype(np.uint8),
    ],
    ids=["compressed", "enlarged", "cropped", "brightened"],
)
def test_a_changed_copy_is_found(faces, change):
    assert np.mean([bits_apart(face, change(face)) <= BITS for face in faces]) >= 0.9


def test_different_people_are_not_found(shared):
    """On real faces; drawn ones are as near to each other as copies are, and are not compared."""
    with zipfile.ZipFile(shared / "data" / "wild_images.zip") as opened:
        names = [name for name in opened.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png"))][:150]
        pictures = [decode(opened.read(name)) for name in names]
    pixels = pd.Series([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures])
    groups = group_pictures(pixels, pd.Series([phash(picture) for picture in pictures]), BITS)
    assert groups.nunique() >= 0.97 * len(groups)
