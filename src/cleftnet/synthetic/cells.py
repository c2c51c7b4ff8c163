"""Divides the tissue into cells: bent tubes of many sizes, packed without gaps.

Cells are regions of a power diagram of seeds (Aurenhammer 1987: Voronoi with a radius per seed) in coordinates bent by
smooth noise; the seeds of a chain form one cell. Two seeds meet in a plane whose distance and tilt are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from cleftnet.synthetic.sections import Float, Index, Sections, SmoothNoise
from cleftnet.volumes import Array

_CELLS = 2.7  # in a cube of the cell size: most cells are thin
_SEEDS = 8  # in a cell's chain, in the mean
_TILE_NM = 24.0  # which seeds are near is looked up once a tile; how near they are is computed at each pixel
_NEAR = 14  # seeds looked up: the nearest are often of one chain, and its neighbors have to be among them
_FAR_NM = 300.0  # the distance to the membrane where none is among the seeds looked up
_FADE_NM = 16.0  # over which the tilt goes from one membrane's to the next one's
_THIN, _GLIA, _GLIA_TONE = 0.3, 0.3, (0.6, 1.3)  # of the thinner cells, so many are glia, so dark inside
_BENDS_NM = ((260.0, 45.0), (100.0, 18.0))  # scale and size of the noise that bends the coordinates


@dataclass(frozen=True)
class Cells:
    """Cell of each voxel and distance to its membrane; arrays z y x.

    Args:
        sections: Stack of sections.
        own: Cell that contains the voxel.
        other: Cell across the nearest membrane; -1 where no membrane is near.
        membrane_nm: Distance to the middle of that membrane.
        tilt: Change of that distance along z: 0 for an upright membrane, 1 for one in the plane of the section.
        tone: Absorbance of the inside of each cell, by its number; glia are dark.
    """

    sections: Sections
    own: npt.NDArray[np.int32]
    other: npt.NDArray[np.int32]
    membrane_nm: Float
    tilt: Float
    tone: Float

    def depth_nm(self, cell: int, index: Index) -> Float:
        """Return the depth of voxels in one cell in nm: negative outside, -inf where another cell is nearer."""
        own, other, distance = self.own[index], self.other[index], self.membrane_nm[index]
        return np.where(own == cell, distance, np.where(other == cell, -distance, np.float32(-np.inf)))


@dataclass(frozen=True)
class _Seeds:
    """Seeds of the power diagram: positions z y x (3, n), radii (n) and cells (n)."""

    place_nm: Float
    radius_nm: Float
    cell: npt.NDArray[np.int32]


def _chains(sections: Sections, rng: np.random.Generator, cell_size_nm: float) -> _Seeds:
    """Walk chains of seeds through the stack and a margin around it."""
    step, margin = cell_size_nm / 4, cell_size_nm
    extent = sections.extent_nm + 2 * margin
    count = max(2, round(float(np.prod(extent)) / cell_size_nm**3 * _CELLS))
    length = np.minimum(rng.geometric(1 / _SEEDS, count), 4 * _SEEDS)
    radius = step * rng.uniform(0.2, 2.0, count)
    at = rng.uniform(0, extent, (count, 3)) - margin
    heading = rng.standard_normal((count, 3))
    places, cells = [at], [np.arange(count)]
    for n in range(1, int(length.max())):
        heading = heading + 0.4 * rng.standard_normal((count, 3))
        at = at + step * heading / np.linalg.norm(heading, axis=1, keepdims=True)
        cells.append(np.flatnonzero(length > n))
        places.append(at[cells[-1]])
    cell = np.concatenate(cells).astype(np.int32)
    return _Seeds(np.concatenate(places).T.astype(np.float32), radius[cell].astype(np.float32), cell)


def grow_cells(sections: Sections, rng: np.random.Generator, cell_size_nm: float) -> Cells:
    """Divide the tissue of a stack into cells about `cell_size_nm` wide."""
    seeds = _chains(sections, rng, cell_size_nm)
    bends = [[(size, SmoothNoise(sections, rng, scale)) for scale, size in _BENDS_NM] for _ in range(3)]
    # A power distance is a Euclidean distance with one more coordinate, sqrt(largest radius² - radius²).
    lift = np.sqrt(seeds.radius_nm.max() ** 2 - seeds.radius_nm**2)
    tree = cKDTree(np.column_stack([*seeds.place_nm, lift]))
    planes = []
    for z in range(sections.shape[0]):
        at_z, at_y, at_x = sections.axes_nm(z)
        place_nm = list(np.broadcast_arrays(np.float32(at_z), at_y[:, None], at_x))
        for axis, bend in enumerate(bends):
            for size, noise in bend:
                place_nm[axis] = place_nm[axis] + size * noise.section(z)
        planes.append(_divide(place_nm, seeds, tree, sections.voxel_size_nm[2]))
    own, other, membrane_nm, tilt = (np.stack(arrays) for arrays in zip(*planes, strict=True))
    return Cells(sections, own, other, membrane_nm, tilt, _tones(seeds, rng))


def _tones(seeds: _Seeds, rng: np.random.Generator) -> Float:
    """Draw the absorbance of the inside of every cell; some thin cells are dark, like processes of glia."""
    count = int(seeds.cell.max()) + 1
    radius = np.zeros(count)
    radius[seeds.cell] = seeds.radius_nm
    glia = (radius < np.quantile(radius, _THIN)) & (rng.random(count) < _GLIA)
    tone = np.where(glia, rng.uniform(*_GLIA_TONE, count), np.maximum(0.25 + 0.07 * rng.standard_normal(count), 0.1))
    return tone.astype(np.float32)


def _divide(
    place_nm: list[Float], seeds: _Seeds, tree: cKDTree, pixel_nm: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Float, Float]:
    """Return `own`, `other`, `membrane_nm` and `tilt` of the pixels of one section, which lie at these places z y x."""
    shape = place_nm[0].shape
    side = max(1, round(_TILE_NM / pixel_nm))  # a tile is side × side pixels, looked up in its middle
    rows, columns = (np.minimum(np.arange(0, n, side) + side // 2, n - 1) for n in shape)
    nodes = np.stack([*(p[np.ix_(rows, columns)] for p in place_nm), np.zeros((len(rows), len(columns)))], axis=-1)
    near = np.asarray(tree.query(nodes, k=min(_NEAR, len(seeds.cell)))[1])

    def fine(tiles: Array) -> Array:
        return tiles.repeat(side, axis=0).repeat(side, axis=1)[: shape[0], : shape[1]]

    power = np.empty((near.shape[-1], *shape), np.float32)  # squared distance less squared radius, to every seed near
    for k, out in enumerate(power):
        seed = near[..., k]
        out[:] = -fine(seeds.radius_nm[seed] ** 2)
        for axis in range(3):
            out += (place_nm[axis] - fine(seeds.place_nm[axis, seed])) ** 2
    nearest = np.take_along_axis(fine(near), power.argmin(axis=0)[..., None], axis=-1)[..., 0]
    own, here, least = seeds.cell[nearest], seeds.place_nm[:, nearest], power.min(axis=0)
    other, tilt = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    distance = np.full(shape, _FAR_NM, np.float32)
    for k, more in enumerate(power):
        seed = near[..., k]
        apart = [fine(seeds.place_nm[axis, seed]) - here[axis] for axis in range(3)]
        length = np.sqrt(apart[0] ** 2 + apart[1] ** 2 + apart[2] ** 2) + np.float32(1e-3)
        gap = (more - least) / (2 * length)  # the distance to the plane where the two seeds meet
        cell = fine(seeds.cell[seed])
        closer = (cell != own) & (gap < distance)
        distance, other = np.where(closer, gap, distance), np.where(closer, cell, other)
        tilt = np.where(closer, np.abs(apart[0]) / length, tilt)
    return own, other, distance, ndimage.gaussian_filter(tilt, _FADE_NM / pixel_nm)
