"""The embedded sample: four drawn datasets in the layouts of the public downloads, the same bytes every time."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.drawing import Pose, draw_back, draw_face, random_expression, random_person
from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.transforms import Image

File = tuple[str, bytes]

# The codes and names of the downloads themselves, written down once more: a sample that took them from the adapters
# would agree with any mistake in them.
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
NO_FACE_EVERY, SECOND_FACE_EVERY = 33, 19


@dataclass(frozen=True)
class Look:
    """How the cropped faces of a dataset look.

    `size` is the side in pixels, `oversize` how many times larger they are drawn, `pose` how much heads turn (0..1),
    `spread` how much expressions vary within a class, `noise` in grey levels, `blur` the largest sigma in pixels.
    """

    size: int
    oversize: int
    pose: float
    spread: float
    noise: float
    blur: float
    quality: int
    grey: bool = False


FER2013 = Look(size=48, oversize=4, pose=0.1, spread=0.13, noise=3, blur=0.4, quality=92, grey=True)
RAFDB = Look(size=100, oversize=3, pose=0.12, spread=0.22, noise=3, blur=0.8, quality=92)
AFFECTNET = Look(size=224, oversize=2, pose=0.3, spread=0.1, noise=3, blur=1.0, quality=88)


def draw(dataset: str, faces_per_class: int = 80, seed: int = 0) -> Iterator[File]:
    """Draw a dataset, file by file, as its public download lays it out.

    As in the real FER2013, some of its files are byte-identical: for every fiftieth PrivateTest face (at least one; 4
    of 203 at 80 faces a class) one Training face of the same class is replaced by a copy, and the last Training face
    of `fear` by that of `surprise`, a group with conflicting labels. In `wild` every 33rd picture shows no face (its
    person has turned away or left) and every 19th a second, smaller one.

    Args:
        dataset: `fer2013`, `rafdb`, `affectnet` or `wild`.
        faces_per_class: faces of each class over all splits, at least 3; for `wild` the number of people.
        seed: another seed gives other faces.

    Returns:
        Pairs of a path with forward slashes, relative to the download's root, and the file's content.

    Raises:
        PipelineError: if the dataset is unknown or `faces_per_class` is too small to fill every split.
    """
    artists: dict[str, Callable[[int, int], Iterator[File]]] = {
        "fer2013": _draw_fer2013,
        "rafdb": _draw_rafdb,
        "affectnet": _draw_affectnet,
        "wild": _draw_wild,
    }
    if dataset not in artists:
        raise PipelineError(f"there is no sample of {dataset!r}; the samples are {', '.join(artists)}")
    if faces_per_class < 3:
        raise PipelineError(f"faces_per_class is {faces_per_class}; at least 3 are needed, one for every split")
    return artists[dataset](faces_per_class, seed)


def _draw_fer2013(count: int, seed: int) -> Iterator[File]:
    train, validation, test = _shares(count)
    copies = max(1, round(COPIED_SHARE * test * len(LABELS)))
    for number, label in enumerate(LABELS):
        faces = [_draw_crop("fer2013", FER2013, label, index, seed) for index in range(count)]
        for copy in range(len(range(number, copies, len(LABELS)))):
            faces[copy] = faces[train + validation + copy]
        if label == "fear":
            faces[train - 1] = _draw_crop("fer2013", FER2013, "surprise", train - 1, seed)
        for index, face in enumerate(faces):
            usage = "Training" if index < train else "PublicTest" if index < train + validation else "PrivateTest"
            folder = "train" if usage == "Training" else "test"
            yield f"{folder}/{label}/{usage}_{10007 * (index + 1) % 99991}.jpg", face


def _draw_rafdb(count: int, seed: int) -> Iterator[File]:
    train = count - max(1, round(0.36 * count))
    tables = {"train": ["image,label"], "test": ["image,label"]}
    for label, folder in RAFDB_FOLDERS.items():
        for index in range(count):
            split = "train" if index < train else "test"
            name = f"{split}_{len(tables[split]):05d}_aligned.jpg"
            tables[split].append(f"{name},{folder}")
            yield f"DATASET/{split}/{folder}/{name}", _draw_crop("rafdb", RAFDB, label, index, seed)
    for split, rows in tables.items():
        yield f"{split}_labels.csv", _table(rows)


def _draw_affectnet(count: int, seed: int) -> Iterator[File]:
    train, validation, _ = _shares(count)
    for folder, label in enumerate(AFFECTNET_FOLDERS):
        for index in range(count):
            split = "train" if index < train else "val" if index < train + validation else "test"
            face = _draw_crop("affectnet", AFFECTNET, label, index, seed)
            yield f"AffectNet/{split}/{folder}/image{index * len(AFFECTNET_FOLDERS) + folder:07d}.jpg", face


def _draw_wild(people: int, seed: int) -> Iterator[File]:
    rows = ["set_id,gender,age,country"]
    for number in range(people):
        rng = _rng("wild", "person", number, seed)
        rows.append(f"{number},{rng.choice(['FEMALE', 'MALE'])},{rng.integers(18, 70)},{rng.choice(COUNTRIES)}")
        person, size = random_person(rng), (round(360 * (grow := rng.uniform(1, 4 / 3))), round(480 * grow))
        for place, (label, name) in enumerate(WILD_NAMES.items()):
            picture = number * len(WILD_NAMES) + place + 1
            rng = _rng("wild", label, number, seed)
            canvas = _draw_scene(size, rng)
            if picture % SECOND_FACE_EVERY == 0:
                _draw_passer_by(canvas, rng)
            if picture % NO_FACE_EVERY:
                draw_face(canvas, person, random_expression(label, rng, 0.1), _portrait_pose(canvas, rng))
            elif rng.random() < 0.5:
                draw_back(canvas, person, _portrait_pose(canvas, rng))
            yield f"images/{number}/{name}.jpg", _develop(canvas, size, 2.0, 0.8, 85, rng)
    yield "emotions.csv", _table(rows)


def _draw_crop(dataset: str, look: Look, label: str, index: int, seed: int) -> bytes:
    """Draw one cropped face of a stranger."""
    rng = _rng(dataset, label, index, seed)
    side = look.size * look.oversize
    canvas = _draw_backdrop(side, rng)
    roll, yaw, pitch, shear = rng.normal(0, look.pose, 4) * (7, 0.4, 0.3, 0.3)
    shift_x, shift_y = rng.normal(0, 0.03 * look.pose, 2)
    pose = Pose(
        centre=(side * (0.5 + shift_x), side * (0.49 + shift_y)),
        scale=side / 2.75 * rng.normal(1, 0.06 * look.pose),
        roll=roll,
        yaw=yaw,
        pitch=pitch,
        shear=shear,
        light=(rng.uniform(-1, 1), rng.uniform(-1, 0.3)),
    )
    draw_face(canvas, random_person(rng), random_expression(label, rng, look.spread), pose)
    return _develop(canvas, (look.size, look.size), look.noise, look.blur, look.quality, rng, look.grey)


def _draw_backdrop(side: int, rng: np.random.Generator) -> Image:
    """Return what a close crop shows behind a head: a few blurred patches."""
    patches = rng.uniform(20, 235, (3, 3, 3)) * 0.4 + rng.uniform(20, 235, 3) * 0.6
    return cv2.resize(patches.astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _draw_scene(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """Return a room, out of focus, at twice the size (width, height): a wall, a floor, shelves, frames and a lamp."""
    width, height = size[0] // 3, size[1] // 3  # enlarged at the end, which blurs it
    wall = np.array(_paint(rng, 90, 225)) * np.linspace(0.8, 1.1, 8)[:, None, None] * np.linspace(0.9, 1.05, 6)[:, None]
    scene = cv2.resize(np.clip(wall, 0, 255).astype(np.uint8), (width, height)).astype(np.uint8)
    cv2.rectangle(scene, (0, round(height * rng.uniform(0.75, 0.9))), (width, height), _paint(rng, 60, 140), -1)
    for _ in range(rng.integers(2, 6)):
        left, top = round(rng.uniform(-0.1, 0.9) * width), round(rng.uniform(0, 0.7) * height)
        right, bottom = left + round(rng.uniform(0.1, 0.4) * width), top + round(rng.uniform(0.1, 0.45) * height)
        cv2.rectangle(scene, (left, top), (right, bottom), _paint(rng, 40, 230), -1)
        cv2.rectangle(scene, (left, top), (right, bottom), _paint(rng, 30, 120), 2)
        for y in range(top, bottom, max(8, (bottom - top) // int(rng.integers(2, 5)))):
            cv2.line(scene, (left, y), (right, y), _paint(rng, 30, 200), 1)
    if rng.random() < 0.4:
        lamp = (round(rng.uniform(0.05, 0.95) * width), round(rng.uniform(0.05, 0.3) * height))
        cv2.circle(scene, lamp, round(0.07 * width), (250, 240, 205), -1, cv2.LINE_AA)
    return cv2.resize(scene, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _draw_passer_by(canvas: Image, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    side = rng.choice([0.13, 0.87])
    pose = Pose((width * side, height * rng.uniform(0.25, 0.4)), width * 0.075, roll=rng.normal(0, 4))
    draw_face(canvas, random_person(rng), random_expression("neutral", rng), pose)


def _portrait_pose(canvas: Image, rng: np.random.Generator) -> Pose:
    height, width = canvas.shape[:2]
    return Pose(
        centre=(width * rng.uniform(0.42, 0.58), height * rng.uniform(0.36, 0.46)),
        scale=width * rng.uniform(0.2, 0.26),
        roll=rng.normal(0, 4),
        yaw=rng.normal(0, 0.25),
        pitch=rng.normal(0, 0.2),
        light=(rng.uniform(-0.8, 0.8), rng.uniform(-1, 0)),
    )


def _develop(
    canvas: Image,
    size: tuple[int, int],
    noise: float,
    blur: float,
    quality: int,
    rng: np.random.Generator,
    grey: bool = False,
) -> bytes:
    """Shrink a canvas to (width, height), add exposure, blur and noise, and encode it as JPEG."""
    picture = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)
    if (sigma := rng.uniform(0, blur)) > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    exposed = np.clip((np.arange(256) - 128) * rng.uniform(0.75, 1.1) + rng.normal(128, 12), 0, 255)
    picture = cv2.LUT(picture, exposed.astype(np.uint8))
    # Evenly distributed noise, of deviation 74, looks like normal noise and is drawn several times faster.
    grain = np.frombuffer(rng.bytes(size[0] * size[1]), np.int8).reshape(picture.shape[:2])
    grain = grain * np.float32(noise * rng.uniform(0.3, 1) / 74)
    picture = cv2.add(picture, grain if grey else cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _shares(count: int) -> tuple[int, int, int]:
    """Return how many of a class's faces are for training, validation and test: about 54, 10 and 36 %."""
    validation, test = max(1, round(0.1 * count)), max(1, round(0.36 * count))
    return count - validation - test, validation, test


def _rng(dataset: str, label: str, index: int, seed: int) -> np.random.Generator:
    # `hash` of a string differs from process to process; a CRC does not.
    return np.random.default_rng([zlib.crc32(f"{dataset}/{label}/{index}".encode()), seed])


def _paint(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    red, green, blue = np.clip(rng.uniform(low, high) + rng.normal(0, 20, 3), 0, 255)
    return red, green, blue


def _table(rows: list[str]) -> bytes:
    return ("\n".join(rows) + "\n").encode()
