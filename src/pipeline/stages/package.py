"""Stage 8: prove that the champion's formats answer like its checkpoint, and build the Bento that serves it."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.bento import build_bento
from pipeline.checkpoint import load_checkpoint
from pipeline.command import run
from pipeline.files import write_json
from pipeline.formats import open_formats
from pipeline.images import read_images
from pipeline.params import PackageParams, load_params
from pipeline.parity import prove_parity, some_of
from pipeline.pointer import find_model, read_pointer
from pipeline.predictor import Predictor
from pipeline.tables import read_split

logger = logging.getLogger(__name__)


def package(root: Path, pointer_file: Path, images: list[bytes], params: PackageParams) -> dict[str, Any]:
    """Package the champion.

    Args:
        root: the repository, with `service.py` and `bentofile.yaml`.
        pointer_file: the champion's pointer.
        images: encoded faces to compare on.
        params: how many of them, and how much a probability may differ.

    Returns:
        the Bento's tag, the champion's name and version, and the outcome of the comparison.

    Raises:
        PipelineError: if a format does not answer like the checkpoint, or BentoML fails.
    """
    pointer = read_pointer(pointer_file)
    model = find_model(pointer_file, pointer)
    predictor = Predictor(model, name=pointer.name, version=pointer.version)
    formats = open_formats(model.parent, predictor)
    parity = prove_parity(load_checkpoint(model.parent), predictor, formats, images[: params.faces], params.tolerance)
    differences = [f"{name} {difference:.1e}" for name, difference in parity["largest_difference"].items()]
    logger.info("largest difference of a probability on %d faces: %s", parity["faces"], ", ".join(differences))
    kind = "sample-" if pointer.is_sample else ""
    tag = build_bento(root, pointer_file, f"{kind}{pointer.version}-{pointer.sha256[:8]}")
    logger.info("%s is built", tag)
    return {"bento": tag, "model": pointer.name, "version": pointer.version, "parity": parity}


def main(pointer: Path, faces: Path, splits: Path, result: Path) -> None:
    """Package the champion that POINTER names; compare on FACES by SPLITS; write the RESULT."""
    params = load_params()
    tables = [read_split(faces, splits, name, split) for name in params.use for split in ("test", "validation")]
    images = read_images(faces, some_of(pd.concat(tables), params.package.faces))
    write_json(result, package(Path(), pointer, images, params.package))


if __name__ == "__main__":
    run(main)
