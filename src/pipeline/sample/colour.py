"""Colours, RGB in 0..255, and how they are mixed."""

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]


def to_colour(values: NDArray[np.float64]) -> Colour:
    """Round and clip three values to a colour."""
    red, green, blue = (float(value) for value in np.clip(np.round(values), 0, 255))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Make a colour darker (below 1) or lighter."""
    return to_colour(np.array(colour) * factor)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Go `share` (0..1) of the way from the first colour to the second."""
    return to_colour((1 - share) * np.array(first) + share * np.array(second))
