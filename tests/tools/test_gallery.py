"""The pictures of the gallery: which synapses are shown, and where."""

import sys

import numpy as np
import pytest

from cleftnet.volumes import PROBABILITY_NAME, Volume, write_cremi, write_volume
from tools import gallery
from tools.gallery import Spot, spots, window


def test_a_synapse_counts_as_found_where_a_voxel_is_shared():
    truth, predicted = np.zeros((2, 2, 20, 20), bool)
    truth[0, 2:5, 2:5] = predicted[0, 4:8, 4] = True  # found
    truth[1, 12:16, 12:16] = True  # missed
    predicted[1, 0, 10:13] = True  # false
    assert spots(truth, predicted) == {
        "found": [Spot(9, 0, 3, 3)],
        "missed": [Spot(16, 1, 14, 14)],
        "false": [Spot(3, 1, 0, 11)],
    }


def test_the_largest_come_first():
    predicted = np.zeros((1, 9, 9), bool)
    predicted[0, 0, :2] = predicted[0, 4, :5] = True
    assert [spot.voxels for spot in spots(np.zeros_like(predicted), predicted)["false"]] == [5, 2]


@pytest.mark.parametrize(("middle", "start"), [(0, 0), (50, 40), (99, 80)])
def test_a_window_stays_within_the_volume(middle, start):
    assert window(Spot(1, 0, middle, middle), (100, 100), side=20) == (slice(start, start + 20),) * 2


def test_a_prediction_of_a_part_is_drawn_at_its_place(tmp_path, monkeypatch, capsys):
    """The part begins at row 170 of the volume, as its offset in nm says."""
    raw, labels = np.full((2, 340, 170), 200, np.uint8), np.zeros((2, 340, 170), np.uint64)
    labels[1, 200:210, 50:60] = 1
    size = (40, 4, 4)
    write_cremi(tmp_path / "truth.hdf", raw=Volume(raw, size), clefts=Volume(labels, size))
    part = Volume(np.where(labels[:, 170:] > 0, 255, 0).astype(np.uint8), size, offset_nm=(0, 680, 0))
    write_volume(part, tmp_path / "part.hdf", default=PROBABILITY_NAME)
    monkeypatch.setattr(sys, "argv", ["gallery", f"{tmp_path}/part.hdf", f"{tmp_path}/truth.hdf", f"{tmp_path}/out"])
    gallery.main()
    assert "found-1.png: 100 voxels, section 1, y 204, x 54" in capsys.readouterr().out
    assert (tmp_path / "out/found-1.png").is_file()
    assert not list((tmp_path / "out").glob("missed-*"))
