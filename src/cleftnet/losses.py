"""The three losses of the label augmentor (Eqs. 7-10), pure functions of logits, classes and the tanh distance map.

Two of the printed formulas contradict the paper's own text (SPEC §3). `consistent`, the default, does what the text says;
`as_printed` does what the formulas say. Unlabelled voxels are left out of every sum and share; sums are divided by the
number of labelled voxels. Everything is computed in float32 from logits, so that no logarithm of zero arises.
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cleftnet.volumes.volume import CLEFT, UNLABELLED

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float, UInt8

Form = Literal["consistent", "as_printed"]
SMALLEST = 1e-6  # the printed Eq. 9 takes log of a boundary value that may be 0: clamped here


class LossSettings(BaseModel):
    """The weights of Eq. 10 and the reading of the two misprinted formulas.

    Attributes:
        form: `consistent` with the paper's text, or `as_printed`.
        boundary_weight: α₁.
        coherence_weight: α₂.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form = "consistent"
    boundary_weight: float = Field(0.5, ge=0)
    coherence_weight: float = Field(0.2, ge=0)


class Losses(NamedTuple):
    """The loss of Eq. 10 and its parts, scalars; the parts that a network has no head for are zero."""

    total: Tensor
    segmentation: Tensor
    boundary: Tensor
    coherence: Tensor


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return the share of voxels in `part` among `whole`; 0 where there is no voxel at all."""
    return part.sum() / whole.sum().clamp(min=1)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the sum over valid voxels divided by their number."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)


def segmentation_loss(logit: Float[Tensor, "b z y x"], classes: UInt8[Tensor, "b z y x"]) -> Float[Tensor, ""]:
    """Weighted cross-entropy, Eq. 7: `−β Σ_cleft log P − (1−β) Σ_rest log(1−P)`, β the share of non-cleft voxels.

    Args:
        logit: Segmentation logits `b z y x`.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.

    Returns:
        A scalar, ≥ 0.

    Example:
        >>> float(segmentation_loss(torch.zeros(1, 1, 1, 4), torch.tensor([[[[1, 0, 0, 0]]]], dtype=torch.uint8)))
        0.2599301...
    """
    logit, cleft, valid = logit.float(), classes == CLEFT, classes != UNLABELLED
    beta = 1 - _share(cleft, valid)
    return _mean(torch.where(cleft, -beta * F.logsigmoid(logit), -(1 - beta) * F.logsigmoid(-logit)), valid)


def boundary_loss(
    logit: Float[Tensor, "b z y x"],
    distance: Float[Tensor, "b z y x"],
    classes: UInt8[Tensor, "b z y x"],
    form: Form = "consistent",
) -> Float[Tensor, ""]:
    """Weighted squared error, Eq. 8: `β Σ_{y>0} (y − ŷ)² + (1−β) Σ_{y=0} (y − ŷ)²` with `ŷ = tanh(logit)`.

    Args:
        logit: Boundary outputs before tanh, `b z y x`.
        distance: The tanh distance map `b z y x` in 0-1.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        form: `as_printed` takes β as the share of *positive* voxels, which gives the rare clefts the tiny weight;
            `consistent` takes the share of zero voxels, as Eq. 7 does.

    Returns:
        A scalar, ≥ 0.
    """
    valid, inside = classes != UNLABELLED, distance > 0
    positive = _share(inside & valid, valid)
    beta = positive if form == "as_printed" else 1 - positive
    return _mean(torch.where(inside, beta, 1 - beta) * (distance - logit.float().tanh()) ** 2, valid)


def coherence_loss(
    segmentation_logit: Float[Tensor, "b z y x"],
    boundary_logit: Float[Tensor, "b z y x"],
    classes: UInt8[Tensor, "b z y x"],
    form: Form = "consistent",
) -> Float[Tensor, ""]:
    """Penalty on heads that contradict each other, Eq. 9, with `P = sigmoid(segmentation)`, `ŷ = tanh(boundary)`.

    `consistent`: `−Σ_{ŷ>0} (1−P) log(1−ŷ) − Σ_{ŷ≤0} (1−ŷ) log(1−P)`: a boundary value above 0 wants P up or itself down,
    one at or below 0 wants P down or itself up. `as_printed` has `log ŷ` and `log P` instead, which rewards P = 1 on every
    background voxel.

    Args:
        segmentation_logit: `b z y x`.
        boundary_logit: Before tanh, `b z y x`.
        classes: uint8 `b z y x`; only used to leave unlabelled voxels out.
        form: Which of the two readings.

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
    return _mean(torch.where(inside, above, below), classes != UNLABELLED)


def cleft_loss(
    logits: Float[Tensor, "b heads z y x"],
    classes: UInt8[Tensor, "b z y x"],
    distance: Float[Tensor, "b z y x"],
    settings: LossSettings,
) -> Losses:
    """The loss of Eq. 10, `L_s + α₁ L_b + α₂ L_c`; a network without boundary head has `L_s` alone.

    Args:
        logits: `b heads z y x`, one head or two.
        classes: uint8 `b z y x`: 0 not cleft, 1 cleft, 2 unlabelled.
        distance: The tanh distance map `b z y x` in 0-1.
        settings: Weights and form.

    Returns:
        The total and its parts, scalars.
    """
    segmentation = segmentation_loss(logits[:, 0], classes)
    if logits.shape[1] == 1:
        zero = torch.zeros_like(segmentation)
        return Losses(segmentation, segmentation, zero, zero)
    boundary = boundary_loss(logits[:, 1], distance, classes, settings.form)
    coherence = coherence_loss(logits[:, 0], logits[:, 1], classes, settings.form)
    total = segmentation + settings.boundary_weight * boundary + settings.coherence_weight * coherence
    return Losses(total, segmentation, boundary, coherence)
