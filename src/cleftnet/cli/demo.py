"""The main job once, from nothing: a synthetic volume, a training, a prediction of a part nobody trained on, synapses, a page.

The volume is cut in three along y: the first part is learned from, the second chooses checkpoint and threshold, the
third is only predicted and scored.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from cleftnet.errors import InputError
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import Box
from cleftnet.metrics.evaluation import evaluate
from cleftnet.metrics.scores import Evaluation
from cleftnet.prediction import predict
from cleftnet.reporting import PAGE, report
from cleftnet.synapses import Synapses, find_synapses
from cleftnet.synthetic import SyntheticSettings, synthetic_volume
from cleftnet.training.recipe import Recipe
from cleftnet.training.runs import train
from cleftnet.volumes import LABELS, open_volume, write_cremi

log = logging.getLogger(__name__)

SHAPE = (24, 512, 320)  # z y x voxels of 40×4×4 nm
TRAIN, VALIDATE, HELD_OUT = (0, 304), (304, 400), (400, 512)  # along y
TISSUE = SyntheticSettings(
    synapses_per_um3=24, cleft_darkness=2.5, distractors_per_synapse=2.0, noise=0.04, defect_probability=0
)  # tame enough for a few minutes of two cores


@dataclass(frozen=True)
class Demo:
    """What the demo left behind.

    Attributes:
        directory: Holds `volume.hdf`, `run/`, `prediction.hdf`, `synapses/`, `scores.json`, `report.html`.
        held_out: The part that was predicted, in voxels of the volume.
        evaluation: Its scores.
        synapses: What was found there.
        page: All of it to look at.
    """

    directory: Path
    held_out: Box
    evaluation: Evaluation
    synapses: Synapses
    page: Path


def _part(y: tuple[int, int]) -> Box:
    return Box((0, y[0], 0), (SHAPE[0], y[1], SHAPE[2]))


def demo_recipe(volume: Path, seed: int = 0) -> Recipe:
    """Return the demo's recipe: CleftNet made small enough for two cores and a few minutes."""
    return Recipe.model_validate(
        {
            "seed": seed,
            "net": {"name": "cleftnet", "patch": (8, 64, 64), "widths": (8, 16, 24, 32), "max_keys": 512},
            "data": {
                "train": [{"raw": str(volume), "roi": str(_part(TRAIN))}],
                "validate": [{"raw": str(volume), "roi": str(_part(VALIDATE))}],
            },
            "sampling": {"min_cleft_voxels": 200},
            "augment": {"rotation": "quarter"},  # what its scores in docs/results.md were measured with
            "loss": {"coherence_weight": 0.05},  # the paper's 0.2 holds the first few hundred steps back
            "training": {
                "steps": 360,
                "batch": 4,
                "learning_rate": 4e-3,
                "warmup_steps": 20,
                "schedule": "cosine",
                "ema": 0.98,
                "validate_every": 120,
            },
        }
    )


def run_demo(out: Path, *, seed: int = 0, overwrite: bool = False) -> Demo:
    """Make a synthetic volume, train on a part of it, predict another part, list its synapses, score it, and show it.

    Args:
        out: The folder to fill.
        seed: Of volume, weights and patches.
        overwrite: Whether what an earlier demo left there may be replaced.

    Raises:
        InputError: when the folder holds something and `overwrite` is False.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; expected a name for a folder")
    volume, prediction, scores = out / "volume.hdf", out / "prediction.hdf", out / "scores.json"
    for path in (volume, prediction, out / "synapses", scores, out / PAGE):
        refuse_existing(path, overwrite)
    log.info(f"making a synthetic volume of {'×'.join(map(str, SHAPE))} voxels: {volume}")
    raw, labels = synthetic_volume(SHAPE, seed=seed, settings=TISSUE)
    write_cremi(volume, raw=raw, clefts=labels, overwrite=overwrite)
    log.info(f"training on y {TRAIN[0]}:{TRAIN[1]}, choosing checkpoint and threshold on y {VALIDATE[0]}:{VALIDATE[1]}")
    run = train(demo_recipe(volume, seed), out / "run", overwrite=overwrite)
    held_out = _part(HELD_OUT)
    log.info(f"predicting y {HELD_OUT[0]}:{HELD_OUT[1]}, which nobody has trained on: {prediction}")
    probability = predict(run.best, volume, prediction, roi=held_out, overwrite=overwrite)
    evaluation = evaluate(probability, open_volume(volume, default=LABELS), roi=held_out)
    with replacing(scores, overwrite=True) as temporary:
        temporary.write_text(json.dumps(evaluation.to_json(), indent=2))
    found = find_synapses(probability, out / "synapses", overwrite=overwrite)
    page = report(out, overwrite=overwrite)
    return Demo(out, held_out, evaluation, found, page)
