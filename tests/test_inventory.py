from pathlib import Path

import pandas as pd
from tables import write_tables

from pipeline.cards.inventory import take_inventory
from pipeline.labels import LABELS


def test_faces_are_counted_by_split_and_label_and_what_was_taken_out_by_reason(tmp_path: Path) -> None:
    faces, splits = write_tables(tmp_path, ("fer2013", "wild"), drawn=False)
    table = pd.read_parquet(splits)
    table.loc[table.face_id == "fer2013-train-fear-0", ["split", "reason"]] = "none", "copy of a test face"
    table.loc[table.face_id == "fer2013-train-fear-1", ["split", "reason"]] = "none", ""
    table.to_parquet(splits)
    found = take_inventory(["fer2013"], faces, splits)
    assert found == {
        "fer2013": {
            "drawn": False,
            "counts": {
                "train": {**dict.fromkeys(LABELS, 4), "fear": 2},
                "validation": dict.fromkeys(LABELS, 2),
                "test": dict.fromkeys(LABELS, 2),
            },
            "removed": {"copy of a test face": 1, "no official split": 1},
            "leaked": {"test": 7},
        }
    }
