"""The image reader, held against Pillow's where the file is whole, and against rubbish where it is not."""

import io
import resource
import struct
import time

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from image_kinds import ALPHA, ANIMATIONS, CLEAR, COLOUR, HEIGHT, KINDS, PIXELS, WIDTH, jpeg_segment, png_chunk, saved
from toys import png_bomb

from pipeline.vision.transforms import (
    MAX_PIXELS,
    Image,
    ImageError,
    ImageTooLargeError,
    UnsupportedImageError,
    decode,
    encode,
    is_image,
)

FORMATS = {"JPEG": KINDS["JPEG"], "PNG": KINDS["PNG"], "WebP": KINDS["WebP, lossless"], "BMP": KINDS["BMP"]}
JPEGS = [name for name in KINDS if name.startswith("JPEG")]


def read_by_pillow(data: bytes) -> Image:
    """Return what a viewer shows: upright, over white."""
    image = PIL.Image.open(io.BytesIO(data))
    if image.mode == "I;16":
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = PIL.ImageOps.exif_transpose(image)
    shown = PIL.Image.new("RGBA", image.size, "white")
    shown.alpha_composite(image.convert("RGBA"))
    return np.asarray(shown.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_pillow_reads_it(kind: str) -> None:
    expected, found = read_by_pillow(KINDS[kind]), decode(KINDS[kind])
    assert (found.dtype, found.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    assert np.abs(expected.astype(int) - found).max() <= 1  # CMYK, alpha and 16 bits are rounded otherwise


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "PNG, alpha", "WEBP, alpha"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_turned_pictures_come_upright(byte_order: str, kind: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif.endian = byte_order
    exif[0x0112] = orientation
    options = {"lossless": True} if kind.startswith("WEBP") else {}
    data = saved(CLEAR if "alpha" in kind else COLOUR, kind.partition(",")[0], exif=exif, **options)
    expected, found = read_by_pillow(data), decode(data)
    assert found.shape == ((WIDTH, HEIGHT, 3) if 5 <= orientation <= 8 else (HEIGHT, WIDTH, 3))
    assert np.abs(expected.astype(int) - found).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "PNG, alpha"])
def test_damaged_exif_leaves_a_picture_as_it_is(kind: str) -> None:
    chunk = png_chunk(b"eXIf", b"MM\0*\0\0\x00\x08\xff\xff")  # tells of more entries than there are
    np.testing.assert_array_equal(decode(KINDS[kind][:33] + chunk + KINDS[kind][33:]), decode(KINDS[kind]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_hidden_under_transparent_pixels_is_not_seen(kind: str) -> None:
    pixels = np.dstack([PIXELS, np.where(ALPHA > 100, 255, 0).astype(np.uint8)])
    image = decode(saved(PIL.Image.fromarray(pixels), kind, lossless=True, exact=True))
    np.testing.assert_array_equal(image[ALPHA > 100], PIXELS[ALPHA > 100])
    assert (image[ALPHA <= 100] == 255).all()


@pytest.mark.parametrize("kind", KINDS)
def test_image_that_was_cut_off_anywhere_never_comes_back_in_part(kind: str) -> None:
    whole = decode(KINDS[kind])
    assert not is_image(KINDS[kind][: len(KINDS[kind]) // 3])
    for length in range(len(KINDS[kind])):
        try:
            image = decode(KINDS[kind][:length])
        except ImageError:
            continue
        np.testing.assert_array_equal(image, whole)  # what follows the picture is missing: a second one, a film


@pytest.mark.parametrize("kind", [name for name in JPEGS if "after" not in name and "two" not in name])
def test_download_that_broke_off_and_was_padded_is_refused(kind: str) -> None:
    scan = KINDS[kind].index(b"\xff\xda")
    for length in range(scan, len(KINDS[kind])):
        with pytest.raises(ImageError, match="damaged or cut off"):
            decode(KINDS[kind][:length] + bytes(1000))


@pytest.mark.parametrize("position", [29, 60, -20, -5])  # checksum of the header, pixels, their checksum, the end
def test_png_with_a_changed_bit_is_refused(position: int) -> None:
    data = bytearray(KINDS["PNG"])
    data[position] ^= 1
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(bytes(data))


OTHERS = {kind: saved(COLOUR, kind) for kind in ("GIF", "TIFF", "PPM", "ICO")}
OTHERS |= {**ANIMATIONS, "text": b"hello", "zeros": bytes(100), "WAV": b"RIFF\x24\0\0\0WAVEfmt "}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_told_apart(kind: str) -> None:
    with pytest.raises(UnsupportedImageError, match="JPEG, PNG, WebP and BMP can"):
        decode(OTHERS[kind])


def test_nothing_is_no_image() -> None:
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"")
    assert [is_image(value) for value in (b"", b"BM", None, "text", KINDS["BMP"])] == [False] * 4 + [True]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (16_383, 1), (1, 16_383)], ids=str)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_odd_sizes_are_read(kind: str, size: tuple[int, int]) -> None:
    image = decode(saved(PIL.Image.new("RGB", size, (77, 77, 77)), kind))
    assert image.shape == (size[1], size[0], 3)
    assert np.abs(image.astype(int) - 77).max() <= 1


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (65_500, 2)), ("PNG", (65_535, 1)), ("BMP", (1, 65_535))])
def test_longest_sides_are_read(kind: str, size: tuple[int, int]) -> None:
    assert decode(saved(PIL.Image.new("RGB", size), kind)).shape == (size[1], size[0], 3)


def announcing(kind: str, width: int, height: int) -> bytes:
    """Return a small file of a kind with its size overwritten."""
    data = bytearray(FORMATS[kind])
    if kind == "PNG":
        return png_bomb(width, height)
    if kind == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif kind == "BMP":
        struct.pack_into("<ii", data, 18, width, height)
    else:
        data[12:] = b"VP8X" + struct.pack("<IIHBHB", 10, 0, width - 1, 0, height - 1, 0) + data[12:]
    return bytes(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_size_is_asked_before_pixels_are_unpacked(kind: str) -> None:
    with pytest.raises(ImageTooLargeError, match="more than 50 million pixels"):
        decode(announcing(kind, 20_000, 20_000))


def test_huge_picture_that_is_real_is_refused() -> None:
    data = saved(PIL.Image.new("1", (20_000, 20_000)), "PNG", compress_level=1)
    assert len(data) < MAX_PIXELS / 100
    with pytest.raises(ImageTooLargeError):
        decode(data)


def test_bmp_cannot_tell_a_small_size_by_the_length_of_its_header() -> None:
    # 0x10C ends in the 12 of the oldest header, which has its sizes in two bytes each.
    size = struct.pack("<Iii", 0x10C, 0x1000A, 0x1000A)
    with pytest.raises(ImageTooLargeError):
        decode(b"BM" + bytes(12) + size + bytes(1000))


def test_webp_cannot_tell_a_small_size_by_leaving_out_its_chunk() -> None:
    bare = KINDS["WebP, lossless"][20:]  # OpenCV reads such a stream, whose size stands elsewhere
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(b"RIFF" + struct.pack("<I", len(bare) + 4) + b"WEBP" + bare)


def test_png_whose_first_chunk_is_another_has_no_size() -> None:
    data = KINDS["PNG"]
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(data[:8] + png_chunk(b"teXt", struct.pack(">II", 30_000, 30_000)) + data[8:])


@pytest.mark.parametrize("name", [b"tEXt", b"IDAT", b"IEND"])
def test_png_cannot_ask_for_memory_by_the_length_of_a_chunk(name: bytes) -> None:
    data, before = KINDS["PNG"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(data[:33] + struct.pack(">I", 2**30) + name + data[33:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kilobytes


@pytest.mark.parametrize("progressive", [True, False], ids=["progressive", "one channel a scan"])
def test_jpeg_with_endless_scans_is_refused_at_once(progressive: bool) -> None:
    """Without a limit these ten bytes a scan, each a walk over 49 million pixels, take minutes."""
    data = announcing("JPEG", 7_000, 7_000)
    head = data[: data.index(b"\xff\xda")]
    if progressive:
        head = head.replace(b"\xff\xc0", b"\xff\xc2")
    scans = jpeg_segment(0xDA, bytes([1, 1, 0, 0, 0 if progressive else 63, 0])) * 50_000
    start = time.process_time()  # which other programs do not lengthen
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(head + scans + b"\xff\xd9")
    assert time.process_time() - start < 0.5


def test_film_behind_a_picture_may_hold_what_looks_like_scans() -> None:
    np.testing.assert_array_equal(decode(KINDS["JPEG"] + b"\xff\xda" * 1000), decode(KINDS["JPEG"]))


def test_encoding_loses_nothing() -> None:
    np.testing.assert_array_equal(decode(encode(PIXELS)), PIXELS)
