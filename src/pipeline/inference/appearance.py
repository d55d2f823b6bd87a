"""How a face looks, in two numbers that are measured alike in the data and in the service."""

import cv2

from pipeline.vision.transforms import Image, resize

SIDE = 48  # pixels, the same for all, so that faces of all sizes compare


def measure(face: Image) -> tuple[float, float]:
    """Return the brightness and the sharpness of an RGB uint8 face (height, width, 3).

    Brightness is the mean grey value, 0..255. Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000,
    "Diatom autofocusing in brightfield microscopy", ICPR), 0 where the face is all of one colour.
    """
    grey = cv2.cvtColor(resize(face, SIDE), cv2.COLOR_RGB2GRAY)
    return float(grey.mean()), float(cv2.Laplacian(grey, cv2.CV_64F).var())
