"""Right, false and missed clefts as volumes: the same counts as the scores, and the same voxels as the labels."""

import itertools

import numpy as np
import pytest

from cleftnet.metrics.evaluation import evaluate
from cleftnet.viewing import cleft_errors
from cleftnet.viewing.cleft_errors import SparseLabels, find_cleft_errors
from cleftnet.volumes import INVALID, Volume

SIZE_NM = (40.0, 4.0, 4.0)


def blocks(shape, seed, number=12):
    """Labels of random blocks."""
    rng, labels = np.random.default_rng(seed), np.zeros(shape, np.uint64)
    for one in range(1, number + 1):
        z, y, x = (rng.integers(0, n - 3) for n in shape)
        labels[z : z + 2, y : y + rng.integers(2, 6), x : x + rng.integers(2, 8)] = 10 * one
    return labels


def test_sparse_labels_read_as_the_dense_ones():
    labels = blocks((7, 20, 31), 0)
    index = np.flatnonzero(labels)
    sparse = SparseLabels(index, labels.ravel()[index], labels.shape)
    cuts = [(0, n // 3, n // 3 + 1, n) for n in labels.shape]
    for z, y, x in itertools.product(*(itertools.combinations(cut, 2) for cut in cuts)):
        part = tuple(slice(*ends) for ends in (z, y, x))
        np.testing.assert_array_equal(sparse[part], labels[part])


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_the_scores(seed, monkeypatch):
    predicted, truth = blocks((9, 40, 50), seed), blocks((9, 40, 50), seed + 100)
    truth[:, 30:, :9] = INVALID
    whole = cleft_errors.slabs
    monkeypatch.setattr(cleft_errors, "slabs", lambda box: whole(box, max_voxels=500, chunk=(2, 8, 16)))
    found = find_cleft_errors(Volume(predicted, SIZE_NM), Volume(truth, SIZE_NM))
    scores = evaluate(predicted, truth, voxel_size_nm=SIZE_NM).objects
    assert len(found.true_positives.ids) == scores.matched > 0
    assert len(found.false_positives.ids) == scores.predicted - scores.matched > 0
    assert len(found.false_negatives.ids) == scores.true - scores.matched > 0


def test_each_cleft_is_drawn_where_it_lies():
    predicted, truth = np.zeros((4, 10, 20), np.uint32), np.zeros((4, 10, 20), np.uint64)
    predicted[1, 2:4, 2:6], predicted[2, 6:8, 10:13] = 7, 8
    truth[1, 3:5, 2:6], truth[3, 8:9, 15:18] = 1, 2
    found = find_cleft_errors(Volume(predicted, SIZE_NM), Volume(truth, SIZE_NM))
    drawn = (found.true_positives, found.false_positives, found.false_negatives)
    for one, labels, cleft in zip(drawn, (predicted, predicted, truth), (7, 8, 2), strict=True):
        assert one.ids.tolist() == [cleft]
        np.testing.assert_array_equal(one.volume.read(), np.where(labels == cleft, labels, 0))
    assert found.false_negatives.centers_nm.tolist() == [[120, 32, 64]]
    assert found.false_negatives.volumes_nm3.tolist() == [3 * 640]


def test_a_prediction_of_a_part_is_compared_there():
    truth = np.zeros((4, 10, 20), np.uint64)
    truth[1, 2:4, 2:6], truth[2, 6:8, 12:16] = 1, 2
    part = Volume(truth[1:3, 5:9, 10:18] * 5, SIZE_NM, (40, 20, 40))
    found = find_cleft_errors(part, Volume(truth, SIZE_NM))
    assert found.true_positives.ids.tolist() == [10]
    assert found.true_positives.volume.offset_nm == (40, 20, 40)
    assert found.true_positives.centers_nm.tolist() == [[80, 26, 54]]
    assert found.false_negatives.ids.size == 0


def test_masks_are_taken_apart_into_their_components():
    predicted, truth = np.zeros((3, 10, 20), np.bool_), np.zeros((3, 10, 20), np.uint64)
    predicted[1, 2:4, 2:6] = predicted[1, 7:9, 12:16] = True
    truth[1, 2:4, 2:6] = truth[2, 2:4, 12:16] = 1
    found = find_cleft_errors(Volume(predicted, SIZE_NM), Volume(truth, SIZE_NM))
    assert [len(one.ids) for one in (found.true_positives, found.false_positives, found.false_negatives)] == [1, 1, 1]
