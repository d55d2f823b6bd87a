"""Faces a second that are read, changed at random and put into batches, beside torchvision's ImageFolder.

Both sides get the same encoded faces, the drawn sample's again and again under other names, the same batch size and
the same number of loader processes, and give uint8 batches. Both flip half of the faces, and turn, jitter and crop
each within the same bounds: ours with albumentations, as a recipe names it, the other with PIL and torchvision's
transforms. "Kept" faces lie decoded in memory, as they do where all of them fit; the others are read and decoded each
time, as ImageFolder does it always. The raw limit is cv2.imdecode alone, in as many processes.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
from harmonizing import write_raw
from rounds import ask_for_rounds, rate, ratio, take_turns
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from pipeline.params import FacesParams
from pipeline.recipes import Recipe
from pipeline.sources import SOURCES
from pipeline.stages.harmonize import harmonize
from pipeline.training.data import FaceData

CORES = os.cpu_count() or 1
BATCH = 64
AUGMENT: list[dict[str, dict[str, Any]]] = [
    {"HorizontalFlip": {"p": 0.5}},
    {"Rotate": {"limit": 15, "p": 1.0}},
    {"ColorJitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05, "p": 1.0}},
    {"RandomResizedCrop": {"scale": [0.8, 1.0], "p": 1.0}},
]


class Case(NamedTuple):
    """So many faces of a dataset, shown at a size, kept in memory or not."""

    name: str
    dataset: str
    faces: int
    image_size: int
    kept: bool


CASES = (
    Case("48 px grey at 64 px, kept", "fer2013", 10_000, 64, kept=True),
    Case("48 px grey at 64 px", "fer2013", 10_000, 64, kept=False),
    Case("224 px colour at 224 px", "affectnet", 3000, 224, kept=False),
)


def write_tables(dataset: str, count: int, folder: Path) -> pd.DataFrame:
    """Write the faces and splits that training reads, and the same training faces as ImageFolder reads them.

    Returns:
        the training faces, `image` among them.
    """
    raw, faces = write_raw(dataset, count, folder / "raw"), folder / "faces" / f"{dataset}.parquet"
    harmonize(dataset, raw, faces, SOURCES[dataset].labels(), FacesParams())
    table = pd.read_parquet(faces, columns=["face_id", "dataset", "label", "image"])
    table["split"] = np.where(np.arange(len(table)) < BATCH, "validation", "train")
    table.drop(columns="image").assign(leaked=False).to_parquet(folder / "splits.parquet")
    train = table[table.split == "train"]
    for face in train.itertuples():
        image = folder / "folders" / face.label / f"{face.face_id}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(face.image)
    return train


def our_loader(case: Case, folder: Path, workers: int) -> DataLoader[Any]:
    """Return the loader that training uses."""
    settings = {"backbone": "convnext_atto", "image_size": case.image_size, "batch_size": BATCH, "augment": AUGMENT}
    recipe = Recipe.model_validate({"data": [case.dataset], **settings})
    with patch("pipeline.training.loading.MOST_BYTES", 1 << 40 if case.kept else 0):
        data = FaceData(recipe, folder / "faces", folder / "splits.parquet", seed=0, workers=workers)
    return data.train_dataloader()


def their_loader(case: Case, folder: Path, workers: int) -> DataLoader[Any]:
    """Return a loader as torchvision's manual builds it."""
    steps = [
        transforms.RandomHorizontalFlip(0.5),
        transforms.RandomRotation(15, interpolation=transforms.InterpolationMode.BILINEAR),
        transforms.ColorJitter(0.2, 0.2, 0.2, 0.05),
        transforms.RandomResizedCrop(case.image_size, scale=(0.8, 1.0)),
        transforms.PILToTensor(),
    ]
    images = ImageFolder(folder / "folders", transforms.Compose(steps))
    return DataLoader(images, BATCH, shuffle=True, num_workers=workers)


def decode_all(images: Sequence[bytes]) -> None:
    """Decode images, and do nothing else."""
    for image in images:
        cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)


def compare(case: Case, workers: int, rounds: int) -> None:
    """Print a case's line."""
    processes = max(workers, 1)
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(processes) as pool:
        folder = Path(name)
        images = write_tables(case.dataset, case.faces, folder).image.tolist()
        shares = [images[share::processes] for share in range(processes)]
        ours, theirs = our_loader(case, folder, workers), their_loader(case, folder, workers)
        contenders: dict[str, Callable[[], Any]] = {
            "limit": lambda: list(pool.map(decode_all, shares)),
            "theirs": lambda: sum(len(labels) for _, labels in theirs),
            "ours": lambda: sum(len(labels) for _, labels in ours),
        }
        times = take_turns(contenders, rounds)
    rates = "".join(f"{rate(len(images), times[name]):>13}" for name in contenders)
    print(f"{case.name:<27}{workers:>9}{rates}   {ratio(times['theirs'], times['ours'])}", flush=True)


def main() -> None:
    """Print a table, a case a line."""
    rounds = ask_for_rounds(__doc__)
    print(
        f"Faces a second in batches of {BATCH}, medians of {rounds} rounds. The ratio is that of ours to ImageFolder:"
    )
    print("its median, lowest and highest.\n")
    columns = "".join(f"{name:>13}" for name in ("raw limit", "ImageFolder", "ours"))
    print(f"{'':<27}{'processes':>9}{columns}   ratio")
    for case, workers in product(CASES, (0, CORES)):
        compare(case, workers, rounds)


if __name__ == "__main__":
    main()
