"""What every form of an export is made of: the network, its description, and a patch to test it with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from torch.export import ExportedProgram

from cleftnet.exporting.graph import CalibratedNetwork, traced
from cleftnet.exporting.onnx_graph import translate
from cleftnet.geometry import IntZYX
from cleftnet.models.checkpoint import Float32, ModelCard
from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import intensity

_SMALLEST = (8, 64, 64)  # voxels z y x: the smallest synthetic volume


@dataclass(frozen=True)
class ExportSource:
    """A model to be exported.

    Attributes:
        network: The network with its calibration.
        card: The model card.
        overlap_vox: Voxels z y x that neighboring tiles share in `predict`.
        description: What the file says about itself, by name.
        released: Name of the released model; None for another model.
    """

    network: CalibratedNetwork
    card: ModelCard
    overlap_vox: IntZYX
    description: dict[str, JsonValue]
    released: str | None = None

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph of the network, for any number of patches."""
        return traced(self.network)

    @cached_property
    def onnx(self) -> Any:
        """The program in ONNX, an `onnx.ModelProto`."""
        return translate(self.program, self.network.outputs)

    @cached_property
    def test_gray(self) -> npt.NDArray[np.uint8]:
        """Gray values of one patch of synthetic tissue, `1 1 z y x`, uint8."""
        patch = self.network.patch
        volume = synthetic_volume([max(sides) for sides in zip(patch, _SMALLEST, strict=True)], seed=0).raw
        return volume[tuple(slice(side) for side in patch)][None, None]

    @property
    def weights_license(self) -> str | None:
        """SPDX identifier of the license of the weights; None where it is not known."""
        licenses = self.description["licenses"]
        return str(licenses["weights"]) if isinstance(licenses, dict) and licenses["weights"] else None

    @property
    def test_raw(self) -> Float32:
        """The test patch as the network takes it: `1 1 z y x`, float32 in 0-1."""
        return intensity(self.test_gray)
