"""Making a model's variants, and measuring which of them may be offered beside it."""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray

from pipeline.datasets.images import read_images
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import macro_f1
from pipeline.files import sha256_of, write_json
from pipeline.inference.predictor import Predictor
from pipeline.inference.runtimes import MEASURED_BY, ONNXRUNTIME, require
from pipeline.inference.variants import FULL, VARIANTS, offers_file, variant_file
from pipeline.packaging.latency import measure_milliseconds
from pipeline.packaging.parity import answer_all, some_of
from pipeline.packaging.quantization import MAKERS
from pipeline.params import PackageParams

logger = logging.getLogger(__name__)

BATCH = 16  # faces at once, in calibration


@dataclass(frozen=True)
class Faces:
    """The faces that variants are made and measured with: tables `face_id, label_id, dataset`, images in `folder`."""

    folder: Path
    judged: pd.DataFrame
    training: pd.DataFrame


def offer_variants(model: Path, predictor: Predictor, faces: Faces, params: PackageParams) -> dict[str, Any]:
    """Make the variants of a model, measure them, and leave beside it those that answer as well, and the measurements.

    Integers are fitted to training faces, and never see the faces that variants are measured on.

    Args:
        model: file of the exported model.
        predictor: with that model.
        faces: those that the version is judged by, and the training faces.
        params: which variants, what they may lose, and how many training faces they are fitted to.

    Returns:
        by variant, the model itself (`full`) first, `macro_f1` on the judged faces, `megabytes`, `milliseconds` a face
        on this machine, and of all but the first `loss` of macro-F1, whether it is `offered`, `sha256`, and the
        `reason` if it is not; the `reason` alone of one that could not be made.
    """
    training = _stacks(predictor, read_images(faces.folder, some_of(faces.training, params.calibration_faces)))
    model_sha256 = sha256_of(model)
    # Made aside: a service may be answering by those of the last time.
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        made, broken = {FULL: predictor}, {}
        for variant in params.variants:
            file = Path(folder) / variant
            runtime = MEASURED_BY.get(variant, ONNXRUNTIME)
            try:
                require(runtime, variant)
                _write(MAKERS[variant](model, training), file, variant=variant, made_from=model_sha256)
                made[variant] = Predictor(
                    file,
                    name=predictor.name,
                    version=predictor.version,
                    yunet=predictor.yunet,
                    runtime=runtime,
                )
            except PipelineError as error:
                broken[variant] = {"offered": False, "reason": str(error)}
        measured = _measure(made, faces, training[0][:1])
        variants: dict[str, Any] = {}
        for variant in params.variants:
            variants[variant] = broken.get(variant) or _judge(measured[variant], measured[FULL], params.variant_loss)
            _tell(variant, variants[variant], measured[FULL])
            if variants[variant]["offered"]:
                variants[variant]["sha256"] = sha256_of(Path(folder) / variant)
                (Path(folder) / variant).replace(variant_file(model, variant))
    write_json(offers_file(model), {"model_sha256": model_sha256, "variants": variants})
    for name in VARIANTS:
        if not variants.get(name, {}).get("offered"):
            variant_file(model, name).unlink(missing_ok=True)
    return {FULL: measured[FULL], **variants}


def _stacks(predictor: Predictor, images: list[bytes]) -> list[NDArray[np.uint8]]:
    found = [predictor.faces(image, detect=False)[0] for image in images]
    return [predictor.stack(found[start : start + BATCH]) for start in range(0, len(found), BATCH)]


def _write(model: onnx.ModelProto, file: Path, **facts: str) -> None:
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, file)


def _measure(predictors: dict[str, Predictor], faces: Faces, face: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    times = measure_milliseconds(list(predictors.values()), face)
    label_ids = faces.judged.label_id.to_numpy()
    return {
        variant: {
            "macro_f1": macro_f1(label_ids, answer_all(predictor, faces.folder, faces.judged).argmax(1)),
            "megabytes": round(predictor.model_file.stat().st_size / 1e6, 3),
            "milliseconds": round(milliseconds, 3),
        }
        for (variant, predictor), milliseconds in zip(predictors.items(), times, strict=True)
    }


def _judge(measured: dict[str, Any], full: dict[str, Any], most: float) -> dict[str, Any]:
    loss = full["macro_f1"] - measured["macro_f1"]
    offered = loss < most
    reason = "" if offered else f"macro-F1 falls by {loss:.4f}, which must be less than {most:g}"
    return {**measured, "loss": loss, "offered": offered, "reason": reason}


def _tell(variant: str, measured: dict[str, Any], full: dict[str, Any]) -> None:
    if "macro_f1" not in measured:
        logger.warning("variant %s is not offered: %s", variant, measured["reason"])
        return
    logger.info(
        "variant %s is %s: macro-F1 %.4f (full precision %.4f), %.2f MB (%.2f), %.2f ms a face (%.2f)",
        variant,
        "offered" if measured["offered"] else f"not offered ({measured['reason']})",
        *(value for key in ("macro_f1", "megabytes", "milliseconds") for value in (measured[key], full[key])),
    )
