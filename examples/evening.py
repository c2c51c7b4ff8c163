"""An evening with tissue of one's own: predict, look, correct, fine-tune, predict again, count: `python examples/evening.py`.

The model of `cleftnet demo` stands in for one that learned from other tissue, synthetic tissue with paler clefts and more
noise for a lab's, and its true labels for the person who looks: a candidate is accepted where its voxels fit a true cleft,
redrawn where it lies on one or another synapse beside it was missed, and rejected elsewhere. Every command is printed with the
time it took. At the end both models are scored on a second volume, which nobody corrected.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

import cleftnet
from cleftnet.review import ReviewSet
from cleftnet.synthetic import SyntheticSettings, synthetic_volume
from cleftnet.volumes import LABELS, Volume, open_volume, write_cremi

FIT = 0.6  # of a candidate's voxels and those of the true cleft: twice the shared ones by their sum
LOOKS = {"uncertain": 12, "random": 4, "missed": 12}
TISSUE = SyntheticSettings(synapses_per_um3=24, cleft_darkness=1.7, distractors_per_synapse=2, defect_probability=0)


def write_tissue(path: Path, shape: tuple[int, int, int], seed: int) -> None:
    """Write synthetic tissue with its true labels as a CREMI file."""
    tissue = synthetic_volume(shape, seed=seed, settings=TISSUE)
    write_cremi(path, raw=tissue.raw, clefts=tissue.labels)


def run(*arguments: str) -> None:
    """Run a command of cleftnet as a user would, and print it with its time."""
    print(f"$ cleftnet {shlex.join(arguments)}", flush=True)
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cleftnet", *arguments], check=True, env={**os.environ, "CLEFTNET_PROGRESS": "0"}
    )
    print(f"  ({time.monotonic() - begin:.0f} s)", flush=True)


def decide(review: ReviewSet, truth: Volume) -> Counter[str]:
    """Decide about every candidate as somebody who knows the truth, and return the number of each verdict.

    A synapse of the window that is no candidate's is drawn as well: what nobody draws there becomes background.
    """
    own = {number: _clefts(truth[review.box(number)][review.mask(number)]) for number in review.undecided()}
    settled = np.concatenate([np.zeros(0, np.uint64), *own.values()])
    verdicts: Counter[str] = Counter()
    for number, hit in own.items():
        window = review.window(number)
        true, mask = truth[window], np.zeros(window.shape, np.bool_)
        mask[review.box(number).relative_to(window.start).slices] = review.mask(number)
        missed = np.setdiff1d(_clefts(true), settled)
        cleft = np.isin(true, np.append(hit, missed))
        if not cleft.any():
            verdict, drawn = "reject", None
        elif not missed.size and 2 * np.count_nonzero(cleft & mask) >= FIT * (
            np.count_nonzero(cleft) + np.count_nonzero(mask)
        ):
            verdict, drawn = "accept", None
        else:
            verdict, drawn = "redraw", np.where(cleft, true, 0)
        review.decide(number, verdict, by="example", redrawn=drawn)
        settled = np.append(settled, missed)
        verdicts[verdict] += 1
    return verdicts


def _clefts(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return np.unique(ids[ids > 0])


def main(arguments: list[str] | None = None) -> int:
    """Spend the evening in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("evening"), help="new folder (default: evening)")
    parser.add_argument("--model", help="model to begin with (default: that of `cleftnet demo`, trained first)")
    parser.add_argument("--side", type=int, default=256, help="y and x voxels of the tissue (default: 256)")
    parser.add_argument("--steps", type=int, default=100, help="most steps of the fine-tuning (default: 100)")
    given = parser.parse_args(arguments)
    model = given.model
    if model is not None and Path(model).exists():
        model = str(Path(model).resolve())
    given.out.mkdir(parents=True)
    os.chdir(given.out)
    if model is None:
        run("demo", "demo")
        model = "demo/run"
    write_tissue(Path("lab.hdf"), (20, given.side, given.side), seed=1)
    write_tissue(Path("test.hdf"), (20, given.side, given.side), seed=2)
    begin = time.monotonic()
    run("predict", model, "lab.hdf", "first.hdf")
    run("synapses", "first.hdf", "draft")
    run("review", "draft", "looks", *(word for kind, number in LOOKS.items() for word in (f"--{kind}", str(number))))
    verdicts = decide(cleftnet.open_review("looks"), open_volume("lab.hdf", default=LABELS))
    print(f"  decided: {', '.join(f'{number} {verdict}' for verdict, number in sorted(verdicts.items()))}")
    run("review", "looks", "--apply", "corrected")
    run("finetune", model, "lab.hdf", "corrected", "--out", "mine", "--steps", str(given.steps))
    for which, name in (("before", model), ("after", "mine")):
        run("predict", name, "test.hdf", f"{which}.hdf")
        run("synapses", f"{which}.hdf", which)
        run("evaluate", f"{which}.hdf", "test.hdf")
        run("evaluate", f"{which}/labels.zarr", "test.hdf")
    print(f"the evening took {(time.monotonic() - begin) / 60:.0f} minutes, decisions not counted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
