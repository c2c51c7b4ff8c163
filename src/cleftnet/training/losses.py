"""Losses of the label augmentor (Eqs. 7-10), Dice, and signed-distance regression: pure functions of logits and targets.

Two of the printed formulas contradict the paper's text (docs/method.md, "Losses"). The form `consistent`, the default,
follows the text; `as_printed` follows the formulas; `balanced` is `consistent` with class weights in Eq. 9. Unlabelled
voxels are left out of every sum and share, and sums are divided by the number of labelled voxels. Everything is computed
in float32 from logits, which avoids the logarithm of zero.

Shares and divisors are those of the whole batch. Where a batch is cut into parts (over processes, or to accumulate
gradients), each part gets the `ClassCounts` of the whole, and the mean of the parts' losses is the loss of the batch.
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from pydantic import Field
from torch import Tensor

from cleftnet.settings import Settings
from cleftnet.volumes import CLEFT, UNLABELLED

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float, UInt8

Reading = Literal["consistent", "as_printed", "balanced"]  # of the two formulas that contradict the text
Form = Literal[Reading, "signed_distance"]
SMALLEST = 1e-6  # lower bound on the boundary value whose logarithm the printed Eq. 9 takes


class LossSettings(Settings):
    """Form and weights of the loss.

    Attributes:
        form: `consistent` with the paper's text, or `as_printed`, or `balanced`, which is `consistent` with the class
            weights of Eq. 7 in Eq. 9; or `signed_distance`, the regression of Heinrich et al. 2018 for a network with
            one head, which uses no weights.
        boundary_weight: α₁.
        coherence_weight: α₂.
        dice_weight: Weight of the Dice loss of the segmentation, which is added to Eq. 7; the paper has none.
        tissue_weight: Weight of the cross-entropy of the tissue classes (`net.tissue_classes`).
    """

    form: Form = "consistent"
    boundary_weight: float = Field(0.5, ge=0)
    coherence_weight: float = Field(0.2, ge=0)
    dice_weight: float = Field(0.0, ge=0)
    tissue_weight: float = Field(0.5, ge=0)

    @property
    def signed(self) -> bool:
        """Whether the targets are distances outside clefts too."""
        return self.form == "signed_distance"


class Losses(NamedTuple):
    """The loss and its parts, scalars; a part without a head in the network, or not in the form, is zero."""

    total: Tensor
    segmentation: Tensor
    boundary: Tensor
    coherence: Tensor
    tissue: Tensor

    def with_tissue(self, loss: Tensor, weight: float) -> Losses:
        """Return these losses with that of the tissue classes added to the total."""
        return self._replace(total=self.total + weight * loss, tissue=loss)


class ClassCounts(NamedTuple):
    """Voxel counts of a batch, for the shares of Eqs. 7-8 and the divisors of all losses.

    Attributes:
        labelled: Number of labelled voxels, int64.
        cleft: Number of labelled voxels in a cleft.
        inside: Number of labelled voxels with a distance above 0.
        parts: Number of parts that the batch is cut into, whose losses are averaged.
    """

    labelled: Tensor
    cleft: Tensor
    inside: Tensor
    parts: int = 1

    @classmethod
    def of(cls, classes: Tensor, distance: Tensor) -> ClassCounts:
        """Count one batch, `b z y x`.

        Example:
            >>> counts = ClassCounts.of(torch.tensor([[[[0, 1, 1, 2]]]]), torch.tensor([[[[0, 0.8, 0.8, 0]]]]))
            >>> [int(n) for n in counts]
            [3, 2, 2, 1]
        """
        labelled = classes != UNLABELLED
        return cls(labelled.sum(), (classes == CLEFT).sum(), ((distance > 0) & labelled).sum())

    def share(self, part: Tensor) -> Tensor:
        """Return one of the counts as a share of the labelled voxels; 0 where nothing is labelled."""
        return part / self.labelled.clamp(min=1)

    def mean(self, values: Tensor, valid: Tensor) -> Tensor:
        """Return the sum over valid voxels divided by the number of labelled voxels in the average part."""
        return torch.where(valid, values, 0.0).sum() / (self.labelled.clamp(min=1) / self.parts)


def segmentation_loss(
    logit: Float[Tensor, "b z y x"], classes: UInt8[Tensor, "b z y x"], counts: ClassCounts | None = None
) -> Float[Tensor, ""]:
    """Return the weighted cross-entropy of Eq. 7: `−β Σ_cleft log P − (1−β) Σ_rest log(1−P)`.

    β is the share of non-cleft voxels.

    Args:
        logit: Segmentation logits `b z y x`.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        counts: Counts of the whole batch where this is a part of it; None takes those of this batch.

    Returns:
        A scalar, ≥ 0.

    Example:
        >>> float(segmentation_loss(torch.zeros(1, 1, 1, 4), torch.tensor([[[[1, 0, 0, 0]]]], dtype=torch.uint8)))
        0.2599301...
    """
    logit, cleft, valid = logit.float(), classes == CLEFT, classes != UNLABELLED
    counts = counts or ClassCounts.of(classes, torch.zeros_like(logit))
    beta = 1 - counts.share(counts.cleft)
    return counts.mean(torch.where(cleft, -beta * F.logsigmoid(logit), -(1 - beta) * F.logsigmoid(-logit)), valid)


def boundary_loss(
    logit: Float[Tensor, "b z y x"],
    distance: Float[Tensor, "b z y x"],
    classes: UInt8[Tensor, "b z y x"],
    form: Reading = "consistent",
    counts: ClassCounts | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted squared error of Eq. 8: `β Σ_{y>0} (y − ŷ)² + (1−β) Σ_{y=0} (y − ŷ)²` with `ŷ = tanh(logit)`.

    Args:
        logit: Boundary outputs before tanh, `b z y x`.
        distance: The tanh distance map `b z y x` in 0-1.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        form: `as_printed` takes β as the share of *positive* voxels, which gives the rare clefts the tiny weight;
            the others take the share of zero voxels, as Eq. 7 does.
        counts: Counts of the whole batch where this is a part of it; None takes those of this batch.

    Returns:
        A scalar, ≥ 0.
    """
    valid, inside = classes != UNLABELLED, distance > 0
    counts = counts or ClassCounts.of(classes, distance)
    positive = counts.share(counts.inside)
    beta = positive if form == "as_printed" else 1 - positive
    return counts.mean(torch.where(inside, beta, 1 - beta) * (distance - logit.float().tanh()) ** 2, valid)


def coherence_loss(
    segmentation_logit: Float[Tensor, "b z y x"],
    boundary_logit: Float[Tensor, "b z y x"],
    classes: UInt8[Tensor, "b z y x"],
    form: Reading = "consistent",
    counts: ClassCounts | None = None,
) -> Float[Tensor, ""]:
    """Return the penalty on contradicting heads of Eq. 9, with `P = sigmoid(segmentation)`, `ŷ = tanh(boundary)`.

    `consistent`: `−Σ_{ŷ>0} (1−P) log(1−ŷ) − Σ_{ŷ≤0} (1−ŷ) log(1−P)`. Where the boundary value is above 0, the loss
    raises P or lowers ŷ; elsewhere it lowers P or raises ŷ. `as_printed` has `log ŷ` and `log P` instead, which rewards
    P = 1 on every background voxel. `balanced` weighs the two sums of `consistent` by β and 1−β of Eq. 7, so that the
    many background voxels do not decide, and bounds `−log(1−ŷ)` by 1, so that the inside of clefts does not either.

    Args:
        segmentation_logit: `b z y x`.
        boundary_logit: Before tanh, `b z y x`.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        form: The reading.
        counts: Counts of the whole batch where this is a part of it; None takes those of this batch.

    Returns:
        A scalar, ≥ 0, finite for all finite logits.
    """
    s, u = segmentation_logit.float(), boundary_logit.float()
    y, inside = u.tanh(), u > 0
    if form == "as_printed":
        above = -torch.sigmoid(-s) * y.clamp(min=SMALLEST).log()
        below = -(1 - y) * F.logsigmoid(s)
    else:
        # 1 − tanh(u) = 2 / (1 + e^{2u}), whose logarithm is finite for every u.
        above = -torch.sigmoid(-s) * (math.log(2) - F.softplus(2 * u))
        below = -(1 - y) * F.logsigmoid(-s)
    counts = counts or ClassCounts.of(classes, y)
    if form == "balanced":
        beta = 1 - counts.share(counts.cleft)
        above = beta * torch.sigmoid(-s) * (F.softplus(2 * u) - math.log(2)).clamp(max=1)
        below = (1 - beta) * below
    return counts.mean(torch.where(inside, above, below), classes != UNLABELLED)


def signed_distance_loss(
    logit: Float[Tensor, "b z y x"],
    distance: Float[Tensor, "b z y x"],
    classes: UInt8[Tensor, "b z y x"],
    counts: ClassCounts | None = None,
) -> Float[Tensor, ""]:
    """Return the unweighted mean squared error of the signed tanh distance (Heinrich et al. 2018).

    The logit's sign tells on which side of a boundary a voxel lies, so it is calibrated and thresholded as any other.

    Args:
        logit: Output of the only head, `b z y x`.
        distance: The signed tanh distance map `b z y x`, positive inside clefts.
        classes: uint8 `b z y x`; only used to leave unlabelled voxels out.
        counts: Counts of the whole batch where this is a part of it; None takes those of this batch.

    Returns:
        A scalar, ≥ 0.

    Example:
        >>> logit, distance = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, -0.5]]]])
        >>> float(signed_distance_loss(logit, distance, torch.ones(1, 1, 1, 2)))
        0.25
    """
    counts = counts or ClassCounts.of(classes, distance)
    return counts.mean((distance - logit.float().tanh()) ** 2, classes != UNLABELLED)


def dice_loss(logit: Float[Tensor, "b z y x"], classes: UInt8[Tensor, "b z y x"]) -> Float[Tensor, ""]:
    """Return the soft Dice loss `1 − (2 Σ P y + 1) / (Σ P + Σ y + 1)` of each patch, averaged over the patches.

    The form of Milletari et al. 2016 without squares; the 1 keeps it defined where a patch has no cleft.

    Args:
        logit: Segmentation logits `b z y x`.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.

    Returns:
        A scalar in 0-1.

    Example:
        >>> float(dice_loss(torch.zeros(1, 1, 1, 4), torch.tensor([[[[1, 0, 0, 2]]]], dtype=torch.uint8)))
        0.4285714...
    """
    volume = (1, 2, 3)
    probability = torch.where(classes != UNLABELLED, logit.float().sigmoid(), 0.0)
    cleft = (classes == CLEFT).float()
    shared = (probability * cleft).sum(volume)
    return (1 - (2 * shared + 1) / (probability.sum(volume) + cleft.sum(volume) + 1)).mean()


def tissue_loss(logits: Float[Tensor, "b classes z y x"], tissue: UInt8[Tensor, "b z y x"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of the tissue classes, summed over known voxels and divided by the number of all voxels.

    Args:
        logits: One output for each class, `b classes z y x`.
        tissue: uint8 classes `b z y x`; voxels of other values are left out.

    Returns:
        A scalar, ≥ 0.

    Example:
        >>> float(tissue_loss(torch.zeros(1, 2, 1, 1, 2), torch.tensor([[[[1, 255]]]], dtype=torch.uint8)))
        0.3465735...
    """
    wanted = torch.where(tissue < logits.shape[1], tissue.long(), -1)
    return F.cross_entropy(logits.float(), wanted, ignore_index=-1, reduction="sum") / wanted.numel()


def cleft_loss(
    logits: Float[Tensor, "b heads z y x"],
    classes: UInt8[Tensor, "b z y x"],
    distance: Float[Tensor, "b z y x"],
    settings: LossSettings,
    counts: ClassCounts | None = None,
) -> Losses:
    """Return the loss of Eq. 10, `L_s + α₁ L_b + α₂ L_c`.

    For a network with one head it is `L_s` alone, or the signed-distance regression. The Dice loss is a part of `L_s` where
    it has a weight. That of tissue classes is added by `Losses.with_tissue`.

    Args:
        logits: `b heads z y x`, one head or two.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        distance: The tanh distance map `b z y x`, in 0-1, or signed where the form is `signed_distance`.
        settings: Form and weights.
        counts: Counts of the whole batch where this is a part of it; None takes those of this batch.

    Returns:
        The total and its parts, scalars.
    """
    counts = counts or ClassCounts.of(classes, distance)
    if settings.form == "signed_distance":
        error = signed_distance_loss(logits[:, 0], distance, classes, counts)
        zero = torch.zeros_like(error)
        return Losses(error, zero, error, zero, zero)
    segmentation = segmentation_loss(logits[:, 0], classes, counts)
    if settings.dice_weight:
        segmentation = segmentation + settings.dice_weight * dice_loss(logits[:, 0], classes)
    zero = torch.zeros_like(segmentation)
    if logits.shape[1] == 1:
        return Losses(segmentation, segmentation, zero, zero, zero)
    boundary = boundary_loss(logits[:, 1], distance, classes, settings.form, counts)
    coherence = coherence_loss(logits[:, 0], logits[:, 1], classes, settings.form, counts)
    total = segmentation + settings.boundary_weight * boundary + settings.coherence_weight * coherence
    return Losses(total, segmentation, boundary, coherence, zero)
