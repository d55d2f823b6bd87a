"""Class activation maps, computed by the exported network itself: how much each place of a face adds to each label.

The gradient is written out as a graph of its own when a network is exported, so that a service needs no torch for it.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pipeline.errors import PipelineError


class Placed(Protocol):
    """A network, uint8 faces to logits, in two halves: `conclude(places(faces))` is what it answers."""

    def places(self, faces: Tensor) -> Tensor:
        """Return the last features that have a place: (batch, channels, height, width)."""
        ...

    def conclude(self, places: Tensor) -> Tensor:
        """Return logits (batch, classes) for such features."""
        ...


def class_maps(conclude: Callable[[Tensor], Tensor], places: Tensor, classes: int) -> Tensor:
    """Return what each place adds to each logit: the logit's gradient times the features, summed over the channels.

    This is HiResCAM (Draelos and Carin 2020). Behind a mean over all places it is Grad-CAM (Selvaraju et al. 2017,
    ICCV) before its rectification, and if the head is linear besides, the class activation map (Zhou et al. 2016,
    CVPR), whose sum is the logit without its bias.

    Args:
        conclude: maps features to logits (batch, classes), each face by itself.
        places: features (batch, channels, height, width).
        classes: how many.

    Returns:
        float (batch, classes, height, width), in units of logits; negative where a place speaks against the label.
    """
    with torch.enable_grad():
        # One copy a class, so that one pass back gives all gradients: ONNX has no such pass, and each is written out.
        copies = places.detach().repeat(classes, 1, 1, 1).requires_grad_()
        own = conclude(copies).unflatten(0, (classes, -1)) * torch.eye(classes)[:, None]
        (gradient,) = torch.autograd.grad(own.sum(), copies)
    return (gradient * copies).sum(1).unflatten(0, (classes, -1)).transpose(0, 1)


def write_out_maps(network: nn.Module, example: Tensor) -> nn.Module:
    """Return the gradient of a network written out in operations that ONNX has.

    Args:
        network: uint8 faces to logits, in evaluation mode, with parameters that learn no more.
        example: some faces.

    Returns:
        a module without weights of its own, which as constants would be in the file a second time: it maps what
        `places` returns, and all values of `state_of(network)`, to class maps (batch, classes, height, width).

    Raises:
        PipelineError: if the network is no `Placed` one, or has no features (batch, channels, height, width).
    """
    places, classes = _check(network, example)
    conclude, state = _Conclusion(network), state_of(network)

    def maps(places: Tensor, *values: Tensor) -> Tensor:
        named = {f"network.{name}": value for name, value in zip(state, values, strict=True)}
        return class_maps(lambda copies: functional_call(conclude, named, (copies,)), places, classes)

    return make_fx(maps, DECOMPOSED, tracing_mode="symbolic")(places, *state.values())


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters and buffers by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


class _Conclusion(nn.Module):
    """The second half of a network, as a module, whose weights can be told from outside."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, places: Tensor) -> Tensor:
        return self.network.conclude(places)


def _check(network: Any, example: Tensor) -> tuple[Tensor, int]:
    """Return features of the example and the number of classes, if these are a network's two halves."""
    if not hasattr(network, "places"):
        raise PipelineError("its network can not be parted into places and what it concludes from them")
    with torch.no_grad():
        places = network.places(example)
        if places.ndim != 4:
            raise PipelineError("its backbone has no map of features before its pooling")
        concluded, expected = network.conclude(places), network(example)
    if not torch.allclose(concluded, expected, atol=1e-4):
        raise PipelineError("its backbone does not answer what its two halves do, one after the other")
    return places, expected.shape[1]


def _convolution_backward(  # noqa: PLR0913  # so it is called
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    biases: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> Any:
    """Write the way back through a convolution as one; torch has its own kernel for it, and ONNX none."""
    if transposed or any(step != 1 for step in stride) or wanted[1] or wanted[2]:
        return NotImplemented
    back = torch.ops.aten.convolution.default(
        gradient, weight, None, stride, padding, dilation, True, output_padding, groups
    )
    return back, None, None


DECOMPOSED = {torch.ops.aten.convolution_backward.default: _convolution_backward}
