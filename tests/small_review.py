"""A review that the tests of the viewer and of the napari plugin share."""

import numpy as np

import cleftnet
from cleftnet.volumes import PROBABILITY_NAME, Volume, write_volume

SIZE_NM, OFFSET_NM = (40.0, 4.0, 4.0), (80.0, 0.0, 40.0)
SHAPE = (6, 60, 80)


def small_review(folder, raw=None):
    """Make a review of two synapses and a component that the size filter left out; raw shows them unless it is given."""
    probability = np.full(SHAPE, 10, np.uint8)
    probability[1:3, 5:25, 5:45], probability[3:5, 40:55, 10:50], probability[2, 30:36, 60:70] = 230, 180, 200
    write_volume(Volume(probability + 9 if raw is None else raw, SIZE_NM, OFFSET_NM), folder / "raw.hdf")
    write_volume(Volume(probability, SIZE_NM, OFFSET_NM), folder / "out.hdf", default=PROBABILITY_NAME)
    settings = cleftnet.SynapseSettings(threshold=0.5, min_size_nm3=1e5)
    cleftnet.find_synapses(folder / "out.hdf", folder / "synapses", settings=settings)
    fewer = cleftnet.ReviewSettings(uncertain=1, random=1, missed=1, smallest_nm3=1e3)
    return cleftnet.make_review(folder / "synapses", folder / "looks", raw=folder / "raw.hdf", settings=fewer)
