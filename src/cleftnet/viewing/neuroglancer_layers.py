"""Layers as neuroglancer draws them: axes x y z, physical units, and a shader or colors for each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import neuroglancer
import numpy as np
import numpy.typing as npt
from neuroglancer.local_volume import LocalVolume, MeshesNotSupportedForVolume

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.viewing.layers import LayerKind, ShownLayer
from cleftnet.viewing.scene import COLORS
from cleftnet.volumes import INVALID, OUTSIDE, Array, NormalizationSettings, Volume, measured_range

MESH_VOX = 2**25  # label volumes up to this size get surfaces in 3D, for which all of it is read, in 270 MB
UNKNOWN_COLOR = "#777777"  # voxels that nobody labeled

_GRAY = "#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }"
_TINT = """#uicontrol vec3 color color(default="{color}")
#uicontrol float strength slider(min=0, max=1, default=0.75)
void main() {{ emitRGBA(vec4(color, strength * toNormalized(getDataValue()))); }}"""


@dataclass(frozen=True)
class TransposedVoxels:
    """The voxels of a volume with axes x y z, of a type that neuroglancer draws.

    Args:
        volume: The volume, z y x.
        labels: Whether its values are ids.
    """

    volume: Volume
    labels: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides in voxels, x y z."""
        return self.volume.shape[::-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        own = self.volume.dtype
        if self.labels:
            return np.dtype(np.uint64)
        if own.kind == "b":
            return np.dtype(np.uint8)
        return own if own.kind in "iu" and own.itemsize <= 4 else np.dtype(np.float32)

    def __getitem__(self, index: tuple[slice, ...]) -> Array:
        """Read one box, x y z."""
        x, y, z = (part.indices(side)[:2] for part, side in zip(index, self.shape, strict=True))
        values = self.volume[Box((int(z[0]), int(y[0]), int(x[0])), (int(z[1]), int(y[1]), int(x[1])))]
        return np.asarray(values, self.dtype).T

    def transpose(self) -> Array:
        """Read all voxels, z y x; neuroglancer makes surfaces from them."""
        return np.ascontiguousarray(self.volume.read(), self.dtype)


class ServedVolume(LocalVolume):  # type: ignore[misc] # neuroglancer has no types
    """A volume that neuroglancer reads box by box."""

    def __init__(self, volume: Volume, labels: bool) -> None:
        size = volume.voxel_size_nm[::-1]
        super().__init__(
            TransposedVoxels(volume, labels),
            dimensions=neuroglancer.CoordinateSpace(names=["x", "y", "z"], units="nm", scales=size),
            volume_type="segmentation" if labels else "image",
        )
        self.has_meshes = labels and volume.size <= MESH_VOX

    def get_object_mesh(self, object_id: int) -> bytes:
        """Return the surface of one cleft, where the volume is small enough to be read whole."""
        if not self.has_meshes:
            raise MeshesNotSupportedForVolume
        return bytes(super().get_object_mesh(object_id))


def coordinate_space(voxel_size_nm: FloatZYX) -> Any:
    """Return the dimensions x y z of a viewer, in voxels of this size."""
    return neuroglancer.CoordinateSpace(names=["x", "y", "z"], units="nm", scales=voxel_size_nm[::-1])


def placed(volume: Volume, labels: bool, reference_nm: FloatZYX) -> Any:
    """Return a volume as a source of a layer, at its place.

    The center of a voxel is where its offset says; neuroglancer counts from corners. In its space all centers are moved by half
    a voxel of the reference, so that there voxel n of the reference reaches from n to n + 1.

    Args:
        volume: The volume.
        labels: Whether its values are ids.
        reference_nm: Voxel size of the layer that positions are counted in, z y x.
    """
    sides, offset = np.array(volume.voxel_size_nm[::-1]), np.array(volume.offset_nm[::-1])
    corner = (offset - sides / 2 + np.array(reference_nm[::-1]) / 2) / sides
    return neuroglancer.LayerDataSource(
        url=ServedVolume(volume, labels),
        transform=neuroglancer.CoordinateSpaceTransform(
            output_dimensions=coordinate_space(volume.voxel_size_nm),
            matrix=np.column_stack([np.eye(3), corner.round(9)]),
        ),
    )


def drawn(layer: ShownLayer, reference_nm: FloatZYX) -> Any:
    """Return a layer as neuroglancer draws it: gray, tinted by value, or by ids."""
    if layer.kind is LayerKind.LABELS:
        return drawn_labels(layer.volume, reference_nm)
    if layer.kind is LayerKind.TRUTH:
        return drawn_labels(layer.volume, reference_nm, COLORS[LayerKind.TRUTH])
    source = placed(layer.volume, labels=False, reference_nm=reference_nm)
    if layer.kind is LayerKind.RAW:
        controls = {"normalized": {"range": _gray_range(layer.volume)}}
        return neuroglancer.ImageLayer(source=source, shader=_GRAY, shader_controls=controls, opacity=1)
    return neuroglancer.ImageLayer(source=source, shader=_TINT.format(color=COLORS[layer.kind]), opacity=1)


def drawn_labels(
    volume: Volume, reference_nm: FloatZYX, color: str | None = None, ids: Iterable[int] | None = None
) -> Any:
    """Return a label volume as neuroglancer draws it.

    Args:
        volume: Cleft ids; those that say unlabeled are gray.
        reference_nm: Voxel size of the layer that positions are counted in, z y x.
        color: The color of all clefts; None gives each its own.
        ids: Clefts whose surfaces are shown in 3D; they must be all of the volume.
    """
    layer = neuroglancer.SegmentationLayer(
        source=placed(volume, labels=True, reference_nm=reference_nm),
        selected_alpha=0.55,
        segment_colors={INVALID: UNKNOWN_COLOR, OUTSIDE: UNKNOWN_COLOR},
    )
    if color is not None:
        layer.segment_default_color = color
    if ids is not None and volume.size <= MESH_VOX:
        layer.segments = set(ids)
    return layer


def _gray_range(volume: Volume) -> list[Any]:
    """Return the gray values that become black and white."""
    try:
        low, high = measured_range(volume, NormalizationSettings())
    except InputError:  # nothing but one gray value
        low, high = 0.0, 1.0
    if volume.dtype.kind in "iu":
        return [int(np.floor(low)), max(int(np.ceil(high)), int(np.floor(low)) + 1)]
    return [low, high]


def ids_of(clefts: npt.NDArray[np.uint64], most: int = 1000) -> list[int] | None:
    """Return ids whose surfaces are shown; None where there are none or too many to be shown at once."""
    return [int(one) for one in clefts] if 0 < len(clefts) <= most else None
