import numpy as np
import pytest

from cleftnet.reporting import Entry, Scene, ScenePrediction
from cleftnet.reporting.curves import plots
from cleftnet.reporting.entry_scores import score_entry
from cleftnet.volumes import Volume

SIZE_NM = (40.0, 4.0, 4.0)


def scene(true, predicted):
    """One row of 20 pixels: true and predicted clefts as half-open ranges."""
    truth, probability = np.zeros((1, 1, 20), np.uint64), np.zeros((1, 1, 20), np.uint8)
    truth[0, 0, slice(*true)] = 1
    probability[0, 0, slice(*predicted)] = 255
    return Scene("s", Volume(probability, SIZE_NM), Volume(truth, SIZE_NM)), ScenePrediction(
        Volume(probability, SIZE_NM)
    )


@pytest.fixture
def scored():
    """One scene is perfect (4 voxels), the other off by one pixel (2 of 3 right)."""
    pairs = [scene((2, 6), (2, 6)), scene((2, 5), (3, 6))]
    entry = Entry("e", "E", tuple(prediction for _, prediction in pairs), 0.5)
    return entry, score_entry(entry, [s for s, _ in pairs])


def test_voxels_and_clefts_are_counted_over_all_scenes(scored):
    counts = scored[1].counts
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (6, 1, 1)
    assert scored[1].histogram.counts(0.5) == counts
    objects = scored[1].clefts
    assert (objects.true, objects.predicted, objects.matched, objects.splits, objects.merges) == (2, 2, 2, 0, 0)
    assert sum(found.right for found in objects.by_size) == 2


def test_the_cremi_score_is_the_mean_over_scenes(scored):
    """0 nm, and (4/3 + 4/3) / 2 nm: one of three voxels lies one pixel off, both ways."""
    assert scored[1].scores["cremi_score"] == pytest.approx(2 / 3)
    assert scored[1].cremi_at[0.5] == pytest.approx(2 / 3)


def test_a_model_without_a_history_has_the_curves_of_its_scores_alone(scored):
    assert [plot.title for plot in plots([scored])] == [
        "Precision and recall",
        "ROC",
        "Threshold sweep",
        "CREMI score over the threshold",
    ]
