"""How well the faces of a table can be seen."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from pipeline.inference.appearance import measure
from pipeline.vision.transforms import ImageError, decode


def look_at(faces: pd.DataFrame) -> pd.DataFrame:
    """Put `brightness` and `sharpness` in the place of a table's images; NaN where one can not be decoded."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pd.DataFrame(pool.map(_look, faces.image), columns=["brightness", "sharpness"], index=faces.index)
    return faces.drop(columns="image").assign(**looks)


def _look(image: object) -> tuple[float, float]:
    if not isinstance(image, bytes):
        return math.nan, math.nan
    try:
        return measure(decode(image))
    except ImageError:
        return math.nan, math.nan
