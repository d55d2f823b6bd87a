"""Tells a version what it is made from: the hashes of its datasets, and of the versions it may start from.

These are tiny stages before `train`, so that a version trains again when its own data or parents change, not others'.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from pipeline.command import run
from pipeline.datasets.tables import open_faces, read_all_splits
from pipeline.errors import PipelineError
from pipeline.files import read_output, sha256_of, write_json
from pipeline.params import load_params
from pipeline.recipes import CLIPS


def inputs(datasets: tuple[str, ...], faces: Path, splits: Path) -> dict[str, str]:
    """Return, for each dataset, the SHA-256 of its table of faces and of its rows among the splits.

    The table of clips says its splits itself.
    """
    if datasets == (CLIPS,):
        with open_faces(faces, CLIPS):
            return {CLIPS: sha256_of(faces / f"{CLIPS}.parquet")}
    table = read_all_splits(splits)
    hashes = {}
    for name in datasets:
        file = faces / f"{name}.parquet"
        if not file.exists():
            raise PipelineError(f"{file} is missing; run `dvc repro harmonize@{name}`")
        rows = pd.util.hash_pandas_object(table[table.dataset == name], index=False).to_numpy()
        hashes[name] = hashlib.sha256(sha256_of(file).encode() + rows.tobytes()).hexdigest()
    return hashes


def main(
    version: str,
    file: Path,
    faces: Annotated[Path | None, typer.Option(help="folder with the tables of faces")] = None,
    splits: Annotated[Path | None, typer.Option(help="table of the splits")] = None,
    parent: Annotated[Path | None, typer.Option(help="folder of a version that this one may start from")] = None,
) -> None:
    """Write to FILE what VERSION is made from: its datasets' hashes, or what is to know of a PARENT."""
    if parent:
        facts = read_output(parent / "model.json", f"train@{parent.name}")
        weights = sha256_of(parent / "weights.safetensors")
        score = facts["validation"]["macro_f1"]
        write_json(file, {"weights_sha256": weights, "validation_macro_f1": score, "drawn": facts["drawn"]})
    elif faces and splits:
        write_json(file, inputs(load_params().recipe(version).data, faces, splits))
    else:
        raise PipelineError("give --faces and --splits, or --parent")


if __name__ == "__main__":
    run(main)
