"""Geometry of the sections: their position in the tissue, and the share of a section that a structure fills.

Structures are described in nm in the tissue and drawn where a section cuts them. A section is a slab whose content adds up
along z: a membrane that runs obliquely through the slab looks wide and pale, as in the microscope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import FloatZYX, IntZYX

Float = npt.NDArray[np.float32]
Index = tuple[slice, slice, slice]
_FARTHEST_SHIFT_NM = 200.0


@dataclass(frozen=True)
class Sections:
    """Stack of sections, each shifted slightly in the plane; misalignment is geometry, so nothing is resampled.

    Args:
        shape: Voxels z y x.
        voxel_size_nm: Voxel size z y x; the first is the thickness of a section.
        shift_nm: Position of the corner of each section in the tissue, y x; shape (z, 2), at most ±200.
    """

    shape: IntZYX
    voxel_size_nm: FloatZYX
    shift_nm: Float

    @property
    def thickness_nm(self) -> float:
        """Thickness of one section."""
        return self.voxel_size_nm[0]

    @property
    def extent_nm(self) -> npt.NDArray[np.float64]:
        """Side lengths z y x."""
        return np.multiply(self.shape, self.voxel_size_nm)

    @property
    def volume_um3(self) -> float:
        """The volume in cubic micrometers."""
        return float(np.prod(self.extent_nm) / 1e9)

    def axes_nm(self, z: int) -> tuple[float, Float, Float]:
        """Return the position of section `z` in the tissue: its z, the y of its rows, the x of its columns."""
        dz, dy, dx = self.voxel_size_nm
        y, x = self.shift_nm[z]
        rows = np.arange(self.shape[1], dtype=np.float32) * np.float32(dy) + y
        return z * dz, rows, np.arange(self.shape[2], dtype=np.float32) * np.float32(dx) + x

    def place_nm(self, voxels: npt.ArrayLike) -> Float:
        """Return the positions of voxels in the tissue; both are (n, 3), z y x."""
        index = np.asarray(voxels, dtype=np.intp)
        place = index * np.asarray(self.voxel_size_nm)
        place[:, 1:] += self.shift_nm[index[:, 0]]
        return np.asarray(place, np.float32)

    def voxels(self, place_nm: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Return the voxels at positions in the tissue, (n, 3) z y x, and whether each position lies in the stack.

        A position outside of the stack gets the nearest voxel.
        """
        place = np.asarray(place_nm, dtype=np.float64)
        z = np.rint(place[:, 0] / self.thickness_nm).astype(np.intp)
        shift = self.shift_nm[np.clip(z, 0, self.shape[0] - 1)]
        plane = np.rint((place[:, 1:] - shift) / self.voxel_size_nm[1:]).astype(np.intp)
        voxel = np.column_stack([z, plane])
        nearest = np.clip(voxel, 0, np.subtract(self.shape, 1))
        return nearest, np.asarray((nearest == voxel).all(axis=1))

    def around(self, center_nm: npt.ArrayLike, radius_nm: float) -> tuple[Index, tuple[Float, Float, Float]]:
        """Return the voxels in a box around a position, and their distances from it.

        Args:
            center_nm: Position z y x.
            radius_nm: Half the side of the box; the box is cut at the border of the stack.

        Returns:
            An index into the stack, and its voxels' distances in nm along z, y and x, which broadcast to its shape.
        """
        center = np.asarray(center_nm, dtype=np.float64)
        drift = float(np.abs(self.shift_nm).max())
        reach = np.array([radius_nm, radius_nm + drift, radius_nm + drift])
        low = np.clip(np.floor((center - reach) / self.voxel_size_nm).astype(int), 0, self.shape)
        high = np.clip(np.ceil((center + reach) / self.voxel_size_nm).astype(int) + 1, 0, self.shape)
        z, y, x = (np.arange(a, b) * v - c for a, b, v, c in zip(low, high, self.voxel_size_nm, center, strict=True))
        shift = self.shift_nm[low[0] : high[0]]
        index = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        return index, (
            z[:, None, None].astype(np.float32),
            (y + shift[:, :1])[:, :, None].astype(np.float32),
            (x + shift[:, 1:])[:, None, :].astype(np.float32),
        )


class SmoothNoise:
    """Random field of about N(0, 1) that varies over `scale_nm`, by cubic B-splines on a random lattice."""

    def __init__(self, sections: Sections, rng: np.random.Generator, scale_nm: float) -> None:
        self.sections, self.scale_nm = sections, scale_nm
        self.margin = 2 + int(
            np.ceil(_FARTHEST_SHIFT_NM / scale_nm)
        )  # for the largest shift, so that shifts do not change the noise
        nodes = np.ceil(sections.extent_nm / scale_nm).astype(int) + 2 * self.margin + 1
        self.lattice = 3 * rng.standard_normal(nodes)  # ×3: a B-spline's mean over 4³ nodes has a deviation of 1/3

    def _weights(self, at_nm: npt.ArrayLike, axis: int) -> npt.NDArray[np.float64]:
        """Return the weight of each lattice node (columns) at each position (rows) along one axis."""
        node = np.atleast_1d(np.asarray(at_nm, dtype=np.float64))[:, None] / self.scale_nm + self.margin
        u = np.abs(node - np.arange(self.lattice.shape[axis]))
        return np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.maximum(2 - u, 0) ** 3 / 6)

    def section(self, z: int) -> Float:
        """Return the field on one section, y x."""
        at_z, at_y, at_x = self.sections.axes_nm(z)
        sheet = np.tensordot(self._weights(at_z, 0)[0], self.lattice, axes=1)
        return (self._weights(at_y, 1) @ sheet @ self._weights(at_x, 2).T).astype(np.float32)


def within(distance_nm: Float, half_width_nm: float, smear_nm: Float) -> Float:
    """Return the share of a section's thickness that a wall fills.

    Args:
        distance_nm: Distance from the middle of the section to the middle of the wall.
        half_width_nm: Half the thickness of the wall.
        smear_nm: Change of that distance through the section: its thickness × the tilt of the wall.

    Returns:
        0 to 1: 1 where the wall fills the section, less where it runs through obliquely.

    Example:
        >>> within(np.float32([0, 5, 20]), 7, np.float32([0, 0, 0])), within(np.float32([0]), 7, np.float32([28]))
        (array([1., 1., 0.], dtype=float32), array([0.5], dtype=float32))
    """
    half_smear = np.maximum(smear_nm, np.float32(1)) / 2
    low, high = distance_nm - half_smear, distance_nm + half_smear
    filled = np.minimum(high, half_width_nm) - np.maximum(low, -half_width_nm)
    return np.asarray(np.maximum(filled, 0) / (2 * half_smear), np.float32)


def frame(axis: npt.ArrayLike, turn: float) -> tuple[Float, Float, Float]:
    """Return three unit vectors at right angles: along `axis`, and two across it, turned about it by an angle."""
    first = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    second = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    second /= np.linalg.norm(second)
    third = np.cross(first, second)
    one, two = np.cos(turn) * second + np.sin(turn) * third, np.cos(turn) * third - np.sin(turn) * second
    return first.astype(np.float32), one.astype(np.float32), two.astype(np.float32)
