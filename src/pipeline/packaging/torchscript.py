"""Writing a trained network as TorchScript, for programs that have torch and none of this code; and reading it back.

torch calls TorchScript deprecated, and still writes and reads it. Its warnings say so at every call; they are kept out
of the log here, because nothing is to be done about them: ONNX is the format that is served.
"""

import copy
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.packaging.export import Probabilities

TORCHSCRIPT_FILE = "model.torchscript"
FACTS_FILE = "facts.json"  # inside it


def export_torchscript(network: torch.nn.Module, file: Path, *, image_size: int, facts: dict[str, Any]) -> None:
    """Write a network as a TorchScript file: uint8 faces (n, side, side, 3) to float32 probabilities (n, 7).

    Args:
        network: as for `pipeline.packaging.export.export_onnx`; it is left as it was.
        file: the result; a former one is replaced when the new one is whole.
        image_size: side of the square input in pixels.
        facts: what a user must know, kept as JSON in the extra file `facts.json`.
    """
    model = Probabilities(copy.deepcopy(network)).cpu().eval()
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"  # the name is written into the file, so it is always the same
        traced = torch.jit.trace(model, example, check_trace=False)  # the parity with the checkpoint is proved later
        torch.jit.save(traced, saved, _extra_files={FACTS_FILE: json.dumps(facts)})
        with written_whole(file) as partial:
            _copy_without_traces(saved, partial)


class TorchScriptModel:
    """A file of `export_torchscript`, opened on the CPU."""

    def __init__(self, file: Path) -> None:
        """Open it; raises PipelineError if it is none."""
        extra = {FACTS_FILE: ""}
        try:
            with _quiet():
                self._module = torch.jit.load(file, map_location="cpu", _extra_files=extra)
            self.facts: dict[str, Any] = json.loads(extra[FACTS_FILE])
        except (RuntimeError, ValueError) as error:
            raise PipelineError(f"{file} is no TorchScript file of this pipeline: {str(error)[:200]}") from error

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify faces: uint8 RGB (n, size, size, 3) to float32 (n, 7)."""
        with torch.inference_mode():
            return self._module(torch.from_numpy(faces)).numpy()


def _copy_without_traces(source: Path, target: Path) -> None:
    """Copy a TorchScript file without what only debugging needs: pickles with paths of this machine and the example."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as slim:
        for entry in whole.infolist():
            if not entry.filename.endswith(".debug_pkl") and "/traced_inputs" not in entry.filename:
                slim.writestr(entry, whole.read(entry))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
