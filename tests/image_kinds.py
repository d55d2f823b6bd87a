"""One small file of every kind of image that is read, and pieces to build others from."""

import base64
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import PIL.Image

from pipeline.vision.transforms import Image

HEIGHT, WIDTH = 12, 20
Y, X = np.mgrid[:HEIGHT, :WIDTH]
PIXELS: Image = np.stack([X * 12, Y * 20, X * 6 + Y * 10], axis=2).astype(np.uint8)
ALPHA: Image = ((X + Y) * 8).astype(np.uint8)
DEEP = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257  # 16 bits a channel

COLOUR = PIL.Image.fromarray(PIXELS)
GREY = COLOUR.convert("L")
PALETTE = COLOUR.quantize(16)
CLEAR = PIL.Image.fromarray(np.dstack([PIXELS, ALPHA]))
OTHER = PIL.Image.fromarray(255 - PIXELS)  # a second frame


def saved(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file, written by Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def interlaced() -> bytes:
    """Return a PNG that comes in seven passes, each finer than the one before (Adam7)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in PIXELS[top::down, left::right]
    )
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def bmp(pixels: bytes, bits: int = 24, height: int = HEIGHT, compression: int = 0, palette: bytes = b"") -> bytes:
    """Return a BMP file with the usual header of 40 bytes, and `WIDTH` pixels a row."""
    start, colours = 54 + len(palette), len(palette) // 4
    file = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    sizes = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    return file + sizes + palette + pixels


def ycck(cmyk: bytes) -> bytes:
    """Return a CMYK JPEG that says in Adobe's segment that its channels are YCCK."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


# Made by libjpeg's `cjpeg -arithmetic`; neither Pillow nor OpenCV writes such files.
ARITHMETIC = base64.b85decode(
    "|JeWA07C!`2?`4e2n`Dg3l0tq4-+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu1+GCo>iT2Nq0QBqI;+W<oW4h{|z5fdgA6(&zLEj3"
    "S1Pft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z|H%Lm2mlNK6axVw00I#K0}%oL%m4}i5D*0c5D^9c+5ij#0RRFK0"
    "}%i}0RI4X(h=I%N%Wt}Uu0p=U5SBR#7u(-bda)s1B-n3Pw+22Cd1#AlUDehprQ6nnE%-"
)

_GREYS = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
_ROWS = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2BGR).tobytes()

ANIMATIONS: dict[str, bytes] = {
    "animated GIF": saved(COLOUR, "GIF", save_all=True, append_images=[OTHER]),
    "animated PNG": saved(COLOUR, "PNG", save_all=True, append_images=[OTHER]),
    "animated PNG with a still picture": saved(COLOUR, "PNG", save_all=True, default_image=True, append_images=[OTHER]),
    "animated WebP": saved(COLOUR, "WEBP", save_all=True, append_images=[OTHER]),
}

KINDS: dict[str, bytes] = {
    "JPEG": saved(COLOUR, "JPEG"),
    "JPEG, full colour resolution": saved(COLOUR, "JPEG", subsampling=0),
    "JPEG, grey": saved(GREY, "JPEG"),
    "JPEG, progressive": saved(COLOUR, "JPEG", progressive=True),
    "JPEG, restart markers": saved(COLOUR, "JPEG", restart_marker_blocks=1),
    "JPEG, arithmetic coding": ARITHMETIC,
    "JPEG, RGB": saved(COLOUR, "JPEG", keep_rgb=True),
    "JPEG, CMYK": saved(COLOUR.convert("CMYK"), "JPEG"),
    "JPEG, YCCK": ycck(saved(COLOUR.convert("CMYK"), "JPEG")),
    "JPEG, bytes after its end": saved(COLOUR, "JPEG") + b"a film of a phone\xff\xd8\xff\xda",
    "JPEG, two pictures (MPO)": saved(COLOUR, "MPO", save_all=True, append_images=[OTHER]),
    "PNG": saved(COLOUR, "PNG"),
    "PNG, interlaced": interlaced(),
    "PNG, 1 bit": saved(COLOUR.convert("1"), "PNG"),
    "PNG, grey": saved(GREY, "PNG"),
    "PNG, grey and alpha": saved(PIL.Image.merge("LA", [GREY, CLEAR.getchannel("A")]), "PNG"),
    "PNG, palette": saved(PALETTE, "PNG"),
    "PNG, palette of 2 bits": saved(COLOUR.quantize(4), "PNG", bits=2),
    "PNG, palette with a clear colour": saved(PALETTE, "PNG", transparency=0),
    "PNG, clear colour": saved(COLOUR, "PNG", transparency=tuple(PIXELS[3, 4].tolist())),
    "PNG, alpha": saved(CLEAR, "PNG"),
    "PNG, 16 bits grey": cv2.imencode(".png", DEEP[..., 0])[1].tobytes(),
    "PNG, 16 bits": cv2.imencode(".png", DEEP)[1].tobytes(),
    "PNG, 16 bits and alpha": cv2.imencode(".png", np.dstack([DEEP, DEEP[..., 0]]))[1].tobytes(),
    "WebP": saved(COLOUR, "WEBP"),
    "WebP, lossless": saved(COLOUR, "WEBP", lossless=True),
    "WebP, alpha": saved(CLEAR, "WEBP"),
    "WebP, lossless with alpha": saved(CLEAR, "WEBP", lossless=True),
    "BMP": saved(COLOUR, "BMP"),
    "BMP, 1 bit": saved(COLOUR.convert("1"), "BMP"),
    "BMP, grey": saved(GREY, "BMP"),
    "BMP, palette": saved(PALETTE, "BMP"),
    "BMP, 32 bits": saved(CLEAR, "BMP"),
    "BMP, first row first": bmp(_ROWS, height=-HEIGHT),
    "BMP, run lengths": bmp((bytes([WIDTH, 99]) + bytes(2)) * HEIGHT + b"\0\1", 8, compression=1, palette=_GREYS),
    "BMP, run lengths of 4 bits": bmp(
        (bytes([WIDTH, 0x12]) + bytes(2)) * HEIGHT + b"\0\1", 4, compression=2, palette=_GREYS[:64]
    ),
    "BMP, OS/2": b"BM" + struct.pack("<IHHIIHHHH", 26 + len(_ROWS), 0, 0, 26, 12, WIDTH, HEIGHT, 1, 24) + _ROWS,
}
