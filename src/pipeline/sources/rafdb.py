"""RAF-DB, basic emotions (Li, Deng and Du 2017): 100x100 aligned colour faces in numbered folders.

`DATASET/{train,test}/{1..7}/*_aligned.jpg`. The label tables at the root say the same as the folders and are not read.
"""

import re

from pipeline.sources.picture import Place, Source

CODES = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "angry", "7": "neutral"}
FILE = re.compile(r"(?:^|/)(?P<split>train|test)/(?P<code>[^/]+)/[^/]+$")


def _locate(path: str) -> Place | None:
    match = FILE.search(path)
    return Place(match["code"], "train" if match["split"] == "train" else "test") if match else None


SOURCE = Source(
    name="rafdb",
    handle="shuvoalok/raf-db-dataset",
    layout="DATASET/{train,test}/{1..7}/<name>_aligned.jpg",
    cropped=True,
    label_maps={"codes": CODES},
    locate=_locate,
    train_counts={
        "surprise": 1290,
        "fear": 281,
        "disgust": 717,
        "happy": 4772,
        "sad": 1982,
        "angry": 705,
        "neutral": 2524,
    },
)
