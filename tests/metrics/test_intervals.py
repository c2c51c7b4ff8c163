"""Sums over the territories of true clefts are the scores of the whole; draws and the intervals that they give."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import evaluate
from cleftnet.metrics.intervals import Interval, draw, draw_runs, interval, nested_sums, territories
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.volumes import INVALID, Volume

SIZE_NM = (40.0, 4.0, 4.0)


def row(*values, dtype=np.uint64):
    return np.array([[values]], dtype)


def of(predicted, labels, objects=None):
    predicted = np.asarray(predicted, bool)
    ids = predicted.astype(np.uint64) if objects is None else objects
    return territories(predicted, ids, labels, np.ones(int((labels != 0).sum())), SIZE_NM)


def test_a_false_positive_belongs_to_the_nearest_cleft():
    labels = row(7, 0, 0, 0, 0, 0, 3)
    three, seven = of(row(1, 0, 1, 0, 1, 1, 1), labels, row(1, 0, 2, 0, 3, 3, 3))
    assert (seven.cleft, seven.true_positives, seven.false_positives, seven.adgt_sum) == (7, 1, 1, 8.0)
    assert (three.cleft, three.true_positives, three.false_positives, three.adgt_sum) == (3, 1, 2, 12.0)


def test_nearest_is_in_nm_and_not_in_voxels():
    labels, predicted = np.zeros((3, 1, 6), np.uint64), np.zeros((3, 1, 6), bool)
    labels[0, 0, 0], labels[1, 0, 5], predicted[1, 0, 0] = 1, 2, True  # one section away, 40 nm; five pixels, 20 nm
    one, two = of(predicted, labels)
    assert (one.false_positives, two.false_positives, two.adgt_sum) == (0, 1, 20.0)


def test_an_object_belongs_where_most_of_its_voxels_lie_and_is_matched_once():
    labels = row(1, 1, 1, 0, 0, 0, 2, 2, 2)
    objects = row(5, 5, 5, 5, 5, 5, 5, 0, 0)  # over both clefts, most of it on the first
    one, two = of(objects > 0, labels, objects)
    assert (one.predicted, one.matched, two.predicted, two.matched) == (1, True, 0, False)


def test_ranks_are_summed_up_for_the_cleft_of_their_voxels():
    """Ranks come in raster order and clefts by ascending id: 7 has the first two voxels, 3 the last."""
    labels = row(7, 7, 0, 3)
    three, seven = territories(labels > 0, labels, labels, np.array([0.125, 0.25, 1.0]), SIZE_NM)
    assert (seven.rank_sum, three.rank_sum) == (0.375, 1.0)


def test_without_a_prediction_distances_to_it_are_not_defined():
    (only,) = of(row(0, 0, 0), row(0, 4, 4))
    assert (only.adf_sum, only.adgt_sum, only.false_negatives, only.predicted) == (None, 0.0, 2, 0)


def test_unlabelled_voxels_are_in_no_sum():
    labels = row(4, 0, INVALID, 0)
    (only,) = territories(row(1, 0, 1, 0) > 0, row(1, 0, 2, 0), labels, np.ones(1), SIZE_NM)
    assert (only.true_positives, only.false_positives, only.predicted) == (1, 0, 1)


def test_the_only_object_is_one_though_unlabelled_voxels_part_it():
    labels = row(1, 0, 2, INVALID, 0)
    objects = row(1, 1, 1, 0, 1)
    found = territories(objects > 0, objects, labels, np.ones(2), SIZE_NM)
    assert sum(t.predicted for t in found) == 1


def test_labels_without_a_cleft_are_refused():
    with pytest.raises(InputError, match="no true cleft"):
        of(row(1, 0), row(0, 0))


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="differ"):
        of(row(1, 0), row(1, 0, 0))


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint8, (3, 7, 8), elements=st.sampled_from([0, 0, 0, 90, 160, 255])),
    arrays(np.uint64, (3, 7, 8), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 5, INVALID])),
)
def test_sums_over_all_clefts_give_the_scores_of_evaluate(probability, labels):
    labels[0, 0, :3] = 1, 0, 2
    probability[0, 0, 0] = 255  # something is predicted where it counts
    result = evaluate(Volume(probability, SIZE_NM), Volume(labels, SIZE_NM), threshold=0.5)
    predicted, valid = probability >= 128, labels != INVALID
    objects = np.where(valid, cc3d.connected_components(predicted.astype(np.uint8), connectivity=26), 0)
    cleft = valid & (labels != 0)
    ranks = ScoreHistogram.of(probability, cleft, valid).ranks(probability[cleft])
    found = territories(predicted, objects, labels, ranks, SIZE_NM)

    def total(name):
        return sum(getattr(t, name) for t in found)

    counts = result.scores.counts
    assert total("true_positives") == counts.true_positives
    assert total("false_positives") == counts.false_positives
    assert total("false_negatives") == counts.false_negatives
    assert total("adgt_sum") / counts.predicted == pytest.approx(result.scores.distances.adgt)
    assert total("adf_sum") / counts.true == pytest.approx(result.scores.distances.adf)
    assert total("rank_sum") / counts.true == pytest.approx(result.auc)
    assert (len(found), total("predicted"), total("matched")) == (
        result.objects.true,
        result.objects.predicted,
        result.objects.matched,
    )


def test_every_draw_takes_from_each_group_as_many_as_it_has():
    taken = draw([4, 1, 7], draws=100)
    assert taken.shape == (100, 12)
    for columns, size in ((slice(0, 4), 4), (slice(4, 5), 1), (slice(5, 12), 7)):
        assert (taken[:, columns].sum(1) == size).all()


def test_every_item_is_taken_once_on_average_and_as_often_as_a_die_would():
    taken = draw([10], draws=20_000)
    assert taken.mean(0) == pytest.approx(np.ones(10), abs=0.03)
    assert np.mean(taken == 0) == pytest.approx(0.9**10, abs=0.01)  # 0.35 of the items are left out


def test_the_same_seed_draws_the_same():
    assert np.array_equal(draw([5], 50, seed=3), draw([5], 50, seed=3))
    assert not np.array_equal(draw([5], 50, seed=3), draw([5], 50, seed=4))


def test_the_interval_of_a_mean_of_normals_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = interval(draw([400]) @ values / 400)
    expected = norm.interval(0.95, values.mean(), values.std() / 20)
    assert found == pytest.approx(expected, abs=0.02)


def test_the_interval_holds_the_true_mean_in_about_95_of_100_samples():
    rng, taken = np.random.default_rng(1), draw([60], 1000)
    hits = [interval(taken @ rng.normal(0, 1, 60) / 60).holds(0) for _ in range(400)]
    assert 0.91 < np.mean(hits) < 0.97


def test_the_middle_95_of_100_are_what_is_left_without_two_and_a_half_at_each_end():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


def test_an_interval_holds_its_ends():
    assert Interval(0, 1).holds(0)
    assert not Interval(1e-9, 1).holds(0)


def test_a_few_undefined_draws_are_left_out_and_many_leave_no_interval():
    values = np.arange(1000.0)
    values[:40] = np.nan
    assert interval(values) is not None
    values[:60] = np.nan
    assert interval(values) is None


@pytest.mark.parametrize(("sizes", "draws"), [([], 10), ([3, 0], 10), ([3], 0)])
def test_nothing_to_draw_from_is_refused(sizes, draws):
    with pytest.raises(InputError, match="expected at least one of each"):
        draw(sizes, draws)


def covered(runs, *, synapses=37, folds=4, worlds=400, between_runs=1.0, between_synapses=1.0):
    """How often the interval of a difference of two methods that are equally good holds 0, over many simulated worlds.

    Every synapse is as hard for both; every training of a fold has a luck of its own; single results are noisy.
    """
    rng = np.random.default_rng(runs)
    fold = np.arange(synapses) % folds
    taken = draw([synapses], draws=400)
    holds = 0
    for world in range(worlds):
        hard = between_synapses * rng.standard_normal((1, synapses))
        means = []
        for method in range(2):
            luck = between_runs * rng.standard_normal((runs, folds))
            result = hard + luck[:, fold] + 0.5 * rng.standard_normal((runs, synapses))
            picked = draw_runs(runs, folds, draws=400, seed=2 * world + method)
            means.append(nested_sums(result[:, :, None], fold, taken, picked).mean(axis=1)[:, 0] / synapses)
        holds += interval(means[0] - means[1]).holds(0)
    return holds / worlds


def test_the_nested_interval_holds_the_truth_as_often_as_it_says():
    """95 % within what 400 worlds and three runs of four folds allow; without the runs it would hold it far too rarely."""
    assert 0.90 <= covered(3) <= 0.99
    assert 0.92 <= covered(6) <= 0.99


def test_drawing_all_runs_instead_of_one_fewer_would_be_too_narrow():
    spread = []
    luck = np.random.default_rng(0).standard_normal((3, 4, 2000))
    for world in range(2000):
        sums = luck[:, :, world][:, :, None]
        picked = draw_runs(3, 4, draws=200, seed=world)
        spread.append(nested_sums(sums, np.arange(4), np.ones((200, 4), np.int64), picked).mean(axis=1)[:, 0].var())
    assert np.mean(spread) == pytest.approx(4 / 3, rel=0.05)  # four folds, each the mean of three runs of variance 1


def test_every_set_of_runs_takes_each_fold_from_one_run():
    picked = draw_runs(3, 4, draws=50)
    assert picked.shape == (50, 2, 4)
    assert set(np.unique(picked)) == {0, 1, 2}
    assert draw_runs(1, 2, draws=3).tolist() == [[[0, 0]]] * 3


def test_no_runs_are_refused():
    with pytest.raises(InputError, match="0 runs on 4 folds"):
        draw_runs(0, 4)
