"""Draw the clips that recurrent recipes learn from, into one table that has their splits."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.command import run
from pipeline.datasets.tables import CLIP_SCHEMA
from pipeline.files import written_whole
from pipeline.labels import LABELS
from pipeline.params import ClipsParams, load_params
from pipeline.sample.clip import draw_clips

logger = logging.getLogger(__name__)


def clips(file: Path, params: ClipsParams) -> int:
    """Draw clips of a face that moves from one expression to another, and write them as one Parquet file.

    Args:
        file: where to; a row a clip, `clip_id, person, label, label_id, split, frames`, the label being the expression
            it moves to and `frames` a list of JPEG images of 64 pixels, in order.
        params: people, frames of a clip, seed.

    Returns:
        the number of clips.
    """
    drawn = draw_clips(params.people, params.frames, params.seed)
    number = params.people * len(LABELS)
    rows = [
        {**vars(clip), "clip_id": f"{clip.person}-{clip.label}", "label_id": LABELS.index(clip.label)}
        for clip in tqdm(drawn, total=number, desc="draw clips", unit=" clips", mininterval=1, disable=None)
    ]
    # `drawn` and `detector` are what `harmonize` writes beside faces.
    schema = CLIP_SCHEMA.with_metadata({"drawn": "True", "detector": "None"})
    with written_whole(file) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial, compression="none")
    return number


def main(file: Path) -> None:
    """Draw clips, as `clips` in `params.yaml` has it, into FILE; an empty table if no recipe in `run` reads any."""
    params = load_params()
    if not any(params.recipe(version).recurrent for version in params.run):
        with written_whole(file) as partial:
            pq.write_table(CLIP_SCHEMA.empty_table(), partial)
        return
    count = clips(file, params.clips)
    logger.info("%d clips of %d frames, one per label of %d people", count, params.clips.frames, params.clips.people)


if __name__ == "__main__":
    run(main)
