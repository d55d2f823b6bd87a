"""Does the service answer what evaluation wrote down? The same faces, once more, over HTTP.

A version is exported as `promote` does it, served, and asked about faces of the tables of `harmonize`, one at a time
and as ready crops; its answers are held against `predictions/<version>.parquet`. It reads the results of a pipeline in
the present folder.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests
from running import running

from pipeline.datasets.images import read_images
from pipeline.evaluation.predictions import read_predictions, stack
from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.packaging.artifact import write_artifact
from pipeline.packaging.parity import some_of


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="that was trained and evaluated, as v8")
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--most", type=float, default=1e-3, help="difference of a probability that is let through")
    options = parser.parse_args()
    table = some_of(read_predictions(Path("predictions") / f"{options.version}.parquet"), options.faces)
    table = table.reset_index(drop=True)
    images = read_images(Path("data/faces"), table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_artifact(load_checkpoint(Path("models") / options.version), folder / "exported", "fetch")
        write_pointer(folder / "pointer.json", Pointer("evaluated", options.version, str(model), sha256_of(model)))
        with (
            running(folder, FER_POINTER=str(folder / "pointer.json")) as (address, _),
            requests.Session() as session,
            ThreadPoolExecutor(8) as threads,
        ):
            answers = list(
                threads.map(lambda image: session.post(f"{address}/predict?detect=false", data=image).json(), images)
            )
    if wrong := [answer["error"] for answer in answers if "error" in answer]:
        sys.exit(f"{len(wrong)} faces were refused: {wrong[0]}")
    faces = [answer["faces"][0] for answer in answers]
    found = np.array([[face["probabilities"][label] for label in LABELS] for face in faces])
    expected = stack(table.probabilities)
    difference = float(np.abs(found - expected).max())
    others = int((found.argmax(1) != expected.argmax(1)).sum())
    print(
        f"{options.version}, {len(found)} faces over HTTP: {others} labels differ from those of evaluation, "
        f"and probabilities by up to {difference:.1e}"
    )
    sys.exit(others > 0 or difference > options.most)


if __name__ == "__main__":
    main()
