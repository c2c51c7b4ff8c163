"""The graph that is exported: a folded network, its calibration, and the boundary head's tanh.

A program that runs it needs no code of cleftnet: gray values go in, probability and distance come out.
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cleftnet.geometry import IntZYX
from cleftnet.metrics.calibration import Calibration
from cleftnet.models.checkpoint import Float32, Model
from cleftnet.nets.attention import Attention
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.folding import FoldedAugmentor, fold
from cleftnet.nets.skeleton import Network

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float

INPUT, OUTPUTS = "raw", ("probability", "distance")
FLOAT32 = 4  # bytes


class CalibratedNetwork(nn.Module):
    """A network that returns calibrated probability, and distance where it has that head, instead of logits.

    Args:
        net: The network or ensemble; it is folded into a copy on the CPU.
        calibration: Scale and shift that make the segmentation logit a probability.

    Example:
        >>> from cleftnet.nets.zoo import build
        >>> net = CalibratedNetwork(build("resunet", widths=(2, 4), patch=(2, 8, 8)), Calibration())
        >>> [output.shape for output in net(torch.rand(1, 1, 2, 8, 8))], net.outputs
        ([torch.Size([1, 1, 2, 8, 8])], ('probability',))
    """

    def __init__(self, net: Network | Ensemble, calibration: Calibration) -> None:
        super().__init__()
        self.net = fold(net).cpu().channels_last()
        self.calibration = calibration
        self.patch: IntZYX = net.spec.patch
        self.outputs = OUTPUTS[: len(net.spec.heads)]

    def forward(self, raw: Float[Tensor, "b 1 z y x"]) -> tuple[Tensor, ...]:
        """Return probability and, where there is that head, distance, each `b 1 z y x` in 0-1, for raw in 0-1."""
        logits = self.net(raw)
        probability = torch.sigmoid(self.calibration.scale * logits[:, :1] - self.calibration.shift)
        return (probability, logits[:, 1:2].tanh().clamp(min=0))[: len(self.outputs)]

    @torch.no_grad()
    def run(self, raw: Float32) -> list[Float32]:
        """Return the outputs of `forward` as NumPy arrays."""
        return [output.numpy() for output in self(torch.from_numpy(raw))]

    @property
    def attention_map_bytes(self) -> int:
        """Memory of the largest attention map of one patch, keys × queries, where a program forms it; 0 without one."""
        maps = [
            math.prod(module.key_shape) * math.prod(module.query_shape)
            for module in self.net.modules()
            if isinstance(module, Attention | FoldedAugmentor)
        ]
        return FLOAT32 * max(maps, default=0)


def calibrated_network(model: Model, net: Network | Ensemble) -> CalibratedNetwork:
    """Return the network to export, with the calibration of its model, in eval mode.

    Args:
        model: The model.
        net: Its network, or that network at another patch size.
    """
    return CalibratedNetwork(net, model.card.calibration).eval()


def traced(network: CalibratedNetwork) -> ExportedProgram:
    """Return the graph of a network for any number of patches, without paths of this machine in it."""
    example = torch.zeros(2, 1, *network.patch)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own internals
        program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the files that cleftnet was installed to
    return program
