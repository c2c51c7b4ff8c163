"""Draws mitochondria, vesicles, dense bodies and endoplasmic reticulum; many are as dark as a cleft."""

from __future__ import annotations

import numpy as np

from cleftnet.synthetic.cells import Cells
from cleftnet.synthetic.sections import Float, Sections, SmoothNoise, frame, within

_VESICLE_NM = (16.0, 21.0)  # outer radius
_VESICLE_WALL_NM = 6.0
_VESICLE_SPACING_NM = 42.0
_VESICLE_MEMBRANE = np.float32(0.042)  # absorbance of a nm of vesicle membrane
_MITOCHONDRION_NM = (70.0, 110.0)  # smaller radius
_CRISTAE_NM = 34.0  # from one to the next
_DENSE_BODY_NM = (25.0, 85.0)  # radius


def draw_vesicles(
    cells: Cells, rng: np.random.Generator, center_nm: Float, radius_nm: float, absorbance: Float
) -> None:
    """Add a cloud of vesicles inside one cell, clear of membranes and organelles; sections show them as rings.

    Args:
        cells: Cells of the tissue.
        rng: Draws the vesicles.
        center_nm: Center of the cloud, z y x; its cell contains all vesicles.
        radius_nm: Radius of the cloud, which thins out towards its edge.
        absorbance: Changed in place, z y x.
    """
    sections = cells.sections
    steps = np.arange(-radius_nm, radius_nm, _VESICLE_SPACING_NM)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = lattice + rng.uniform(-0.35, 0.35, lattice.shape) * _VESICLE_SPACING_NM
    keep = rng.random(len(offsets)) < 2.0 * (1 - np.linalg.norm(offsets, axis=1) / radius_nm)
    places = center_nm + offsets[keep]
    outer = rng.uniform(*_VESICLE_NM, len(places))
    voxels, inside = sections.voxels(places)
    at = tuple(voxels.T)
    (center,), _ = sections.voxels(center_nm[None])
    cell = cells.own[tuple(center)]
    free = inside & (cells.own[at] == cell) & (cells.membrane_nm[at] > outer + 8)
    if not free.any():
        return
    free &= absorbance[at] < np.median(absorbance[at][free]) + 0.25
    reach_y, reach_x = (int(np.ceil(_VESICLE_NM[1] / v)) for v in sections.voxel_size_nm[1:])
    for (z, y, x), place, radius in zip(voxels[free], places[free], outer[free], strict=True):
        window = (z, slice(max(0, y - reach_y), y + reach_y + 1), slice(max(0, x - reach_x), x + reach_x + 1))
        _, rows, columns = sections.axes_nm(z)
        away = (rows[window[1], None] - place[1]) ** 2 + (columns[window[2]] - place[2]) ** 2
        chord, lumen = (np.sqrt(np.maximum(r**2 - away, 0)) for r in (radius, radius - _VESICLE_WALL_NM))
        absorbance[window] += 2 * _VESICLE_MEMBRANE * (chord - lumen)


def draw_mitochondrion(cells: Cells, rng: np.random.Generator, center_nm: Float, absorbance: Float) -> None:
    """Add a mitochondrion that fits its cell: a double membrane, a gray matrix, and dark cristae."""
    sections = cells.sections
    small = rng.uniform(*_MITOCHONDRION_NM)
    radii = (small * rng.uniform(1.5, 3), small, small * rng.uniform(0.8, 1.2))
    index, offsets = sections.around(center_nm, max(radii))
    axes = frame(rng.standard_normal(3) * (0.4, 1, 1), rng.uniform(0, np.pi))  # most lie in the section
    along, *across = (sum(n * o for n, o in zip(axis, offsets, strict=True)) for axis in axes)
    size = np.sqrt(sum(np.square(w / r) for w, r in zip((along, *across), radii, strict=True)))
    cell = int(cells.own[tuple(sections.voxels(center_nm[None])[0][0])])
    depth = np.minimum((1 - size) * small, cells.depth_nm(cell, index) - 22)  # from its surface inwards
    smear = np.full_like(depth, 6)
    wall = within(depth - 5, 4, smear) + within(depth - 18, 3.5, smear)
    wave = 2 * np.sin(along / 90 + across[0] / 50) + np.sin(across[1] / 35 + along / 60)
    cristae = np.clip(2 * np.cos(2 * np.pi * along / _CRISTAE_NM + wave) - 0.8, 0, 1) * np.clip(depth / 8 - 2.5, 0, 1)
    absorbance[index] += 0.35 * np.clip(depth / 4 + 0.5, 0, 1) + 0.8 * wall + 0.7 * cristae


def draw_dense_body(sections: Sections, rng: np.random.Generator, center_nm: Float, absorbance: Float) -> None:
    """Add a dark lump: a dense-core vesicle or a lysosome."""
    radius = rng.uniform(*_DENSE_BODY_NM)
    index, (dz, dy, dx) = sections.around(center_nm, 1.5 * radius)
    depth = radius - np.sqrt(dz**2 + (rng.uniform(0.8, 1.2) * dy) ** 2 + dx**2)
    absorbance[index] += rng.uniform(2.8, 4.0) * np.clip(depth / 12 + 0.5, 0, 1)


def draw_reticulum(cells: Cells, rng: np.random.Generator, absorbance: Float) -> None:
    """Add endoplasmic reticulum: thin folded sheets in parts of the cells, where a smooth field is zero."""
    fold, amount = SmoothNoise(cells.sections, rng, 90), SmoothNoise(cells.sections, rng, 220)
    for z, plane in enumerate(absorbance):
        there = np.clip(2 * amount.section(z) - 1, 0, 1) * np.clip(cells.membrane_nm[z] / 15 - 1.5, 0, 1)
        plane += 0.7 * there * np.exp(-np.square(fold.section(z) / 0.12))
