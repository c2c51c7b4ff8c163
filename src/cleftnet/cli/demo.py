"""Runs the whole pipeline on synthetic data: volume, training, prediction, synapses, scores and a report.

The volume is cut in three along y. The network is trained on the first part; the second part is for validation, which chooses
the threshold of the prediction, and the operating point of the synapses, which is stored with the model; the third part is
predicted and scored.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleftnet.errors import InputError
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import Box
from cleftnet.metrics.evaluation import evaluate
from cleftnet.metrics.scores import Evaluation
from cleftnet.models.checkpoint import store_operating_point
from cleftnet.prediction import predict
from cleftnet.reporting import PAGE, report
from cleftnet.synapses import Synapses, find_synapses, tune
from cleftnet.synthetic import SyntheticSettings, synthetic_volume
from cleftnet.training.recipe import Recipe
from cleftnet.training.runs import train
from cleftnet.volumes import LABELS, open_volume, write_cremi

log = logging.getLogger(__name__)

SHAPE = (24, 512, 320)  # z y x voxels of 40×4×4 nm
TRAIN, VALIDATE, HELD_OUT = (0, 304), (304, 400), (400, 512)  # along y
TISSUE = SyntheticSettings(
    synapses_per_um3=24, cleft_darkness=2.5, distractors_per_synapse=2.0, noise=0.04, defect_probability=0
)  # easy enough to learn in a few minutes on two cores


@dataclass(frozen=True)
class Demo:
    """The results of a demo.

    Attributes:
        directory: Folder with `volume.hdf`, `run/`, `prediction.hdf`, `synapses/`, `scores.json` and `report.html`.
        held_out: The part that was predicted, in voxels of the volume.
        evaluation: Scores of the held-out part.
        true_synapses: Number of true synapses in the held-out part.
        synapses: Synapses found in the held-out part.
        page: The report.
    """

    directory: Path
    held_out: Box
    evaluation: Evaluation
    true_synapses: int
    synapses: Synapses
    page: Path


def _part(y: tuple[int, int]) -> Box:
    return Box((0, y[0], 0), (SHAPE[0], y[1], SHAPE[2]))


def demo_recipe(volume: Path, seed: int = 0) -> Recipe:
    """Return the training recipe of the demo: a CleftNet small enough to train on two cores in a few minutes."""
    return Recipe.model_validate(
        {
            "seed": seed,
            "net": {"name": "cleftnet", "patch": (8, 64, 64), "widths": (8, 16, 24, 32), "max_keys": 64},
            "data": {
                "train": [{"raw": str(volume), "roi": str(_part(TRAIN))}],
                "validate": [{"raw": str(volume), "roi": str(_part(VALIDATE))}],
            },
            "sampling": {"min_cleft_voxels": 200},
            "augment": {"rotation": "quarter"},  # leaves raw uninterpolated
            "loss": {"coherence_weight": 0.05},  # the paper's 0.2 slows down the first few hundred steps
            "training": {
                "steps": 320,
                "batch": 4,
                "learning_rate": 4e-3,
                "warmup_steps": 20,
                "schedule": "cosine",
                "ema": 0.98,
                "validate_every": 320,  # once, at the end
            },
        }
    )


def run_demo(out: Path, *, seed: int = 0, overwrite: bool = False) -> Demo:
    """Make a synthetic volume, train on one part of it, and predict, score and report on another part.

    Args:
        out: Output folder.
        seed: Seed of volume, weights and patches.
        overwrite: Whether to replace the output of an earlier demo.

    Raises:
        InputError: when the folder contains the output of an earlier demo and `overwrite` is False.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; expected the name of a folder")
    volume, prediction, scores = out / "volume.hdf", out / "prediction.hdf", out / "scores.json"
    for path in (volume, prediction, out / "synapses", scores, out / PAGE):
        refuse_existing(path, overwrite)
    log.info(f"making a synthetic volume of {'×'.join(map(str, SHAPE))} voxels: {volume}")
    raw, labels = synthetic_volume(SHAPE, seed=seed, settings=TISSUE)
    write_cremi(volume, raw=raw, clefts=labels, overwrite=overwrite)
    log.info(f"training on y {TRAIN[0]}:{TRAIN[1]}, validating on y {VALIDATE[0]}:{VALIDATE[1]}")
    run = train(demo_recipe(volume, seed), out / "run", overwrite=overwrite)
    truth, validated, held_out = open_volume(volume, default=LABELS), _part(VALIDATE), _part(HELD_OUT)
    log.info("choosing how synapses are found, on the validation part; the model keeps it")
    store_operating_point(run.best, tune(predict(run.best, volume, roi=validated), truth.crop(validated)).point)
    log.info(f"predicting y {HELD_OUT[0]}:{HELD_OUT[1]}, held out from training: {prediction}")
    probability = predict(run.best, volume, prediction, roi=held_out, overwrite=overwrite)
    evaluation = evaluate(probability, truth, roi=held_out, kind="probability")
    with replacing(scores, overwrite=True) as temporary:
        temporary.write_text(json.dumps(evaluation.to_json(), indent=2))
    log.info(f"finding synapses: {out / 'synapses'}")
    synapses = find_synapses(probability, out / "synapses", overwrite=overwrite)
    true_synapses = len(np.unique(truth[held_out])) - 1  # the background has an id too
    page = report(out, overwrite=overwrite)
    return Demo(out, held_out, evaluation, true_synapses, synapses, page)
