"""Losses against sums of four voxels by hand, then what holds for every input.

The four voxels everywhere below: one cleft voxel, three others, so that β_s = 3/4, and the target distance of the cleft
voxel is tanh(1) = 0.7616.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.training.losses import (
    LossSettings,
    boundary_loss,
    cleft_loss,
    coherence_loss,
    dice_loss,
    segmentation_loss,
    signed_distance_loss,
    tissue_loss,
)

FORMS = ("consistent", "as_printed", "balanced")
LN2, TANH1 = math.log(2), math.tanh(1)
ONE_CLEFT = [1, 0, 0, 0]


def voxels(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype).view(1, 1, 1, -1)


def classes(values):
    return voxels(values, torch.uint8)


def test_segmentation_loss_of_four_voxels():
    """Every P is 1/2, so every log is −ln 2, with β = 3/4: (3/4 · ln 2 + 3 · 1/4 · ln 2) / 4 = 3/8 · ln 2."""
    loss = segmentation_loss(voxels([0.0] * 4), classes(ONE_CLEFT))
    assert loss.item() == pytest.approx(3 / 8 * LN2)


def test_segmentation_loss_of_four_voxels_with_unequal_probabilities():
    """Logits ln 3, −ln 3, 0, 0 are P = 3/4, 1/4, 1/2, 1/2.

    The cleft voxel gives −3/4 ln(3/4), the others −1/4 (ln(3/4) + 2 ln(1/2)); the sum is −ln(3/4) + 1/2 ln 2, over 4.
    """
    loss = segmentation_loss(voxels([math.log(3), -math.log(3), 0.0, 0.0]), classes(ONE_CLEFT))
    assert loss.item() == pytest.approx((-math.log(3 / 4) + LN2 / 2) / 4)


@pytest.mark.parametrize(("form", "beta"), [("consistent", 3 / 4), ("balanced", 3 / 4), ("as_printed", 1 / 4)])
def test_boundary_loss_of_four_voxels(form, beta):
    """Logits 0 are ŷ = 0: only the cleft voxel errs, by tanh 1: β · tanh²(1) / 4, β the share of zeros or of positives."""
    distance = voxels([TANH1, 0.0, 0.0, 0.0])
    loss = boundary_loss(voxels([0.0] * 4), distance, classes(ONE_CLEFT), form)
    assert loss.item() == pytest.approx(beta * TANH1**2 / 4)


@pytest.mark.parametrize(("form", "beta"), [("consistent", 3 / 4), ("balanced", 3 / 4), ("as_printed", 1 / 4)])
def test_boundary_loss_of_a_false_boundary(form, beta):
    """Logits 1, 1, 0, 0 are right on the cleft voxel and err by tanh 1 on one other: (1 − β) · tanh²(1) / 4."""
    distance = voxels([TANH1, 0.0, 0.0, 0.0])
    loss = boundary_loss(voxels([1.0, 1.0, 0.0, 0.0]), distance, classes(ONE_CLEFT), form)
    assert loss.item() == pytest.approx((1 - beta) * TANH1**2 / 4)


def test_consistent_coherence_loss_of_four_voxels():
    """P = 1/2 everywhere; boundary logits 1, 0, 0, −1 are ŷ = t, 0, 0, −t with t = tanh 1.

    ŷ > 0: −1/2 ln(1 − t); ŷ ≤ 0: −(1 + 1 + (1 + t)) ln(1/2) = (3 + t) ln 2; the sum over 4.
    """
    loss = coherence_loss(voxels([0.0] * 4), voxels([1.0, 0.0, 0.0, -1.0]), classes(ONE_CLEFT))
    assert loss.item() == pytest.approx((-math.log(1 - TANH1) / 2 + (3 + TANH1) * LN2) / 4)


def test_printed_coherence_loss_of_four_voxels():
    """The same voxels: ŷ > 0: −1/2 ln t; ŷ ≤ 0 as before, since ln P = ln(1 − P) = −ln 2 here."""
    loss = coherence_loss(voxels([0.0] * 4), voxels([1.0, 0.0, 0.0, -1.0]), classes(ONE_CLEFT), "as_printed")
    assert loss.item() == pytest.approx((-math.log(TANH1) / 2 + (3 + TANH1) * LN2) / 4)


def test_balanced_coherence_loss_of_four_voxels():
    """The same voxels with β = 3/4, and −ln(1 − t) = 1.43 bounded by 1: (3/4 · 1/2 · 1 + 1/4 · (3 + t) ln 2) / 4."""
    loss = coherence_loss(voxels([0.0] * 4), voxels([1.0, 0.0, 0.0, -1.0]), classes(ONE_CLEFT), "balanced")
    assert loss.item() == pytest.approx((3 / 8 + (3 + TANH1) * LN2 / 4) / 4)


def test_balanced_coherence_below_its_bound_is_the_consistent_one_with_a_weight():
    """ŷ = tanh 0.5 costs −ln(1 − ŷ) = 0.62; one cleft voxel and one other, β = 1/2."""
    heads = voxels([0.0, 0.0]), voxels([0.5, 0.5]), classes([1, 0])
    assert coherence_loss(*heads, "balanced") == pytest.approx(coherence_loss(*heads, "consistent").item() / 2)


def test_dice_loss_of_four_voxels():
    """P = 1/2 everywhere, two cleft voxels, one other and one unlabelled: 1 − (2 · 1 + 1) / (3/2 + 2 + 1) = 1/3."""
    assert dice_loss(voxels([0.0] * 4), classes([1, 1, 0, 2])).item() == pytest.approx(1 / 3)


def test_dice_is_that_of_each_patch_averaged():
    logits, target = torch.randn(2, 1, 1, 4), torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.uint8)
    target = target.view(2, 1, 1, 4)
    each = [dice_loss(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(dice_loss(logits, target), sum(each) / 2)


def test_dice_pulls_clefts_up_and_the_rest_down():
    (slope,) = gradients(lambda s: dice_loss(s, classes([1, 0, 2])), voxels([0.3, -0.7, 0.1]))
    assert slope[0] < 0 < slope[1]
    assert slope[2] == 0


def test_dice_is_added_to_the_segmentation_loss_with_its_weight():
    logits, target = torch.randn(1, 1, 1, 1, 4), classes(ONE_CLEFT)
    loss = cleft_loss(logits, target, voxels([0.0] * 4), LossSettings(dice_weight=0.1))
    torch.testing.assert_close(
        loss.total, segmentation_loss(logits[:, 0], target) + 0.1 * dice_loss(logits[:, 0], target)
    )


def test_the_total_is_equation_10():
    logits = torch.randn(2, 2, 2, 3, 3)
    target, distance = torch.randint(0, 3, (2, 2, 3, 3), dtype=torch.uint8), torch.rand(2, 2, 3, 3)
    loss = cleft_loss(logits, target, distance, LossSettings())
    torch.testing.assert_close(loss.total, loss.segmentation + 0.5 * loss.boundary + 0.2 * loss.coherence)
    assert loss.segmentation == segmentation_loss(logits[:, 0], target)
    assert loss.boundary == boundary_loss(logits[:, 1], distance, target)
    assert loss.coherence == coherence_loss(logits[:, 0], logits[:, 1], target)


def test_a_network_without_boundary_head_has_the_segmentation_loss_alone():
    logits, target = torch.randn(1, 1, 1, 1, 4), classes(ONE_CLEFT)
    loss = cleft_loss(logits, target, voxels([0.0] * 4), LossSettings())
    assert loss.total == loss.segmentation == segmentation_loss(logits[:, 0], target)
    assert loss.boundary == loss.coherence == 0


# -- the sign of every gradient in the consistent form: which way a step of gradient descent moves each head --


def gradients(loss, *logits):
    """Derivatives of a loss by each voxel of each logit."""
    leaves = [logit.clone().requires_grad_() for logit in logits]
    loss(*leaves).backward()
    return [leaf.grad.flatten() for leaf in leaves]


finite = st.floats(-8, 8)


@settings(deadline=None, max_examples=30)
@given(st.lists(finite, min_size=4, max_size=4))
def test_segmentation_pulls_clefts_up_and_the_rest_down(logits):
    (slope,) = gradients(lambda s: segmentation_loss(s, classes(ONE_CLEFT)), voxels(logits))
    assert slope[0] < 0
    assert (slope[1:] > 0).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-4, 4).map(lambda u: round(u, 6)), min_size=4, max_size=4))  # no products that underflow to 0
def test_boundary_pulls_every_voxel_towards_its_distance(logits):
    distance = voxels([TANH1, 0.0, 0.0, 0.0])
    (slope,) = gradients(lambda u: boundary_loss(u, distance, classes(ONE_CLEFT)), voxels(logits))
    error = voxels(logits).tanh() - distance
    assert torch.equal(slope.sign(), error.flatten().sign())


@settings(deadline=None, max_examples=50)
@given(finite, st.floats(0.01, 4))
def test_where_the_boundary_is_positive_coherence_raises_segmentation_and_lowers_boundary(s, u):
    by_s, by_u = gradients(lambda a, b: coherence_loss(a, b, classes([0])), voxels([s]), voxels([u]))
    assert by_s < 0
    assert by_u > 0


@settings(deadline=None, max_examples=50)
@given(finite, st.floats(-4, 0))
def test_where_the_boundary_is_not_positive_coherence_lowers_segmentation_and_raises_boundary(s, u):
    by_s, by_u = gradients(lambda a, b: coherence_loss(a, b, classes([0])), voxels([s]), voxels([u]))
    assert by_s > 0
    assert by_u < 0


def test_coherence_of_heads_that_agree_is_nearly_nothing():
    agree = coherence_loss(voxels([8.0, -8.0]), voxels([1.0, 0.0]), classes([1, 0]))
    disagree = coherence_loss(voxels([-8.0, 8.0]), voxels([1.0, 0.0]), classes([1, 0]))
    assert agree.item() < 1e-3
    assert disagree.item() > 4


# -- what is wrong in print --


def test_printed_coherence_pulls_a_background_voxel_towards_cleft():
    """A background voxel that both heads call background, P = 0.02 and ŷ = 0: consistent has nothing to say against it.

    As printed it costs −(1 − 0) ln 0.02 = 3.9, a hundred times as much as P = 0.98, and descent raises P: the second sum
    of Eq. 9 rewards P(cleft) = 1 wherever the boundary head says background.
    """
    background = voxels([math.log(0.02 / 0.98)]), voxels([0.0]), classes([0])
    costs = {form: coherence_loss(*background, form).item() for form in FORMS}
    assert costs["as_printed"] == pytest.approx(-math.log(0.02))
    assert costs["consistent"] == pytest.approx(-math.log(0.98))
    by_s = {
        form: gradients(lambda s, f=form: coherence_loss(s, *background[1:], f), background[0])[0] for form in FORMS
    }
    assert by_s["as_printed"] < 0 < by_s["consistent"]


def test_printed_coherence_pulls_the_boundary_up_where_segmentation_sees_nothing():
    """ŷ = tanh 0.5 > 0 and P = 0.02 contradict each other; as printed, the first sum makes ŷ grow."""
    heads = voxels([math.log(0.02 / 0.98)]), voxels([0.5])
    by_u = {form: gradients(lambda s, u, f=form: coherence_loss(s, u, classes([0]), f), *heads)[1] for form in FORMS}
    assert by_u["as_printed"] < 0 < by_u["consistent"]


def test_the_printed_boundary_weight_makes_a_rare_cleft_weigh_less_than_the_rest():
    """One cleft voxel in a hundred: a miss costs 99 times a false alarm in the consistent form, 1/99 as printed."""
    target, distance = classes([1] + [0] * 99), voxels([TANH1] + [0.0] * 99)
    missed, invented = voxels([0.0] * 100), voxels([1.0, 1.0] + [0.0] * 98)
    ratio = {
        f: boundary_loss(missed, distance, target, f) / boundary_loss(invented, distance, target, f) for f in FORMS
    }
    assert ratio["consistent"].item() == pytest.approx(99, rel=1e-4)
    assert ratio["as_printed"].item() == pytest.approx(1 / 99, rel=1e-4)


# -- for every input --


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_and_gradients_are_finite_at_logits_of_100(form, target, autocast, dtype):
    s = torch.tensor([-100.0, -100.0, -100.0, 0.0, 0.0, 0.0, 100.0, 100.0, 100.0], dtype=dtype)
    u = torch.tensor([-100.0, 0.0, 100.0] * 3, dtype=dtype)
    logits = torch.stack([s, u]).view(1, 2, 1, 1, 9).requires_grad_()
    distance = voxels([0.0, 0.5, 1.0] * 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = cleft_loss(logits, classes([target] * 9), distance, LossSettings(form=form))
    assert all(torch.isfinite(part) and part >= 0 for part in loss)
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    assert torch.isfinite(logits.grad).all()


def test_a_missed_cleft_at_a_logit_of_minus_100_costs_100_and_still_pulls():
    """One cleft voxel and one other: β = 1/2, and −1/2 · ln sigmoid(−100) = 50, over two voxels."""
    logit = voxels([-100.0, -100.0]).requires_grad_()
    loss = segmentation_loss(logit, classes([1, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(25)
    assert logit.grad.flatten()[0].item() == pytest.approx(-0.25)


@pytest.mark.parametrize("form", FORMS)
def test_unlabelled_voxels_change_no_loss_and_receive_no_gradient(form):
    """Both the sums and the shares leave them out: with them the losses are those of the labelled voxels alone."""
    torch.manual_seed(0)
    logits, distance = torch.randn(1, 2, 1, 1, 6), voxels([TANH1, 0.0, 0.0, 0.3, 0.9, 0.0])
    target = classes([1, 0, 0, 0, 2, 2])
    with_them = logits.clone().requires_grad_()
    loss = cleft_loss(with_them, target, distance, LossSettings(form=form))
    alone = cleft_loss(logits[..., :4], target[..., :4], distance[..., :4], LossSettings(form=form))
    for a, b in zip(loss, alone, strict=True):
        torch.testing.assert_close(a, b)
    loss.total.backward()
    assert (with_them.grad[..., 4:] == 0).all()
    assert (with_them.grad[..., :4] != 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_patch_without_any_labelled_voxel_has_loss_zero_and_no_gradient(form):
    logits = torch.randn(1, 2, 1, 1, 3).requires_grad_()
    loss = cleft_loss(logits, classes([2, 2, 2]), voxels([0.0, 0.5, 1.0]), LossSettings(form=form))
    loss.total.backward()
    assert loss.total == 0
    assert (logits.grad == 0).all()


def test_segmentation_of_a_batch_without_cleft_is_zero_since_its_share_of_clefts_is():
    assert segmentation_loss(voxels([3.0, -2.0]), classes([0, 0])) == 0


def test_shares_are_taken_over_the_batch_not_patch_by_patch():
    logits = torch.zeros(2, 1, 1, 2)
    target = torch.tensor([[1, 0], [0, 0]], dtype=torch.uint8).view(2, 1, 1, 2)
    assert segmentation_loss(logits, target).item() == pytest.approx(3 / 8 * LN2)  # as the four voxels above


@pytest.mark.parametrize("form", FORMS)
def test_losses_do_not_depend_on_how_often_a_patch_is_repeated(form):
    torch.manual_seed(0)
    logits, distance = torch.randn(1, 2, 2, 3, 3), torch.rand(1, 2, 3, 3)
    target = torch.randint(0, 3, (1, 2, 3, 3), dtype=torch.uint8)
    once = cleft_loss(logits, target, distance, LossSettings(form=form))
    many = cleft_loss(*(t.repeat(3, *[1] * (t.dim() - 1)) for t in (logits, target, distance)), LossSettings(form=form))
    for a, b in zip(once, many, strict=True):
        torch.testing.assert_close(a, b)


# -- the signed distance of Heinrich et al. --


def test_signed_distance_loss_of_four_voxels():
    """Logits 1, 0, −1, 0 against tanh 1, 0.5, −tanh 1, −0.5: two voxels are right, two err by 0.5: 2 · 0.25 / 4."""
    loss = signed_distance_loss(
        voxels([1.0, 0.0, -1.0, 0.0]), voxels([TANH1, 0.5, -TANH1, -0.5]), classes([1, 1, 0, 0])
    )
    assert loss.item() == pytest.approx(0.125)


def test_signed_distance_weighs_no_voxel():
    """A cleft voxel in a hundred that errs by 0.5 costs what a background voxel does."""
    target, distance = classes([1] + [0] * 99), voxels([0.5] + [-0.5] * 99)
    right = distance.atanh()
    miss, alarm = right.clone(), right.clone()
    miss[..., 0], alarm[..., 1] = 0, 0
    costs = [signed_distance_loss(logit, distance, target).item() for logit in (miss, alarm)]
    assert costs == pytest.approx([0.0025, 0.0025])


def test_by_the_signed_form_the_total_is_the_signed_distance_loss_alone():
    logits, distance, target = torch.randn(1, 1, 1, 1, 4), voxels([TANH1, -0.5, -0.9, 0.0]), classes([1, 0, 0, 2])
    loss = cleft_loss(logits, target, distance, LossSettings(form="signed_distance"))
    assert loss.total == loss.boundary == signed_distance_loss(logits[:, 0], distance, target)
    assert loss.segmentation == loss.coherence == 0


def test_signed_distance_leaves_unlabelled_voxels_out():
    logit = voxels([0.0, 0.0]).requires_grad_()
    loss = signed_distance_loss(logit, voxels([0.5, 0.0]), classes([1, 2]))
    loss.backward()
    assert loss.item() == 0.25
    assert logit.grad.flatten()[1] == 0


def test_tissue_loss_of_four_voxels():
    """Logits 0 and ln 3 are 1/4 and 3/4; two voxels of known class give −ln(1/4) and −ln(3/4), over all four voxels."""
    logits = torch.stack([voxels([0.0] * 4), voxels([math.log(3)] * 4)], dim=1)
    loss = tissue_loss(logits, classes([0, 1, 2, 255]))
    assert loss.item() == pytest.approx((math.log(4) - math.log(3 / 4)) / 4)


def test_the_loss_of_tissue_is_added_with_its_weight():
    losses = cleft_loss(torch.randn(1, 2, 1, 1, 4), classes(ONE_CLEFT), voxels([TANH1, 0, 0, 0]), LossSettings())
    both = losses.with_tissue(torch.tensor(3.0), 0.5)
    assert losses.tissue == 0
    assert both.tissue == 3
    assert both.total == losses.total + 1.5
