import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cleftnet.metrics.calibration import Calibration, fit_calibration, reliability
from cleftnet.metrics.voxels import ScoreHistogram


def drawn(scale, shift, voxels=200_000, seed=0):
    """Logits whose true odds are sigmoid(scale · logit − shift), and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, voxels).astype(np.float32)
    return logits, rng.random(voxels) < expit(scale * logits - shift)


def fitted(logits, true):
    return fit_calibration([logits], [true], [np.ones(true.shape, bool)])


@settings(deadline=None, max_examples=10)
@given(st.floats(0.2, 3), st.floats(-3, 6))
def test_the_odds_that_labels_were_drawn_from_are_found(scale, shift):
    found = fitted(*drawn(scale, shift))
    assert found.scale == pytest.approx(scale, rel=0.1, abs=0.05)
    assert found.shift == pytest.approx(shift, rel=0.1, abs=0.1)


def test_it_is_logistic_regression():
    logits, true = drawn(0.5, 4.0)
    reference = LogisticRegression(C=1e9).fit(logits[:, None], true)
    found = fitted(logits, true)
    assert found.scale == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert found.shift == pytest.approx(-reference.intercept_[0], rel=1e-3)


def test_the_lowest_logits_count_though_they_are_few():
    logits, true = drawn(0.5, 4.0)
    few = np.flatnonzero(true)[:20]
    logits[few] = -40
    reference = LogisticRegression(C=1e9).fit(logits[:, None], true)
    assert fitted(logits, true).scale == pytest.approx(reference.coef_[0, 0], rel=1e-3)


def test_class_weights_are_undone():
    """At the optimum of Eq. 7 a network says βp / (βp + (1−β)(1−p)): the true logit plus log β/(1−β), here log 99."""
    rng = np.random.default_rng(1)
    truth = rng.normal(-5, 2, 200_000)
    true = rng.random(200_000) < expit(truth)
    found = fitted(truth + np.log(99), true)
    assert found == pytest.approx((1.0, np.log(99)), rel=0.03)


def test_labels_that_a_threshold_separates_leave_the_fit_finite():
    logits = np.array([-1.0, -1.0, 1.0, 1.0])
    found = fitted(logits, logits > 0)
    assert np.isfinite(found).all()
    assert found.scale > 0


@pytest.mark.parametrize("everywhere", [True, False])
def test_one_class_alone_calibrates_nothing(everywhere):
    assert fitted(np.linspace(-1, 1, 10), np.full(10, everywhere)) == Calibration(1.0, 0.0)


@pytest.mark.parametrize("cleft", [True, False])
def test_unlabelled_voxels_make_no_difference(cleft):
    logits, true = drawn(1.0, 2.0, 2000)
    valid = np.ones(2000, bool)
    valid[1000:] = False
    true[1000:], logits[1000:] = cleft, 1e6
    assert fit_calibration([logits], [true], [valid]) == fitted(logits[:1000], true[:1000])


@pytest.mark.parametrize("far", [-1e5, 1e5])
def test_one_logit_far_away_hardly_changes_the_fit(far):
    logits, true = drawn(0.5, 2.0)
    expected = fitted(logits, true)
    logits[0], true[0] = far, far > 0
    assert fitted(logits, true) == pytest.approx(expected, rel=0.01)


def test_regions_count_as_one():
    logits, true = drawn(0.5, 2.0, 10_000)
    parts = [[a[:3000], a[3000:]] for a in (logits, true, np.ones(10_000, bool))]
    assert fit_calibration(*parts) == fitted(logits, true)


def test_logits_that_rank_backwards_are_reported(messages):
    logits, true = drawn(1.0, 0.0, 2000)
    assert fitted(-logits, true).scale == pytest.approx(1e-6)
    assert "rank voxels no better than chance" in messages.text


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_logits_that_are_not_finite_are_reported_and_leave_the_plain_sigmoid(messages, value):
    logits, true = drawn(1.0, 0.0, 2000)
    logits[5] = value
    assert fitted(logits, true) == Calibration()
    assert "no calibration was found" in messages.text


def test_a_fit_that_does_not_converge_is_reported_and_leaves_the_plain_sigmoid(messages, monkeypatch):
    monkeypatch.setattr("cleftnet.metrics.calibration.CONVERGED", -1.0)
    assert fitted(*drawn(1.0, 0.0, 2000)) == Calibration()
    assert "no calibration was found" in messages.text


def test_the_calibration_error_of_calibrated_probabilities_is_small_and_of_others_large():
    logits, true = drawn(1.0, 0.0)
    for scale, small in ((1.0, True), (5.0, False)):
        probability = np.rint(255 * expit(scale * logits)).astype(np.uint8)
        assert (reliability(ScoreHistogram.of(probability, true)).error < 0.01) is small


def test_the_reliability_curve_of_a_hand_made_case():
    """Two voxels of 0.2, one of them cleft; two of 0.8, both cleft: (0.2, 0.5) and (0.8, 1), error 0.25."""
    probability, true = np.array([51, 51, 204, 204], np.uint8), np.array([True, False, True, True])
    curve = reliability(ScoreHistogram.of(probability, true))
    assert curve.predicted == pytest.approx([0.2, 0.8])
    assert curve.observed.tolist() == [0.5, 1.0]
    assert curve.voxels.tolist() == [2, 2]
    assert curve.error == pytest.approx(0.25)
