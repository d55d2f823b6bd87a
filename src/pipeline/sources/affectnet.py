"""AffectNet, cropped (Mollahosseini, Hasani and Mahoor 2019): colour faces in folders numbered 0 to 7.

`AffectNet/{train,val,test}/{0..7}/*.jpg`. The downloads number the expressions in different ways, so the meaning is a
choice by name in `params.yaml` (`datasets.affectnet.label_map`).
"""

import re

from pipeline.sources.picture import NativeSplit, Place, Source

ORDERS = {
    "ferplus-order": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"),
    "official": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "alphabetical": ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
}
SPLITS: dict[str, NativeSplit] = {"train": "train", "val": "validation", "test": "test"}
FILE = re.compile(r"(?:^|/)(?P<split>train|val|test)/(?P<code>[^/]+)/[^/]+$")


def _locate(path: str) -> Place | None:
    match = FILE.search(path)
    return Place(match["code"], SPLITS[match["split"]]) if match else None


SOURCE = Source(
    name="affectnet",
    handle="thienkhonghoc/affectnet",
    layout="AffectNet/{train,val,test}/{0..7}/<name>.jpg",
    cropped=True,
    label_maps={name: {str(code): label for code, label in enumerate(order)} for name, order in ORDERS.items()},
    locate=_locate,
    train_counts={
        "neutral": 74_874,
        "happy": 134_415,
        "sad": 25_459,
        "surprise": 14_090,
        "fear": 6_378,
        "disgust": 3_803,
        "angry": 24_882,
        "contempt": 3_750,
    },
)
