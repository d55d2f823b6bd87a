"""What Schemathesis sends where the description says bytes: files that can be answered, and any others."""

import cv2
import schemathesis
from films import film
from hypothesis import strategies
from toys import encoded, picture

from pipeline.sample import draw
from pipeline.vision.transforms import decode

_portrait = next(file for path, file in draw("wild", 3) if path.endswith(".jpg"))
_person = cv2.resize(decode(_portrait), (160, 160))
FILES = [_portrait, encoded(".png", picture()), encoded(".webp"), film([_person] * 8), film([_person] * 8, ".webm")]

schemathesis.openapi.format("binary", strategies.sampled_from(FILES) | strategies.binary(max_size=300))
