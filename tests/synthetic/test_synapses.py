import cc3d
import numpy as np
import pytest

from cleftnet.synthetic.cells import Cells, grow_cells
from cleftnet.synthetic.sections import Sections
from cleftnet.synthetic.synapses import Plate, draw_tbars, place_plates


@pytest.fixture(scope="module")
def cells() -> Cells:
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 4, (16, 2)).astype(np.float32)
    return grow_cells(Sections((16, 160, 160), (40.0, 4.0, 4.0), shift), rng, 350)


@pytest.fixture(scope="module")
def plates(cells: Cells) -> list[Plate]:
    return place_plates(cells, np.random.default_rng(1), 6, [])


def test_there_are_as_many_plates_as_were_asked_for(plates: list[Plate]) -> None:
    assert len(plates) == 6


def test_clefts_lie_along_membranes(cells: Cells, plates: list[Plate]) -> None:
    for plate in plates:
        assert cells.membrane_nm[plate.index][plate.cleft].max() < 30


def test_clefts_are_in_one_piece_and_wide_as_clefts_are(cells: Cells, plates: list[Plate]) -> None:
    for plate in plates:
        assert cc3d.connected_components(plate.cleft, connectivity=26).max() == 1
        places = cells.sections.place_nm(np.argwhere(plate.cleft) + [s.start for s in plate.index])
        spread = np.linalg.norm(places - plate.center_nm, axis=1)
        assert 30 < spread.max() <= plate.reach_nm


def test_clefts_stay_apart_from_each_other_and_from_those_taken(cells: Cells, plates: list[Plate]) -> None:
    every = [*plates, *place_plates(cells, np.random.default_rng(2), 4, plates)]
    painted = np.zeros(cells.own.shape, int)
    for plate in every:
        painted[plate.index] += plate.cleft
    assert painted.max() == 1
    assert cc3d.connected_components(painted, connectivity=26).max() == len(every) == 10


def test_the_normal_points_into_the_presynaptic_cell(cells: Cells, plates: list[Plate]) -> None:
    for plate in plates:
        (above, below), _ = cells.sections.voxels([plate.above_nm(20), plate.above_nm(-20)])
        assert cells.own[tuple(above)] == plate.cell != cells.own[tuple(below)]


def test_tbars_stand_in_the_presynaptic_cell_alone(cells: Cells, plates: list[Plate]) -> None:
    for plate in plates:
        absorbance = np.zeros(cells.own.shape, np.float32)
        draw_tbars(cells, np.random.default_rng(3), plate, absorbance)
        assert np.unique(cells.own[absorbance > 0]).tolist() == [plate.cell]


def test_no_membrane_gives_no_plate() -> None:
    sections = Sections((8, 64, 64), (40.0, 4.0, 4.0), np.zeros((8, 2), np.float32))
    one, far = np.zeros(sections.shape, np.int32), np.full(sections.shape, 300, np.float32)
    assert (
        place_plates(Cells(sections, one, one - 1, far, 0 * far, np.float32([0.3])), np.random.default_rng(0), 3, [])
        == []
    )
