"""Small stand-ins for what takes long to make: used by several test files."""

import json
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from once import made_once

from pipeline.files import sha256_of, write_json
from pipeline.inference.variants import offers_file, variant_file
from pipeline.labels import LABELS
from pipeline.packaging.export import export_onnx
from pipeline.vision.transforms import Image

SIZE = 48


class ToyNetwork(torch.nn.Module):
    """Uint8 faces (batch, size, size, 3) to logits (batch, 7), in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.head = torch.nn.Sequential(torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 7))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.conclude(self.places(faces))

    def places(self, faces: torch.Tensor) -> torch.Tensor:
        return self.body(faces.permute(0, 3, 1, 2).float() / 255)

    def conclude(self, places: torch.Tensor) -> torch.Tensor:
        return self.head(places.mean((2, 3)))


def toy_network(image_size: int = SIZE) -> torch.nn.Module:
    """Return an untrained network whose answers differ from face to face."""
    network = ToyNetwork()
    with torch.no_grad():
        for _ in range(20):  # fills the statistics of the batch norms
            network(torch.randint(0, 256, (16, image_size, image_size, 3), dtype=torch.uint8))
        network.head[-1].weight.mul_(5)
    return network.eval()


def toy_facts(**changes: Any) -> dict[str, Any]:
    """Return the facts of a toy model."""
    facts = {"labels": list(LABELS), "image_size": SIZE, "detector": "haar", "version": "v0", "datasets": ["fer2013"]}
    return {**facts, **changes}


@cache
def _exported(image_size: int) -> bytes:
    def export(folder: Path) -> None:
        export_onnx(toy_network(image_size), folder / "toy.onnx", image_size=image_size, facts={})

    return (made_once(f"toy_{image_size}", export) / "toy.onnx").read_bytes()


def toy_model(file: Path, side: int = SIZE, **facts: Any) -> Path:
    """Write an exported toy network with its facts to `file`; the slow export is done once for each size of a face."""
    facts = toy_facts(**{"image_size": side, **facts})
    model = onnx.load_from_string(_exported(side))
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString())
    return file


def toy_offer(model: Path, variant: str, offered: bool = True) -> Path:
    """Offer a variant of a toy model, or say that it is not good enough; return its file."""
    file = toy_model(variant_file(model, variant), variant=variant)
    offer = {"offered": offered, "reason": "" if offered else "macro-F1 falls", "sha256": sha256_of(file)}
    write_json(offers_file(model), {"model_sha256": sha256_of(model), "variants": {variant: offer}})
    if not offered:
        file.unlink()
    return file


def picture(height: int = 120, width: int = 100, seed: int = 0) -> Image:
    """Return a smooth random picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 5).astype(np.uint8)


def encoded(extension: str, image: Image | None = None) -> bytes:
    """Return a picture as a file of the given kind."""
    return cv2.imencode(extension, picture() if image is None else image)[1].tobytes()


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG that announces many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
