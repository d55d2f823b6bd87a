"""What a face shows: how far its muscles have moved."""

from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Expression:
    """Muscle movements after Ekman and Friesen's facial action coding system; 0 is at rest, 1 a full movement.

    The action units: brows up at their inner and outer end (1, 2; below 0 the outer end sinks), drawn together (4),
    upper lids raised (5; below 0 they droop), lower lids tightened (7), nose wrinkled (9), upper lip raised (10),
    corners up or, below 0, down (12, 15), one corner up (14), lips stretched (20), pressed (24), parted teeth (25),
    jaw dropped (26).
    """

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_knit: float = 0.0
    lid_upper: float = 0.0
    lid_lower: float = 0.0
    nose_wrinkle: float = 0.0
    upper_lip: float = 0.0
    corners: float = 0.0
    smirk: float = 0.0
    stretch: float = 0.0
    press: float = 0.0
    teeth: float = 0.0
    jaw: float = 0.0

    def blend(self, other: "Expression", share: float) -> "Expression":
        """Go `share` of the way to another expression: 0 is this one, 1 the other, above 1 exaggerates it."""
        return Expression(
            *((1 - share) * own + share * its for own, its in zip(astuple(self), astuple(other), strict=True))
        )


EXPRESSIONS = {
    "angry": Expression(-0.5, -0.1, 1.0, 0.3, 0.6, 0.25, 0.1, -0.3, 0, -0.1, 0.8, 0.0, 0.0),
    "contempt": Expression(0.0, 0.1, 0.1, -0.15, 0.25, 0.0, 0.1, 0.0, 1.0, 0.0, 0.4, 0.0, 0.0),
    "disgust": Expression(-0.35, -0.2, 0.5, -0.35, 0.7, 1.0, 1.0, -0.4, 0, -0.1, 0.0, 0.3, 0.1),
    "fear": Expression(0.9, 0.3, 0.5, 0.8, 0.1, 0.0, 0.2, -0.3, 0, 0.9, 0.0, 0.6, 0.35),
    "happy": Expression(0.0, 0.05, 0.0, -0.1, 0.5, 0.0, 0.2, 1.0, 0, 0.45, 0.0, 0.7, 0.25),
    "neutral": Expression(),
    "sad": Expression(0.85, -0.45, 0.5, -0.4, 0.1, 0.0, 0.0, -0.9, 0, -0.15, 0.2, 0.0, 0.0),
    "surprise": Expression(0.9, 0.9, 0.0, 0.8, 0.0, 0.0, 0.1, 0.0, 0, -0.5, 0.0, 0.15, 1.0),
}


def random_expression(
    label: str, rng: np.random.Generator, spread: float = 0.12, strength: tuple[float, float] = (0.75, 1.15)
) -> Expression:
    """Draw an expression of a class (a key of `EXPRESSIONS`), weak or strong and never quite the same.

    Args:
        label: which class.
        rng: the source of chance.
        spread: standard deviation of every movement; the larger, the more the classes run into each other.
        strength: the weakest and the strongest expression; 1 is that of `EXPRESSIONS`.
    """
    mean = EXPRESSIONS["neutral"].blend(EXPRESSIONS[label], rng.uniform(*strength))
    return Expression(*rng.normal(astuple(mean), spread).tolist())
