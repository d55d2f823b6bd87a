"""The stage `train` with a network that runs out of memory: what `test_memory` starts in processes of their own."""

from unittest.mock import patch

import torch

from pipeline.command import run
from pipeline.networks.network import ExpressionNetwork
from pipeline.stages.train import main


def refusing(most: int):
    """Let networks run out of memory, as on a GPU, with more faces than this in a step."""
    classify = ExpressionNetwork.classify

    def refuse(self: ExpressionNetwork, faces: torch.Tensor) -> torch.Tensor:
        if self.head.training and len(faces) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return classify(self, faces)

    return patch.object(ExpressionNetwork, "classify", refuse)


if __name__ == "__main__":
    with refusing(1):
        run(main)
