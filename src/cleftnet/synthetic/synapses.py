"""Draws synapses: a dark plate along the membrane, a T-bar on its presynaptic side, and vesicles around the T-bar.

The plate is the cleft, as an annotator paints it. A plate without T-bar and vesicles is a distractor: a thick dark
membrane without a synapse. Shapes and sizes follow the fly's synapses (Prokop & Meinertzhagen 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.synthetic.cells import Cells
from cleftnet.synthetic.sections import Float, Index, frame, within

_REACH_NM = (75.0, 160.0)  # from the middle of a plate to the farthest point of its rim
_HALF_THICKNESS_NM = (13.0, 16.0)
_STRENGTH = (1.9, 2.4)  # absorbance of a plate, membrane included
_BEND_NM = 40.0  # how far off the flat a plate may follow its membrane
_PAINTED = 0.7  # share of the thickness of a section, from which on it is painted
_PEN_NM = 12.0  # nothing thinner is painted
_LEAST_NM3 = 60_000.0  # a plate that fills less of the voxels is not seen
_STEEPEST = 0.45  # tilt of the membrane: a plate that lies flatter in the section is a smear that nobody could paint
_DARK_CELL = 0.5  # absorbance inside: glia make no synapses
_MARGIN_NM = 50.0  # from the middle of a plate to the border, in the plane
_APART_NM = 60.0  # between the rims of two plates: they never touch
_ROOM_NM = (150.0, 100.0, 50.0, 20.0)  # free presynaptic cell above a plate: as much as can be had
_TRIES = 3000  # places looked at for each amount of room
_TBAR = np.float32(1.6)  # absorbance of a T-bar
_TWO_TBARS_NM = 110.0  # the reach of a plate that has two


@dataclass(frozen=True)
class Plate:
    """Thick dark patch of membrane, and the voxels that it fills.

    Args:
        center_nm: Center z y x.
        normal: Unit vector into the presynaptic cell, z y x.
        cell: Presynaptic cell.
        reach_nm: Largest distance of its voxels from the center.
        index: Part of the stack that contains the plate.
        absorbance: Absorbance in that part, z y x.
        cleft: Mask that an annotator would paint in that part: well-filled voxels, one 26-connected component.
    """

    center_nm: Float
    normal: Float
    cell: int
    reach_nm: float
    index: Index
    absorbance: Float
    cleft: npt.NDArray[np.bool_]

    def above_nm(self, height_nm: float) -> Float:
        """Return the position at this height above the center, in the presynaptic cell."""
        return self.center_nm + np.float32(height_nm) * self.normal


def place_plates(cells: Cells, rng: np.random.Generator, count: int, taken: list[Plate]) -> list[Plate]:
    """Put plates on membranes, with room for a T-bar and vesicles on one side.

    Args:
        cells: Cells whose membranes are tried in random order.
        rng: Draws positions and sizes.
        count: Number of plates; fewer are placed when no membrane is left.
        taken: Plates to keep a distance from.
    """
    sections = cells.sections
    dy, dx = (int(_MARGIN_NM / v) for v in sections.voxel_size_nm[1:])
    inner = (slice(1, -1), slice(dy, -dy), slice(dx, -dx))
    upright = (cells.membrane_nm[inner] < sections.voxel_size_nm[1]) & (cells.tilt[inner] < _STEEPEST)
    neurons = np.maximum(cells.tone[cells.own[inner]], cells.tone[cells.other[inner]]) < _DARK_CELL
    found = np.flatnonzero(upright & neurons)
    plates: list[Plate] = []
    for room_nm in _ROOM_NM:
        for flat in rng.permutation(found)[:_TRIES]:
            if len(plates) == count:
                return plates
            z, y, x = (int(n) for n in np.unravel_index(flat, upright.shape))
            voxel = (z + 1, y + dy, x + dx)
            (center,) = sections.place_nm([voxel])
            reach = rng.uniform(*_REACH_NM)
            if any(np.linalg.norm(center - p.center_nm) < reach + p.reach_nm + _APART_NM for p in (*taken, *plates)):
                continue
            cell, other = rng.permutation([cells.own[voxel], cells.other[voxel]])
            normal = _normal(cells, center, cell, other)
            if _has_room(cells, cell, center + np.outer((room_nm, room_nm / 2, -15), normal)):
                plate = _form(cells, rng, cell, center, normal, reach)
                if np.count_nonzero(plate.cleft) * np.prod(sections.voxel_size_nm) > _LEAST_NM3:
                    plates.append(plate)
    return plates


def _normal(cells: Cells, center_nm: Float, cell: int, other: int) -> Float:
    """Return the unit vector z y x across the membrane between two cells, from `other` into `cell`."""
    index, offsets = cells.sections.around(center_nm, 60)
    near = np.stack(np.broadcast_arrays(*offsets))
    inside = [cells.own[index] == c for c in (cell, other)]
    # The centers of the two cells' parts of the box lie on opposite sides of the membrane.
    across = np.subtract(*((near * s).sum(axis=(1, 2, 3)) / max(1, np.count_nonzero(s)) for s in inside))
    return np.asarray(across / np.linalg.norm(across), np.float32)


def _has_room(cells: Cells, cell: int, places_nm: npt.ArrayLike) -> bool:
    """Return True when all positions but the last lie in the cell, and the last does not."""
    voxels, inside = cells.sections.voxels(places_nm)
    in_cell = cells.own[tuple(voxels.T)] == cell
    return bool(inside.all() and in_cell[:-1].all() and not in_cell[-1])


def _form(cells: Cells, rng: np.random.Generator, cell: int, center_nm: Float, normal: Float, reach_nm: float) -> Plate:
    """Draw the outline of a plate on the membrane of its presynaptic cell, and find the voxels that it fills."""
    wide, turn, half = reach_nm / 1.12, rng.uniform(0, np.pi), rng.uniform(*_HALF_THICKNESS_NM)
    narrow = wide * rng.uniform(0.6, 1.0)
    index, (dz, dy, dx) = cells.sections.around(center_nm, 1.2 * reach_nm)
    up, first, second = (n[0] * dz + n[1] * dy + n[2] * dx for n in frame(normal, turn))
    outline = 1 + 0.12 * np.cos(3 * np.arctan2(second, first) + 5 * turn)  # not quite an ellipse
    radius = np.hypot(first / wide, second / narrow) / outline  # 1 at the rim
    smear = cells.tilt[index] * cells.sections.thickness_nm
    depth = cells.depth_nm(cell, index)  # along all of the cell's membrane: it may bend, and meet several other cells
    # Not where the membrane turns away, or the cell's far side comes close.
    near = (dz**2 + dy**2 + dx**2 < reach_nm**2) & (np.abs(up) < _BEND_NM) & (cells.tilt[index] < 1.5 * _STEEPEST)
    filled = near * within(depth, half, smear) * np.clip((1 - radius) * wide / 10 + 0.5, 0, 1)
    pen = [1, *(max(1, round(_PEN_NM / v)) for v in cells.sections.voxel_size_nm[1:])]
    painted = ndimage.binary_opening(filled > _PAINTED, np.ones(pen, bool))
    cleft = cc3d.largest_k(painted, k=1, connectivity=26) > 0
    filled[(filled > _PAINTED) & ~cleft] = 0
    absorbance = np.float32(rng.uniform(*_STRENGTH)) * filled
    return Plate(center_nm, normal, cell, reach_nm, index, absorbance, cleft)


def draw_tbars(cells: Cells, rng: np.random.Generator, plate: Plate, absorbance: Float) -> None:
    """Add a T-bar, a pedestal on the plate and a thin platform on top, to the absorbance; two on a large plate."""
    height, width = rng.uniform(42, 58), rng.uniform(35, 55)
    apart_nm = 0.45 * plate.reach_nm if plate.reach_nm > _TWO_TBARS_NM else 0.0
    index, (dz, dy, dx) = cells.sections.around(plate.center_nm, plate.reach_nm + height)
    depth = cells.depth_nm(plate.cell, index)
    solid = np.zeros(depth.shape, np.float32)
    for part in (-1 / 3, 0, 1 / 3):  # three sheets through the section
        z = dz + np.float32(part * cells.sections.thickness_nm)
        _, first, second = (n[0] * z + n[1] * dy + n[2] * dx for n in frame(plate.normal, 0))
        aside = np.hypot(np.abs(first) - apart_nm, second) if apart_nm else np.hypot(first, second)
        pedestal = (depth > 0) & (depth < height) & (aside < 12 + 0.2 * np.abs(depth - height / 2))
        platform = (np.abs(depth - height) < 7) & (aside < width)
        solid += (pedestal | platform) / np.float32(3)
    absorbance[index] += _TBAR * solid
