"""Who is drawn: what stays the same when a face changes its expression."""

from dataclasses import dataclass

import numpy as np

from pipeline.sample.colour import Colour, to_colour

SKIN: tuple[Colour, ...] = ((244, 208, 184), (232, 190, 160), (214, 166, 132), (186, 134, 100), (150, 104, 78))
HAIR: tuple[Colour, ...] = ((34, 28, 26), (58, 40, 30), (96, 64, 40), (150, 112, 66), (128, 124, 122))
IRIS: tuple[Colour, ...] = ((66, 44, 30), (92, 64, 38), (72, 96, 112), (78, 98, 66))
HAIRSTYLES = {"bald": 0.08, "cropped": 0.27, "parted": 0.2, "fringe": 0.15, "long": 0.2, "bun": 0.1}  # how common


@dataclass(frozen=True)
class Person:
    """An identity; `hairstyle` is a key of `HAIRSTYLES`, `wrinkles` and `beard` lie in 0..1.

    `brow_height` is in face units around 0, the other numbers are factors around 1.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    hairstyle: str
    jaw: float
    chin: float
    eye_size: float
    eye_gap: float
    brow_width: float
    brow_height: float
    nose_width: float
    nose_length: float
    lip_fullness: float
    mouth_size: float
    wrinkles: float
    beard: float
    glasses: bool


def random_person(rng: np.random.Generator) -> Person:
    """Make up an identity."""
    skin = np.clip(rng.choice(SKIN) * rng.uniform(0.92, 1.05) + rng.normal(0, 4, 3), 40, 250)
    return Person(
        skin=to_colour(skin),
        hair=to_colour(rng.choice(HAIR) * rng.uniform(0.8, 1.2)),
        iris=IRIS[rng.integers(len(IRIS))],
        clothes=to_colour(rng.uniform(30, 220, 3)),
        hairstyle=str(rng.choice(list(HAIRSTYLES), p=list(HAIRSTYLES.values()))),
        jaw=rng.uniform(0.72, 1.0),
        chin=rng.uniform(0.94, 1.06),
        eye_size=rng.uniform(0.9, 1.12),
        eye_gap=rng.uniform(0.93, 1.07),
        brow_width=rng.uniform(0.7, 1.4),
        brow_height=rng.normal(0, 0.03),
        nose_width=rng.uniform(0.85, 1.2),
        nose_length=rng.uniform(0.92, 1.08),
        lip_fullness=rng.uniform(0.7, 1.35),
        mouth_size=rng.uniform(0.9, 1.1),
        wrinkles=rng.uniform(0, 1) ** 2,
        beard=float(rng.uniform(0.3, 1) if rng.random() < 0.18 else 0),
        glasses=bool(rng.random() < 0.1),
    )
