"""A small table of clips, as the stage `clips` would leave it, whose labels can be told from the order of frames."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.datasets.tables import CLIP_SCHEMA
from pipeline.labels import LABELS

CLIP_RECIPE = {  # of a network that learns from such clips
    "data": ["clips"],
    "backbone": "resnet18",
    "backbone_args": {"channels": [8, 16, 16, 32], "layers": [1, 1, 1, 1]},
    "pretrained": False,
    "image_size": 32,
    "recurrent": {"width": 32, "frames": 3},
    "promote": False,
}


def write_clips(folder: Path, counts: dict[str, int] | None = None, frames: int = 4, side: int = 32) -> Path:
    """Write clips of grey frames, some of each label and split; the brightness goes from the middle to the label's."""
    rows, random = [], np.random.default_rng(0)
    for split, count in (counts or {"train": 3, "validation": 1, "test": 1}).items():
        for label_id, label in enumerate(LABELS):
            for number in range(count):
                levels = np.linspace(125, 20 + 35 * label_id, frames)
                person = f"{split}-{number}"
                images = [random.normal(level, 4, (side, side, 1)).clip(0, 255).astype(np.uint8) for level in levels]
                encoded = [cv2.imencode(".png", np.repeat(image, 3, axis=2))[1].tobytes() for image in images]
                clip = {"clip_id": f"{person}-{label}", "person": person, "label": label, "label_id": label_id}
                rows.append({**clip, "split": split, "frames": encoded})
    folder.mkdir(parents=True, exist_ok=True)
    schema = CLIP_SCHEMA.with_metadata({"drawn": "True", "detector": "None"})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "clips.parquet")
    return folder
