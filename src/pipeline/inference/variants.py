"""Variants of a served model: which are offered beside it, and where; what a service needs of them."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_output, sha256_of

FULL = "full"  # the model itself, in full precision
VARIANTS = INT8, FP16, BF16 = "int8", "fp16", "bf16"


def variant_file(model: Path, variant: str) -> Path:
    """Return where a variant of a model lies, if it is offered: `model.int8.onnx` beside `model.onnx`."""
    return model if variant == FULL else model.with_suffix(f".{variant}.onnx")


def offers_file(model: Path) -> Path:
    """Return the file that says which variants of a model are offered, and why others are not."""
    return model.with_suffix(".variants.json")


def read_offers(model: Path, model_sha256: str) -> dict[str, dict[str, Any]]:
    """Return what was measured of a model's variants, by name; nothing, if that was another model.

    Each has `offered` and, if not, the `reason`; if so, the `sha256` of its file.

    Raises:
        PipelineError: if the file that says so is damaged.
    """
    file = offers_file(model)
    if not file.exists():
        return {}
    offers = read_output(file, "package")
    return offers["variants"] if offers["model_sha256"] == model_sha256 else {}


def find_variant(model: Path, model_sha256: str, variant: str) -> str:
    """Return the SHA-256 of a variant that lies beside a model (see `variant_file`), once its content was checked.

    Raises:
        PipelineError: if there is no such variant, or it is not offered, with the reason, or the file is another one.
    """
    if variant == FULL:
        return model_sha256
    if variant not in VARIANTS:
        raise PipelineError(f"there is no variant {variant!r} of a model; there are {', '.join((FULL, *VARIANTS))}")
    offer = read_offers(model, model_sha256).get(variant)
    if offer is None:
        raise PipelineError(f"the variant {variant} was not made for {model}; `dvc repro package` makes the champion's")
    if not offer["offered"]:
        raise PipelineError(f"the variant {variant} of {model} is not offered: {offer['reason']}")
    file = variant_file(model, variant)
    if not file.is_file() or sha256_of(file) != offer["sha256"]:
        raise PipelineError(f"{file} is missing, or not the variant that was measured; run `dvc repro --force package`")
    return str(offer["sha256"])
