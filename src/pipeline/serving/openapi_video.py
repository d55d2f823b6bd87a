"""What the endpoint promises for videos, as parts of its OpenAPI document."""

from pipeline.inference.screening import LEVELS, Rule, screen
from pipeline.labels import LABELS

SHARE = {"type": "number", "minimum": 0, "maximum": 1}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "number", "description": "seconds from the first frame on"}
EMOTION = {"enum": list(LABELS)}
SHARES = {"type": ["object", "null"], "properties": dict.fromkeys(LABELS, SHARE)}
BOX = {"type": "array", "items": {"type": "integer"}, "description": "x, y, width, height in pixels"}

SUMMARY = {
    "faces": {**COUNT, "description": "how many were read; without any, vote, mean and distribution are null"},
    "vote": {
        "type": ["object", "null"],
        "properties": {"emotion": EMOTION, "share": SHARE},
        "description": "the emotion of most faces, smoothed over time",
    },
    "mean": {
        "type": ["object", "null"],
        "properties": {"emotion": EMOTION, "confidence": SHARE, "probabilities": SHARES},
        "description": "the mean of the probabilities as they were, and what is likeliest by it",
    },
    "distribution": {**SHARES, "description": "shares of the emotions, smoothed over time"},
    "screening": {
        "type": "object",
        "properties": {
            "level": {"enum": [*LEVELS, None], "description": "null where there are too few faces"},
            "negative_share": {"type": ["number", "null"]},
            "reason": {"type": "string"},
            "notice": {"type": "string"},
        },
        "description": "a coarse level by the share of negative expressions; no diagnosis",
    },
}
SEEN = {"time": TIME, "box": BOX, "score": SHARE, "emotion": EMOTION, "confidence": SHARE}
TRACK = {
    **{"track": COUNT, "first": TIME, "last": TIME},
    **SUMMARY,
    "timeline": {
        "type": "array",
        "items": {"type": "object", "properties": SEEN},
        "description": "smoothed over time",
    },
}
VIDEO_ANSWER = {
    "type": "object",
    "properties": {
        "frames": {
            "type": "object",
            "properties": {
                "sampled": {**COUNT, "description": "evenly in time"},
                "with_face": COUNT,
                "unreadable": {**COUNT, "description": "of the sampled ones; passed over"},
                "share_with_face": {**SHARE, "description": "of those that could be read"},
            },
        },
        "seconds": {"type": "number", "description": "from the first to the last sampled frame"},
        "width": COUNT,
        "height": COUNT,
        "overall": {"type": "object", "properties": SUMMARY, "description": "of all people together"},
        "tracks": {
            "type": "array",
            "items": {"type": "object", "properties": TRACK},
            "description": "one a person, as far as a face could be followed",
        },
        "note": {"type": "string", "description": "says so where no face was found"},
        "model": {"type": "object", "description": "name, version, and a warning where it is not for real use"},
    },
}

_PROBABILITIES = dict(zip(LABELS, (0.02, 0.01, 0.01, 0.83, 0.1, 0.01, 0.02), strict=True))
_SUMMARY = {
    "faces": 6,
    "vote": {"emotion": "happy", "share": 1.0},
    "mean": {"emotion": "happy", "confidence": 0.83, "probabilities": _PROBABILITIES},
    "distribution": {label: float(label == "happy") for label in LABELS},
    "screening": screen(["happy"] * 6, 6, 6, Rule()),
}
EXAMPLE = {
    "frames": {"sampled": 6, "with_face": 6, "unreadable": 0, "share_with_face": 1.0},
    "seconds": 2.52,
    "width": 640,
    "height": 480,
    "overall": _SUMMARY,
    "tracks": [
        {
            **{"track": 1, "first": 0.0, "last": 2.52},
            **_SUMMARY,
            "timeline": [
                {"time": 0.0, "box": [212, 96, 180, 180], "score": 0.97, "emotion": "happy", "confidence": 0.81}
            ],
        }
    ],
    "model": {"name": "expression-classifier", "version": "3"},
}
