"""Whole synapses in raw whose gray values differ from those of the training, found by the fold models of a comparison."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.measure import write_rows
from cleftnet.comparison.cells import CellFolder
from cleftnet.comparison.folds import open_whole, raw_around
from cleftnet.comparison.out_of_fold import FoldLogits
from cleftnet.comparison.recipe import Comparison, load_comparison
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.metrics.calibration import Calibration
from cleftnet.metrics.voxels import Floats
from cleftnet.models.checkpoint import load_model
from cleftnet.prediction import to_uint8, whole_logits
from cleftnet.synapses import TuningSettings, tune
from cleftnet.synapses.tuning_result import TuningPoint, order
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume, matched_to, normalized


def sections_differ(raw: Floats) -> Floats:
    """Return raw whose sections have a contrast of 0.7 to 1.3, and are up to 20 brighter or darker, at random."""
    random = np.random.default_rng(0)
    contrast, offset = random.uniform(0.7, 1.3, (len(raw), 1, 1)), random.uniform(-20, 20, (len(raw), 1, 1))
    return np.asarray(raw.mean() + contrast * (raw - raw.mean()) + offset)


SHIFTS: dict[str, Callable[[Floats], Floats]] = {  # of gray values in 0-255, z y x
    "unchanged": lambda raw: raw,
    "darker by 30": lambda raw: raw - 30,
    "brighter by 30": lambda raw: raw + 30,
    "contrast 0.6": lambda raw: raw.mean() + 0.6 * (raw - raw.mean()),
    "contrast 1.4": lambda raw: raw.mean() + 1.4 * (raw - raw.mean()),
    "gamma 0.7": lambda raw: 255 * (raw / 255) ** 0.7,
    "gamma 1.4": lambda raw: 255 * (raw / 255) ** 1.4,
    "blur of 1.5 pixels": lambda raw: gaussian_filter(raw, (0, 1.5, 1.5)),
    "sections differ": sections_differ,
    "noise of 20": lambda raw: raw + np.random.default_rng(0).normal(0, 20, raw.shape),
}

MATCHED = ("plain", "volume", "sections")  # whose contrast becomes that of the unchanged raw
Place = tuple[float, float, int, float]  # threshold, threshold of seeds, gap and smallest size


class Setup(NamedTuple):
    """What is tried.

    Attributes:
        comparison: A comparison by folds.
        row: Its row.
        seed: Its seed.
        folder: The finished cell.
    """

    comparison: Comparison
    row: str
    seed: int
    folder: CellFolder

    def logits(self, region: Region, change: Callable[[Floats], Floats], matched: str) -> list[FoldLogits]:
        """Predict every fold of the changed raw by the model that never saw it."""
        recipe = self.comparison.recipe(self.row, self.seed)
        origin = open_whole(recipe)[1]
        values = np.clip(change(region.raw.read().astype(np.float64)), 0, 255).round().astype(np.uint8)
        seen = replace(region.raw, store=values)
        if matched != "plain":
            seen = normalized(seen, matched_to(region.raw, sections=matched == "sections"))
        changed = Region(seen, region.labels)
        folds = []
        for number, fold in enumerate(self.comparison.cut(self.row)):
            scored = fold.scored.relative_to(origin)
            raw, inside = raw_around(changed, scored, recipe)
            net = load_model(self.folder.fold(number).run).net
            folds.append(
                FoldLogits(scored, whole_logits(net, raw, overlap=recipe.training.validation_overlap)[0][inside])
            )
        return folds

    def grid(self, name: str, matched: str, region: Region, settings: TuningSettings) -> dict[Place, TuningPoint]:
        """Score every operating point on a changed raw, each fold calibrated on the unchanged other folds; kept in a file."""
        path = self.folder.path / "shift" / matched / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            probability = np.zeros(region.labels.shape, np.uint8)
            cell = self.folder.load()
            if cell is None:
                raise InputError(f"{self.folder.path} holds no finished cell; run the comparison first")
            for fold, choice in zip(self.logits(region, SHIFTS[name], matched), cell.folds, strict=True):
                calibration = Calibration(choice.scale, choice.shift)
                probability[fold.scored.slices] = to_uint8(calibration.probability(fold.logits))
            placed = Volume(probability, region.labels.voxel_size, region.labels.offset_nm)
            points = tune(placed, region.labels, grid=settings).grid
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps([point.model_dump() for point in points]) + "\n")
        points = [TuningPoint(**point) for point in json.loads(path.read_text())]
        return {(one.threshold, one.seed_threshold, one.gap, one.min_size_nm3): one for one in points}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks shift", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of a comparison by folds, with the trainings of the cell")
    parser.add_argument("--row", default="coarse", help="a row of networks; default: coarse")
    parser.add_argument("--seed", type=int, default=0, help="its seed; default: 0")
    parser.add_argument("--json", type=Path, help="file for the F1 of whole synapses")
    given = parser.parse_args(arguments)
    comparison = load_comparison(given.out / "recipe.yaml")
    setup = Setup(comparison, given.row, given.seed, CellFolder.of(given.out, given.row, given.seed))
    region = open_whole(comparison.recipe(given.row, given.seed))[0]
    settings = comparison.synapses.changed(scores=(), gaps=(1,))
    unchanged = setup.grid("unchanged", "plain", region, settings)
    place = min(unchanged, key=lambda place: order(unchanged[place]))
    print(
        f"threshold {place[0]:g}, seeds {place[1]:g}, gap {place[2]}, smallest {place[3]:g} nm³: best of unchanged raw"
    )
    print("F1 of whole synapses and of their voxels, right of listed; at the best operating point of each")
    rows = []
    for name in SHIFTS:
        row: dict[str, str | float] = {"name": name}
        for matched in MATCHED:
            grid = setup.grid(name, matched, region, settings)
            print(
                f"{name:20s} {matched:10s} {_text(grid[place]):35s} {_text(min(grid.values(), key=order))}", flush=True
            )
            row[matched] = grid[place].object_f1 or 0.0
        rows.append(row)
    write_rows(given.json, rows)


def _text(point: TuningPoint) -> str:
    """Return the scores of an operating point."""
    return f"{point.object_f1 or 0:.3f} {point.voxel_f1 or 0:.3f} ({point.matched} of {point.predicted})"
