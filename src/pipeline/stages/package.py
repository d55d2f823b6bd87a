"""Stage 8: prove that the champion's formats answer like its checkpoint, measure its variants, and build the Bento."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.command import run
from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_split
from pipeline.files import write_json
from pipeline.inference.pointer import find_model, read_pointer
from pipeline.inference.predictor import Predictor
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.packaging.bento import build_bento
from pipeline.packaging.formats import open_formats
from pipeline.packaging.offering import Faces, offer_variants
from pipeline.packaging.parity import prove_parity, some_of
from pipeline.params import PackageParams, load_params

logger = logging.getLogger(__name__)


def package(root: Path, pointer_file: Path, faces: Faces, params: PackageParams) -> dict[str, Any]:
    """Package the champion.

    Args:
        root: the repository, with `service.py` and `bentofile.yaml`.
        pointer_file: the champion's pointer; its variants are left beside the model that it names.
        faces: those it is judged by, and training faces.
        params: how many of them are compared, how much a probability may differ, and what variants may lose.

    Returns:
        the Bento's tag, the champion's name and version, the outcome of the comparison, and what was measured of the
        variants.

    Raises:
        PipelineError: if a format of the champion does not answer like the checkpoint, or BentoML fails.
    """
    pointer = read_pointer(pointer_file)
    model = find_model(pointer_file, pointer)
    predictor = Predictor(model, name=pointer.name, version=pointer.version)
    images = read_images(faces.folder, some_of(faces.judged, params.faces))
    formats = open_formats(model.parent, predictor)
    parity = prove_parity(load_checkpoint(model.parent), predictor, formats, images, params.tolerance)
    differences = [f"{name} {difference:.1e}" for name, difference in parity["largest_difference"].items()]
    logger.info("largest difference of a probability on %d faces: %s", parity["faces"], ", ".join(differences))
    variants = offer_variants(model, predictor, faces, params)
    kind = "sample-" if pointer.is_sample else ""
    tag = build_bento(root, pointer_file, f"{kind}{pointer.version}-{pointer.sha256[:8]}")
    logger.info("%s is built", tag)
    return {"bento": tag, "model": pointer.name, "version": pointer.version, "parity": parity, "variants": variants}


def main(pointer: Path, faces: Path, splits: Path, result: Path) -> None:
    """Package the champion that POINTER names; compare on FACES by SPLITS; write the RESULT."""
    params = load_params()
    judged, training = [], []
    for name in params.use:
        test, validation, train = (read_split(faces, splits, name, split) for split in ("test", "validation", "train"))
        judged.append(test if len(test) else validation)
        training.append(train)
    tables = (pd.concat(some, ignore_index=True) for some in (judged, training))
    write_json(result, package(Path(), pointer, Faces(faces, *tables), params.package))


if __name__ == "__main__":
    run(main)
