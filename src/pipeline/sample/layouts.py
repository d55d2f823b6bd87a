"""How each public download lays out its files, with drawn faces in them.

The codes and names of the downloads are written down here once more: a sample that took them from the adapters would
agree with any mistake in them.
"""

import zlib
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.labels import LABELS
from pipeline.sample.camera import Camera
from pipeline.sample.person import random_person
from pipeline.sample.scene import Framing, Look, draw_crop, draw_portrait

File = tuple[str, bytes]

LOOKS = {
    "fer2013": Look(48, 3, 0.1, Framing(0.8, 0.49, 0.03, 0.05, 4), spread=0.08, camera=Camera(3, 0.4, 92, grey=True)),
    "rafdb": Look(100, 2, 0.12, Framing(0.76, 0.49, 0.025, 0.04, 2.5), spread=0.1, camera=Camera(3, 0.8, 92)),
    "affectnet": Look(224, 2, 0.08, Framing(0.7, 0.43, 0.055, 0.07, 3), 0.04, Camera(3, 1.0, 88), strength=(1.25, 1.5)),
}
RAFDB_FOLDERS = {"surprise": 1, "fear": 2, "disgust": 3, "happy": 4, "sad": 5, "angry": 6, "neutral": 7}
AFFECTNET_FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
WILD_NAMES = {
    "angry": "Anger",
    "contempt": "Contempt",
    "disgust": "Disgust",
    "fear": "Fear",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprise": "Surprised",
}
COUNTRIES = ("BR", "DE", "EG", "IN", "JP", "KE", "MX", "PT", "US")

COPIED_SHARE = 0.02
PEOPLE = 0.25  # in wild, for each face of a class: their portraits take longer than a crop to draw and to search
NO_FACE_EVERY, SECOND_FACE_EVERY = 33, 19


def _draw_fer2013(count: int, seed: int) -> Iterator[File]:
    usages = _splits(count, ("Training", "PublicTest", "PrivateTest"))
    private, last_training = usages.index("PrivateTest"), usages.count("Training") - 1
    copies = max(1, round(COPIED_SHARE * usages.count("PrivateTest") * len(LABELS)))
    for number, label in enumerate(LABELS):
        faces = [_draw_crop("fer2013", label, index, seed) for index in range(count)]
        own = len(range(number, copies, len(LABELS)))  # the copies are dealt out to the classes in turn
        faces[:own] = faces[private : private + own]
        if label == "fear":
            faces[last_training] = _draw_crop("fer2013", "surprise", last_training, seed)
        for index, (usage, face) in enumerate(zip(usages, faces, strict=True), 1):
            folder = "train" if usage == "Training" else "test"
            yield f"{folder}/{label}/{usage}_{10007 * index % 99991}.jpg", face


def _draw_rafdb(count: int, seed: int) -> Iterator[File]:
    tables = {"train": ["image,label"], "test": ["image,label"]}
    for label, folder in RAFDB_FOLDERS.items():
        for index, split in enumerate(_splits(count, ("train", "train", "test"))):
            name = f"{split}_{len(tables[split]):05d}_aligned.jpg"
            tables[split].append(f"{name},{folder}")
            yield f"DATASET/{split}/{folder}/{name}", _draw_crop("rafdb", label, index, seed)
    for split, rows in tables.items():
        yield f"{split}_labels.csv", _table(rows)


def _draw_affectnet(count: int, seed: int) -> Iterator[File]:
    for folder, label in enumerate(AFFECTNET_FOLDERS):
        for index, split in enumerate(_splits(count, ("train", "val", "test"))):
            name = f"image{index * len(AFFECTNET_FOLDERS) + folder:07d}.jpg"
            yield f"AffectNet/{split}/{folder}/{name}", _draw_crop("affectnet", label, index, seed)


def _draw_wild(count: int, seed: int) -> Iterator[File]:
    rows = ["set_id,gender,age,country"]
    for number in range(max(3, round(PEOPLE * count))):
        rng = _rng("wild", "person", number, seed)
        rows.append(f"{number},{rng.choice(['FEMALE', 'MALE'])},{rng.integers(18, 70)},{rng.choice(COUNTRIES)}")
        person, grow = random_person(rng), rng.uniform(1, 4 / 3)
        size = (round(204 * grow), round(272 * grow))
        for picture, (label, name) in enumerate(WILD_NAMES.items(), number * len(WILD_NAMES) + 1):
            shown = label if picture % NO_FACE_EVERY else None
            crowded = picture % SECOND_FACE_EVERY == 0
            portrait = draw_portrait(person, shown, size, crowded, _rng("wild", label, number, seed))
            yield f"images/{number}/{name}.jpg", portrait
    yield "emotions.csv", _table(rows)


LAYOUTS: dict[str, Callable[[int, int], Iterator[File]]] = {
    "fer2013": _draw_fer2013,
    "rafdb": _draw_rafdb,
    "affectnet": _draw_affectnet,
    "wild": _draw_wild,
}


def _draw_crop(dataset: str, label: str, index: int, seed: int) -> bytes:
    return draw_crop(label, LOOKS[dataset], _rng(dataset, label, index, seed))


def _splits(count: int, names: tuple[str, str, str]) -> list[str]:
    """Return the split of each face of a class: about 72 % for training, 8 for validation and 20 for test."""
    validation, test = max(1, round(0.08 * count)), max(1, round(0.2 * count))
    training = count - validation - test
    return [names[0]] * training + [names[1]] * validation + [names[2]] * test


def _rng(dataset: str, label: str, index: int, seed: int) -> np.random.Generator:
    # `hash` of a string differs from process to process; a CRC does not.
    return np.random.default_rng([zlib.crc32(f"{dataset}/{label}/{index}".encode()), seed])


def _table(rows: list[str]) -> bytes:
    return ("\n".join(rows) + "\n").encode()
