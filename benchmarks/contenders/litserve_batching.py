"""The model behind LitServe with its batching: `litserve_batching.py MODEL PORT`."""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from pipeline.inference.predictor import Predictor

MAX_BATCH, WINDOW = 32, 0.005  # images, and seconds that it waits for them


class Expressions(litserve.LitAPI):
    """The four steps that LitServe knows."""

    def setup(self, device: str) -> None:
        """Open the model."""
        self.predictor = Predictor(Path(sys.argv[1]), name="litserve", version="1")

    def decode_request(self, request: Request) -> Any:
        """Read one image."""
        return self.predictor.faces(request["image"].file.read(), detect=False)[0]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Keep the faces with their pictures."""
        return inputs

    def predict(self, batch: list[Any]) -> list[Any]:
        """Answer for a batch."""
        rows = self.predictor.probabilities(self.predictor.stack(batch))
        return [(face, row, len(batch)) for (face, _), row in zip(batch, rows, strict=True)]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return what belongs to each image, which `predict` has done."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Build the answer for one image."""
        face, row, size = output
        return {**self.predictor.answer([face], np.expand_dims(row, 0)), "batch": size}


if __name__ == "__main__":
    api = Expressions(max_batch_size=MAX_BATCH, batch_timeout=WINDOW, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
