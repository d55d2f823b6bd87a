"""What a version is made from: its recipe as it runs, the hashes of its datasets, and of its parents.

These are short stages before `train`, so that a version trains again when its own recipe, data or parents change, and
only then: a reworded description of a recipe's field, or another version's data, leaves these files as they are.
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
    folder: Path,
    faces: Annotated[Path | None, typer.Option(help="folder with the tables of faces")] = None,
    splits: Annotated[Path | None, typer.Option(help="table of the splits")] = None,
    clips: Annotated[Path | None, typer.Option(help="folder of the clips, which a recurrent version reads")] = None,
    parent: Annotated[Path | None, typer.Option(help="folder of a version that this one may start from")] = None,
) -> None:
    """Write into FOLDER what VERSION is made from: its recipe and its datasets' hashes, or the facts of a PARENT."""
    if parent:
        facts = read_output(parent / "model.json", f"train@{parent.name}")
        weights = sha256_of(parent / "weights.safetensors")
        score = facts["validation"]["macro_f1"]
        content = {"weights_sha256": weights, "validation_macro_f1": score, "drawn": facts["drawn"]}
        write_json(folder / f"{parent.name}.json", content)
    elif faces and splits:
        recipe = load_params().recipe(version)
        write_json(folder / "faces.json", inputs(recipe.data, clips if recipe.recurrent and clips else faces, splits))
        write_json(folder / "recipe.json", recipe.model_dump(mode="json", exclude={"at_sample"}))  # which was applied
    else:
        raise PipelineError("give --faces and --splits, or --parent")


if __name__ == "__main__":
    run(main)
