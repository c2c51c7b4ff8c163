"""One training loop, read from top to bottom: patches in, the loss of Eq. 10, a step; now and then whole-region validation.

The best checkpoint by the chosen score and the last one are kept, each written whole or not at all.
"""

from __future__ import annotations

import csv
import functools
import math
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from cleftnet.checkpoint import BEST, LAST, Model, ModelCard, save_model
from cleftnet.errors import InputError
from cleftnet.geometry import OVERLAP
from cleftnet.losses import Losses, LossSettings, cleft_loss
from cleftnet.metrics.calibration import Calibration, fit_calibration, reliability
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.predictions import predicted_mask
from cleftnet.metrics.voxels import Mask, ScoreHistogram
from cleftnet.nets.skeleton import Network
from cleftnet.patches.sampling import PatchSampler
from cleftnet.prediction import best_device, logit_tiles, to_uint8
from cleftnet.progress import note, track
from cleftnet.volumes.volume import Array, Volume, is_cleft, is_labelled

METRICS = "metrics.csv"

Schedule = Literal["constant", "cosine"]
Score = Literal["f1", "auc", "cremi_score"]


class TrainingSettings(BaseModel):
    """How long and how fast to learn; the defaults are the paper's (§IV-C) but for the steps, which a recipe must say.

    Attributes:
        steps: Optimiser steps.
        batch: Patches a step.
        learning_rate: Adam's, at its highest.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule: `constant`, or `cosine` down to 0 at the last step.
        ema: Decay of the exponential moving average of the weights, which is then what is validated and saved; 0 is off.
        loaders: Processes that prepare patches beside the training; 0 prepares them within it.
        validate_every: Steps between validations.
        validation_overlap: Share of the patch that neighbouring tiles have in common in validation.
        best_by: The validation score by which the best checkpoint is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Schedule = "constant"
    ema: float = Field(0.0, ge=0, lt=1)
    loaders: int = Field(0, ge=0)
    validate_every: int = Field(100, ge=1)
    validation_overlap: float = Field(OVERLAP, ge=0, le=0.9)
    best_by: Score = "f1"

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1."""
        rise = min(1.0, step / (self.warmup_steps + 1))
        fall = 0.5 * (1 + math.cos(math.pi * (step - 1) / self.steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


class Region(NamedTuple):
    """A part of a labelled volume to validate on."""

    raw: Volume
    labels: Volume


@dataclass(frozen=True)
class Scores:
    """Validation scores over all regions, at the threshold with the best F1; None where undefined, lengths in nm.

    The calibration errors are expected calibration errors over ten bins, of the probability and of the bare sigmoid.
    """

    f1: float | None
    precision: float | None
    recall: float | None
    auc: float | None
    cremi_score: float | None
    adgt: float | None
    adf: float | None
    threshold: float
    calibration_error: float
    uncalibrated_error: float

    def better_than(self, other: Scores | None, score: Score) -> bool:
        """True when this is the better one by the named score; an undefined score is never better."""
        mine, theirs = getattr(self, score), getattr(other, score, None)
        if mine is None or theirs is None:
            return mine is not None
        return bool(mine < theirs if score == "cremi_score" else mine > theirs)


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    Attributes:
        directory: The run directory, usable as MODEL.
        best: The checkpoint with the best validation score.
        scores: Its validation scores.
    """

    directory: Path
    best: Path
    scores: Scores


def validate(net: Network, regions: Sequence[Region], *, overlap: float = OVERLAP) -> tuple[Calibration, Scores]:
    """Predict whole regions, as `predict` does; calibrate the logits on them, and score them together.

    Args:
        net: The network.
        regions: What to predict and score; the CREMI score is the mean over them, as the challenge averages.
        overlap: Share of the patch that neighbouring tiles have in common.

    Returns:
        The calibration, and the scores at the threshold with the best F1.
    """
    logits, labels = [], [region.labels.read() for region in regions]
    for region in regions:
        whole = np.empty(region.raw.shape, np.float32)
        for done in logit_tiles(net, region.raw, overlap=overlap):
            whole[done.box.slices] = done.logits[0]
        logits.append(whole)
    true, valid = [is_cleft(ids) for ids in labels], [is_labelled(ids) for ids in labels]
    calibration = fit_calibration(logits, true, valid)
    uncorrected = _histogram([to_uint8(Calibration().probability(part)) for part in logits], true, valid)
    predictions = [to_uint8(calibration.probability(part)) for part in logits]
    histogram = _histogram(predictions, true, valid)
    best = histogram.best_f1()
    threshold = best[0] if best else 0.5
    counts = histogram.counts(threshold)
    distances = [
        cremi_score(predicted_mask(prediction, threshold), cleft, region.raw.voxel_size_nm, labelled)
        for prediction, cleft, labelled, region in zip(predictions, true, valid, regions, strict=True)
    ]
    return calibration, Scores(
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        auc=histogram.auc,
        cremi_score=_mean([d.score for d in distances]),
        adgt=_mean([d.adgt for d in distances]),
        adf=_mean([d.adf for d in distances]),
        threshold=threshold,
        calibration_error=reliability(histogram).error,
        uncalibrated_error=reliability(uncorrected).error,
    )


def _histogram(probabilities: Sequence[Array], true: Sequence[Mask], valid: Sequence[Mask]) -> ScoreHistogram:
    return functools.reduce(operator.add, map(ScoreHistogram.of, probabilities, true, valid))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of all values; None where one of them is undefined."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def fit(
    net: Network,
    patches: PatchSampler,
    regions: Sequence[Region],
    settings: TrainingSettings,
    loss: LossSettings,
    out: Path,
    provenance: Mapping[str, JsonValue],
) -> Run:
    """Train a network; keep the best and the last checkpoint, and the validation scores as `metrics.csv`.

    Args:
        net: The network, freshly initialised.
        patches: Training patches by number, used in order.
        regions: What is validated on.
        settings: How long and how fast.
        loss: The weights and form of Eq. 10.
        out: The run directory, which exists.
        provenance: What else a reader needs to do it again; goes into the checkpoints.

    Returns:
        The run with its best checkpoint.

    Raises:
        InputError: when the loss is no longer a finite number; the checkpoints written before stay.
    """
    device = best_device()
    net.channels_last().to(device).train()
    decay = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]  # untyped in torch
    average = AveragedModel(net, multi_avg_fn=decay, use_buffers=True)
    averaged = cast(Network, average.module)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    batches = DataLoader(patches, batch_size=settings.batch, num_workers=settings.loaders)
    log, best, began = _Log(out / METRICS), None, time.monotonic()
    for step, batch in enumerate(track(batches, "training", settings.steps), start=1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        raw, classes, distance = (tensor.to(device) for tensor in batch)
        losses = cleft_loss(net(raw.contiguous(memory_format=torch.channels_last_3d)), classes, distance, loss)
        if not torch.isfinite(losses.total):
            raise InputError(_diverged(step, losses, out))
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimiser.step()
        average.update_parameters(net)
        log.losses.append(torch.stack(losses).detach())
        if step % settings.validate_every and step < settings.steps:
            continue

        calibration, scores = validate(averaged, regions, overlap=settings.validation_overlap)
        card = ModelCard(
            spec=net.spec,
            calibration=calibration,
            threshold=scores.threshold,
            voxel_size_nm=regions[0].raw.voxel_size_nm,
            step=step,
            scores=asdict(scores),
            provenance=provenance,
        )
        model = Model(averaged, card)
        save_model(out / LAST, model)
        if best is None or scores.better_than(best, settings.best_by):
            best = scores
            save_model(out / BEST, model)
        log.write(step, settings.rate(step), time.monotonic() - began, scores, is_best=best is scores)
    assert best is not None, "the last step always validates"
    return Run(out, out / BEST, best)


class _Log:
    """The losses since the last validation, and `metrics.csv`, which grows by one line at each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[Tensor] = []

    def write(self, step: int, rate: float, seconds: float, scores: Scores, *, is_best: bool) -> None:
        """Add a line to the file and say the essentials on stderr."""
        parts = torch.stack(self.losses).mean(0).tolist()
        row = {"step": step, "seconds": round(seconds, 1), "learning_rate": rate}
        row |= {f"loss_{name}": value for name, value in zip(Losses._fields, parts, strict=True)} | asdict(scores)
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            table = csv.DictWriter(file, row)
            if fresh:
                table.writeheader()
            table.writerow(row)
        self.losses.clear()
        shown = {"loss": parts[0], "F1": scores.f1, "AUC": scores.auc, "CREMI score nm": scores.cremi_score}
        text = "  ".join(f"{name} {'undefined' if v is None else format(v, '.4g')}" for name, v in shown.items())
        note(f"step {step} ({seconds:.0f} s)  {text}{'  best so far' if is_best else ''}")


def _diverged(step: int, losses: Losses, out: Path) -> str:
    """Say that the loss is no longer a number, where the last good weights are, and what to try."""
    parts = ", ".join(f"{name} {float(value.detach()):g}" for name, value in zip(losses._fields, losses, strict=True))
    kept = (
        f"the weights of the last validation are in {out / LAST}" if (out / LAST).exists() else "nothing was saved yet"
    )
    return f"the loss is not a finite number at step {step} ({parts}); {kept}; try a lower training.learning_rate"
