"""How well faces can be seen: their brightness and sharpness."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import pandas as pd

from pipeline.transforms import ImageError, decode, resize

SHARPNESS_SIDE = 48  # the same for all, so that faces of all sizes compare


def look_at(faces: pd.DataFrame) -> pd.DataFrame:
    """Put `brightness` and `sharpness` in the place of a table's images; NaN where one can not be decoded.

    Brightness is the mean grey value, 0..255; sharpness the variance of the Laplacian at 48 pixels (Pech-Pacheco et al.
    2000), 0 where a face is all of one colour.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pd.DataFrame(pool.map(_look, faces.image), columns=["brightness", "sharpness"], index=faces.index)
    return faces.drop(columns="image").assign(**looks)


def _look(image: object) -> tuple[float, float]:
    if not isinstance(image, bytes):
        return math.nan, math.nan
    try:
        grey = cv2.cvtColor(resize(decode(image), SHARPNESS_SIDE), cv2.COLOR_RGB2GRAY)
    except ImageError:
        return math.nan, math.nan
    return float(grey.mean()), float(cv2.Laplacian(grey, cv2.CV_64F).var())
