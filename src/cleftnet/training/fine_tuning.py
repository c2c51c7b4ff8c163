"""Fine-tunes a model on a few labels, without a recipe: members by folds of the labels, joined to one model.

Every network of the base learns from all folds of the labels but one, and is validated on that one. Out-of-fold predictions
choose calibration, threshold and operating point of the ensemble, so that no label is both learned from and judged by.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cleftnet.errors import InputError
from cleftnet.files import holding, refuse_existing
from cleftnet.training.dry_run import TrainingEstimate
from cleftnet.training.fine_tuning_job import DONE, FineTuneSettings, FineTuningJob, member
from cleftnet.training.loop import TrainingRun
from cleftnet.training.runs import LOCK, RECIPE, train
from cleftnet.volumes import Address, Volume

log = logging.getLogger(__name__)


def finetune(
    model: str | Path,
    volume: Volume | Address,
    labels: Volume | Address,
    out: str | Path,
    *,
    settings: FineTuneSettings = FineTuneSettings(),  # noqa: B008 - it is frozen
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingRun:
    """Fine-tune a model on a few labels of other tissue; the result is a MODEL with an operating point for synapses.

    Of an ensemble every network is fine-tuned, each without one fold of the labels: its mean stays better than one network,
    and networks of this size take minutes. The expected time is logged before the first step.

    Args:
        model: A run directory, a checkpoint file or the name of a released model.
        volume: Gray values: a file, or a volume that was opened from one.
        labels: Cleft ids, unlabeled voxels invalid, placed in the volume by their offset; or the folder that `apply_review`
            wrote. What is labeled background must be free of synapses.
        out: Run directory.
        settings: Length, learning rate, folds.
        resume: Continue an interrupted fine-tuning in `out` exactly; start where there is none.
        overwrite: Replace what is in `out`.

    Returns:
        The run; `run.scores` are voxel scores out of fold.

    Raises:
        InputError: when there is no such model, the labels hold fewer than two synapses or do not fit the volume, or `out` is
            in use or belongs to another fine-tuning.
        TrainingInterrupted: when SIGTERM ended the training; its state is saved.
    """
    directory = Path(out)
    if resume and overwrite:
        raise InputError("resume=True continues a fine-tuning and overwrite=True replaces it; choose one")
    if resume and (directory / RECIPE).exists():
        raise InputError(f"{directory} is the run directory of a training from a recipe; choose another directory")
    if not resume:
        refuse_existing(directory, overwrite)
    job = FineTuningJob.of(model, volume, labels, settings)
    with ExitStack() as stack:
        if not stack.enter_context(holding(directory / LOCK)):
            raise InputError(f"another process is training in {directory}; wait for it, or choose another directory")
        recipes = job.prepare(directory, resume)
        done = [(member(directory, number) / DONE).exists() for number in range(len(recipes))]
        if not all(done):
            _announce(job.estimate(recipes), done.count(False))
        for number, recipe in enumerate(recipes):
            if not done[number]:
                log.info(f"network {number + 1} of {len(recipes)}")
                train(recipe, member(directory, number), resume=resume, overwrite=not resume)
                (member(directory, number) / DONE).touch()
        return job.join(directory, recipes)


def estimate_finetuning(
    model: str | Path,
    volume: Volume | Address,
    labels: Volume | Address,
    *,
    settings: FineTuneSettings = FineTuneSettings(),  # noqa: B008 - it is frozen
) -> list[tuple[str, str]]:
    """Run one step of a fine-tuning, and return memory and time as names and values; nothing is kept.

    Args:
        model: As for `finetune`.
        volume: As for `finetune`.
        labels: As for `finetune`.
        settings: As for `finetune`.

    Raises:
        InputError: as `finetune`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job = FineTuningJob.of(model, volume, labels, settings)
        recipes = job.prepare(Path(scratch), resume=False)
        estimate = job.estimate(recipes)
        rows = [row for row in estimate.rows() if row[0] != "total"]
        minutes = estimate.seconds * len(recipes) / 60
        return [
            ("networks", str(len(recipes))),
            ("synapses", str(job.folds.clefts)),
            *rows,
            ("total", f"at most {settings.steps:,} steps of each network, about {minutes:.0f} minutes"),
        ]


def _announce(estimate: TrainingEstimate, networks: int) -> None:
    minutes = estimate.seconds * networks / 60
    log.info(f"fine-tuning {networks} networks takes about {minutes:.0f} minutes at most, less with an early stop")
