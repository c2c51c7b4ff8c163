"""Generates a volume from a seed: cells, organelles, synapses and distractors, then the image.

Darkness alone does not identify clefts: plates without a synapse, dense bodies, glia and T-bars are as dark, or darker.
A cleft is a thick dark plate on a membrane with a T-bar and vesicles on one side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.settings import Settings
from cleftnet.synthetic.cells import Cells, grow_cells
from cleftnet.synthetic.microscope import expose
from cleftnet.synthetic.organelles import draw_dense_body, draw_mitochondrion, draw_reticulum, draw_vesicles
from cleftnet.synthetic.sections import Float, Sections, within
from cleftnet.synthetic.synapses import Plate, draw_tbars, place_plates
from cleftnet.volumes import Volume

_SMALLEST_NM = (320.0, 256.0, 256.0)  # 8×64×64 voxels of 40×4×4 nm: room for one synapse
_LARGEST_VOXEL_NM = (100.0, 12.0, 12.0)  # a plate is at least 24 nm thick
_MEMBRANE_HALF_NM, _MEMBRANE = 7.0, np.float32(1.2)  # two membranes and what is between them, one dark line
_DARKER = 1.4  # distractor plates over true ones: the darkest membrane is no synapse
_PLATES, _CLOUDS, _BODIES = 0.25, 0.5, 1.0  # of every kind of distractor, for each distractor asked for
_CLEAR_NM = 220.0  # from the middle of a synapse to the middle of what else there is in cells
_ATTEMPTS = 20


class SyntheticSettings(Settings):
    """Properties of the synthetic tissue and of the microscope.

    Attributes:
        cell_size_nm: Approximate width of a cell.
        synapses_per_um3: Density of synapses; a volume has at least one.
        cleft_darkness: Factor on the absorbance of clefts. Up to about 1.3 some distractors are darker; from 2 on nothing
            else is as dark, so that clefts are found without learning.
        distractors_per_synapse: 1 adds a dense body, half a vesicle cloud and a quarter of a plate without a synapse for
            each synapse.
        mitochondria_per_um3: Density of mitochondria, as far as cells are wide enough.
        misalignment_nm: Standard deviation of the position of a section in the plane, y and x.
        contrast: Relative standard deviation of brightness and contrast between sections.
        noise: Standard deviation of the shot noise at full brightness, as a share of white.
        defect_probability: Probability that a section has a dark stain, hardly any contrast, or is lost (black).
    """

    cell_size_nm: float = Field(default=350.0, ge=100, le=800)
    synapses_per_um3: float = Field(default=16.0, gt=0, le=40)
    cleft_darkness: float = Field(default=1.0, gt=0, le=4)
    distractors_per_synapse: float = Field(default=1.0, ge=0, le=5)
    mitochondria_per_um3: float = Field(default=5.0, ge=0, le=20)
    misalignment_nm: float = Field(default=4.0, ge=0, le=30)
    contrast: float = Field(default=0.05, ge=0, le=0.3)
    noise: float = Field(default=0.07, ge=0, le=0.5)
    defect_probability: float = Field(default=0.03, ge=0, le=1)


_DEFAULTS = SyntheticSettings()


class Synthetic(NamedTuple):
    """Synthetic volume: `raw` uint8, dark where stained; `labels` uint64, cleft ids 1 to n, background 0."""

    raw: Volume
    labels: Volume


def synthetic_volume(
    shape: Sequence[int] = (32, 256, 256),
    *,
    seed: int = 0,
    settings: SyntheticSettings = _DEFAULTS,
    voxel_size_nm: FloatZYX = (40.0, 4.0, 4.0),
) -> Synthetic:
    """Generate a volume that resembles ssTEM of a fly's brain, and its cleft labels.

    Sizes are physical, so another voxel size shows the same kind of tissue. Needs about 30 bytes of memory per voxel.

    Args:
        shape: Size z y x in voxels.
        seed: The same seed and settings give the same bytes on one machine.
        settings: Properties of tissue and microscope.
        voxel_size_nm: Voxel size z y x.

    Raises:
        InputError: when the volume is too small for a synapse, the voxels are too large to show one, or the cells are so
            large that no membrane in the volume has room for one.

    Example:
        >>> raw, labels = synthetic_volume((8, 96, 96), seed=1)
        >>> raw.shape, raw.dtype.name, labels.dtype.name, raw.voxel_size_nm, bool(labels.read().any())
        ((8, 96, 96), 'uint8', 'uint64', (40.0, 4.0, 4.0), True)
    """
    size = _checked(shape, voxel_size_nm)
    # One generator a stage: other noise leaves the cells where they are.
    tissue, synapses, distractors, contents, microscope = np.random.default_rng(seed).spawn(5)
    drift = settings.misalignment_nm * tissue.standard_normal((size[0], 2), np.float32)
    sections = Sections(size, voxel_size_nm, drift)
    count = max(1, round(settings.synapses_per_um3 * sections.volume_um3))
    for _ in range(_ATTEMPTS):
        cells = grow_cells(sections, tissue, settings.cell_size_nm)
        plates = place_plates(cells, synapses, count, [])
        if plates:
            break
    else:
        raise InputError(
            f"no membrane for a synapse in {_text(size)} voxels with cells of {settings.cell_size_nm:g} nm; "
            f"use a larger shape or a smaller cell_size_nm"
        )
    absorbance = _cytoplasm(cells)
    _draw_organelles(cells, contents, plates, settings.mitochondria_per_um3, absorbance)
    _draw_distractors(cells, distractors, plates, settings.distractors_per_synapse * len(plates), absorbance)
    labels = np.zeros(size, np.uint64)
    for cleft_id, plate in enumerate(plates, start=1):
        labels[plate.index][plate.cleft] = cleft_id
        _stain(absorbance, plate, settings.cleft_darkness)
        draw_tbars(cells, synapses, plate, absorbance)
        draw_vesicles(cells, synapses, plate.above_nm(90), synapses.uniform(170, 260), absorbance)
    raw = expose(
        sections,
        microscope,
        absorbance,
        noise=settings.noise,
        contrast=settings.contrast,
        defects=settings.defect_probability,
    )
    return Synthetic(
        Volume(raw, voxel_size_nm, address=f"synthetic raw, seed {seed}"),
        Volume(labels, voxel_size_nm, address=f"synthetic labels, seed {seed}"),
    )


def _text(shape: Sequence[float]) -> str:
    return "×".join(f"{n:g}" for n in shape) + " (z×y×x)"


def _checked(shape: Sequence[int], voxel_size_nm: FloatZYX) -> IntZYX:
    """Return the shape; raise when it or the voxels cannot show a synapse."""
    if len(voxel_size_nm) != 3 or not all(0 < v <= m for v, m in zip(voxel_size_nm, _LARGEST_VOXEL_NM, strict=True)):
        raise InputError(
            f"voxel size {_text(voxel_size_nm)} nm cannot show a synapse; use three positive sizes up to "
            f"{_text(_LARGEST_VOXEL_NM)} nm, such as 40×4×4"
        )
    smallest = [math.ceil(n / v) for n, v in zip(_SMALLEST_NM, voxel_size_nm, strict=True)]
    if len(shape) != 3 or any(n < m for n, m in zip(shape, smallest, strict=True)):
        raise InputError(
            f"shape {_text(shape)} is too small for a synapse; use at least {_text(smallest)} voxels of "
            f"{_text(voxel_size_nm)} nm"
        )
    z, y, x = shape
    return int(z), int(y), int(x)


def _cytoplasm(cells: Cells) -> Float:
    """Return the absorbance of cells and membranes alone."""
    membrane = within(cells.membrane_nm, _MEMBRANE_HALF_NM, cells.tilt * cells.sections.thickness_nm)
    return np.asarray(cells.tone[cells.own] + _MEMBRANE * membrane, np.float32)


def _places_inside(cells: Cells, rng: np.random.Generator, depth_nm: float, count: float, plates: list[Plate]) -> Float:
    """Return random positions (n, 3) z y x, at least `depth_nm` from membranes and away from plates; maybe none."""
    free = cells.membrane_nm > depth_nm
    for plate in plates:
        index, (dz, dy, dx) = cells.sections.around(plate.center_nm, _CLEAR_NM)
        free[index] &= dz**2 + dy**2 + dx**2 > _CLEAR_NM**2
    found = np.flatnonzero(free)
    chosen = rng.choice(found, round(count)) if len(found) else found
    return cells.sections.place_nm(np.column_stack(np.unravel_index(chosen, free.shape)))


def _stain(absorbance: Float, plate: Plate, strength: float) -> None:
    """Draw a plate in place of the membrane."""
    part = absorbance[plate.index]
    np.maximum(part, np.float32(strength) * plate.absorbance, out=part)


def _draw_organelles(
    cells: Cells, rng: np.random.Generator, plates: list[Plate], mitochondria_per_um3: float, absorbance: Float
) -> None:
    """Add reticulum and mitochondria."""
    draw_reticulum(cells, rng, absorbance)
    for place in _places_inside(cells, rng, 80, mitochondria_per_um3 * cells.sections.volume_um3, plates):
        draw_mitochondrion(cells, rng, place, absorbance)


def _draw_distractors(
    cells: Cells, rng: np.random.Generator, plates: list[Plate], count: float, absorbance: Float
) -> None:
    """Add distractors: dense bodies, plates without T-bar and vesicles, and vesicles without a plate."""
    for place in _places_inside(cells, rng, 30, _BODIES * count, plates):
        draw_dense_body(cells.sections, rng, place, absorbance)
    for plate in place_plates(cells, rng, round(_PLATES * count), plates):
        _stain(absorbance, plate, _DARKER)
    for place in _places_inside(cells, rng, 45, _CLOUDS * count, plates):
        draw_vesicles(cells, rng, place, rng.uniform(150, 260), absorbance)
