"""What leaked copies are worth: a system that learns without the copies of the faces it is judged by, and with them.

Published numbers on FER2013 come from its folders as they are, where hundreds of the faces that a network is judged by
stand in its training set as well. Here the same system learns twice, for as many epochs, without those copies and with
them, and answers the same validation faces: the leaked ones, which have copies, and the others. It uses the tables that
`dvc repro validate` left; to mean anything, they must be of real faces.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from pipeline.datasets.tables import read_all_splits, read_split
from pipeline.params import TrainParams, load_params
from pipeline.recipes import Recipe
from pipeline.stages.train import train
from pipeline.training.data import FaceData
from pipeline.training.parents import Parents

FACES, SPLITS = Path("data/faces"), Path("data/splits.parquet")
COPY = "copy of a "  # so begins the reason why a copy was removed


def with_copies(splits: pd.DataFrame) -> pd.DataFrame:
    """Return a table of splits with the removed copies back in the training set."""
    copies = (splits.split == "none") & splits.reason.str.startswith(COPY)
    return splits.assign(split=splits.split.mask(copies, "train"))


def answers(version: str, recipe: Recipe, splits: Path, work: Path, params: TrainParams) -> NDArray[np.bool_]:
    """Train by a table of splits, and return for each validation face whether the network is right about it."""
    data = FaceData(recipe, FACES, splits, seed=params.seed, workers=params.workers)
    network, _ = train(version, recipe, data, Parents(), work, params, None)
    with torch.inference_mode():
        batches = DataLoader(data.validation_faces, 256)
        return np.concatenate([(network.eval()(faces).argmax(1) == labels).numpy() for faces, labels in batches])


def main() -> None:
    """Train twice, and print what came out side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a recipe of params.yaml", nargs="?", default="basic_cnn")
    parser.add_argument("--epochs", type=int, help="of each training, where not the recipe's own")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = load_params()
    recipe = params.recipe(asked.version)
    recipe = recipe.model_copy(update={"epochs": asked.epochs or recipe.epochs, "keep": "last"})
    leaked = pd.concat([read_split(FACES, SPLITS, name, "validation") for name in recipe.data]).leaked.to_numpy()
    if not leaked.any():
        sys.exit("error: no validation face has a copy in a training set; use real faces (`datasets.fer2013.from`)")
    print(f"{asked.version}, {recipe.epochs} epochs; accuracy on {len(leaked)} validation faces, {leaked.sum()} leaked")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "splits.parquet"
        with_copies(read_all_splits(SPLITS)).to_parquet(copied, index=False)
        for name, splits in {"without the copies": SPLITS, "with the copies": copied}.items():
            right = answers(asked.version, recipe, splits, Path(folder) / name, params.train)
            parts = {"all": right, "leaked": right[leaked], "others": right[~leaked]}
            print(f"  {name:<20}" + "".join(f"{part:>10} {found.mean():.3f}" for part, found in parts.items()))


if __name__ == "__main__":
    main()
