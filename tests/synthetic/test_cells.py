import numpy as np
import pytest

from cleftnet.synthetic import cells as room
from cleftnet.synthetic.cells import Cells, grow_cells
from cleftnet.synthetic.sections import Sections


@pytest.fixture(scope="module")
def sections() -> Sections:
    return Sections((6, 90, 70), (40.0, 4.0, 4.0), np.zeros((6, 2), np.float32))


@pytest.fixture(scope="module")
def cells(sections: Sections) -> Cells:
    return grow_cells(sections, np.random.default_rng(0), 350)


def test_cells_and_membranes_are_those_of_the_power_diagram_of_all_seeds(
    sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_BENDS_NM", ())  # straight coordinates, so that it can be restated in a few lines
    cells = grow_cells(sections, np.random.default_rng(5), 300)
    seeds = room._chains(sections, np.random.default_rng(5), 300)
    voxels = np.argwhere(np.ones(sections.shape))[::97]
    apart = sections.place_nm(voxels)[:, None] - seeds.place_nm.T[None]
    power = (apart.astype(float) ** 2).sum(axis=2) - seeds.radius_nm.astype(float) ** 2
    nearest = power.argmin(axis=1)
    between = np.linalg.norm(seeds.place_nm.T[nearest][:, None] - seeds.place_nm.T[None], axis=2)
    foreign = seeds.cell[None] != seeds.cell[nearest][:, None]
    gap = np.where(foreign, (power - power.min(axis=1, keepdims=True)) / (2 * np.maximum(between, 1e-3)), np.inf)
    at = tuple(voxels.T)
    assert np.mean(cells.own[at] == seeds.cell[nearest]) > 0.998
    near = gap.min(axis=1) < 40  # as far as anything is drawn
    assert near.sum() > 100
    error = np.abs(cells.membrane_nm[at] - gap.min(axis=1))[near]
    assert np.mean(error < 0.1) > 0.99
    assert np.mean((cells.other[at] == seeds.cell[gap.argmin(axis=1)])[near]) > 0.99


def test_a_membrane_has_one_cell_on_either_side(cells: Cells) -> None:
    left, right = cells.own[:, :, :-1], cells.own[:, :, 1:]
    crossing = left != right
    assert crossing.any()
    distance = np.minimum(cells.membrane_nm[:, :, :-1], cells.membrane_nm[:, :, 1:])[crossing]
    assert np.quantile(distance, 0.95) < 4  # one pixel


def test_depth_is_positive_in_the_cell_and_negative_across_its_membrane(cells: Cells) -> None:
    cell = int(cells.own[3, 45, 35])
    everywhere = (slice(None), slice(None), slice(None))
    depth = cells.depth_nm(cell, everywhere)
    assert (depth[cells.own == cell] >= 0).all()
    beside = (cells.own != cell) & (cells.other == cell)
    assert (depth[beside] <= 0).all()
    assert np.isneginf(depth[(cells.own != cell) & (cells.other != cell)]).all()


def test_smaller_cells_have_more_membrane(sections: Sections) -> None:
    share = [
        np.mean(grow_cells(sections, np.random.default_rng(1), size).membrane_nm < 7) for size in (150.0, 300.0, 600.0)
    ]
    assert share[0] > share[1] > share[2] > 0
