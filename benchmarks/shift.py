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

from cleftnet.comparison.cells import CellFolder
from cleftnet.comparison.folds import open_whole, raw_around
from cleftnet.comparison.out_of_fold import FoldLogits, choose_on_folds
from cleftnet.comparison.recipe import Comparison, load_comparison
from cleftnet.files import replacing
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


class Setup(NamedTuple):
    """What is tried.

    Attributes:
        comparison: A comparison by folds.
        row: Its row.
        seed: Its seed.
        folder: The finished cell.
        percentiles: Percentiles of gray values that are matched with those of the unchanged raw; None matches none.
        sections: Match every section by itself.
    """

    comparison: Comparison
    row: str
    seed: int
    folder: CellFolder
    percentiles: tuple[float, float] | None = None
    sections: bool = False

    def logits(self, region: Region, change: Callable[[Floats], Floats]) -> list[FoldLogits]:
        """Predict every fold of the changed raw by the model that never saw it."""
        recipe = self.comparison.recipe(self.row, self.seed)
        origin = open_whole(recipe)[1]
        values = np.clip(change(region.raw.read().astype(np.float64)), 0, 255).round().astype(np.uint8)
        seen = replace(region.raw, store=values)
        if self.percentiles is not None:
            seen = normalized(seen, matched_to(region.raw, self.percentiles, sections=self.sections))
        changed = Region(seen, region.labels)
        folds = []
        for number, fold in enumerate(self.comparison.cut(self.row)):
            scored = fold.scored.relative_to(origin)
            raw, inside = raw_around(changed, scored, recipe)
            net = load_model(self.folder.fold(number).run / "best.safetensors").net
            folds.append(
                FoldLogits(scored, whole_logits(net, raw, overlap=recipe.training.validation_overlap)[0][inside])
            )
        return folds

    def grid(self, name: str, region: Region, settings: TuningSettings) -> list[TuningPoint]:
        """Score every operating point on a changed raw, each fold calibrated on the unchanged other folds; kept in a file."""
        how = (
            "plain"
            if self.percentiles is None
            else "{}-{:g}-{:g}".format("sections" if self.sections else "matched", *self.percentiles)
        )
        path = self.folder.path / "shift" / how / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            probability = np.zeros(region.labels.shape, np.uint8)
            clean = [
                np.load(self.folder.fold(k).logits, allow_pickle=False)
                for k in range(len(self.comparison.cut(self.row)))
            ]
            folds = self.logits(region, SHIFTS[name])
            kept = [FoldLogits(fold.scored, own) for fold, own in zip(folds, clean, strict=True)]
            for number, fold in enumerate(folds):
                others = [one for other, one in enumerate(kept) if other != number]
                calibration = choose_on_folds(others, region, TuningSettings(scores=(), thresholds=(0.5,))).calibration
                probability[fold.scored.slices] = to_uint8(calibration.probability(fold.logits))
            placed = Volume(probability, region.labels.voxel_size, region.labels.offset_nm)
            points = tune(placed, region.labels, grid=settings).grid
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps([point.model_dump() for point in points]) + "\n")
        return [TuningPoint(**point) for point in json.loads(path.read_text())]


Place = tuple[float, float, int, float]


def by_place(points: Sequence[TuningPoint]) -> dict[Place, TuningPoint]:
    """Return points by threshold, threshold of seeds, gap and smallest size."""
    return {(one.threshold, one.seed_threshold, one.gap, one.min_size_nm3): one for one in points}


def report(grids: dict[str, dict[Place, TuningPoint]], places: dict[str, Place]) -> list[str]:
    """Return the lines of a table: a row for each change of raw, a column for each operating point and for the best one."""
    lines = [f"{'raw':20s}" + "".join(f"{name:>34s}" for name in [*places, "best"])]
    for name, grid in grids.items():
        shown = [grid[place] for place in places.values()] + [min(grid.values(), key=order)]
        texts = [
            f"{one.object_f1 or 0:.3f} ({one.matched} of {one.predicted}), {one.voxel_f1 or 0:.3f}" for one in shown
        ]
        texts[-1] += f" at {shown[-1].threshold:g}, {shown[-1].seed_threshold:g}, {shown[-1].min_size_nm3:g}"
        lines.append(f"{name:20s}" + "".join(f"{text:>34s}" for text in texts))
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks shift", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of a comparison by folds, with the trainings of the cell")
    parser.add_argument("--row", default="coarse", help="a row of networks; default: coarse")
    parser.add_argument("--seed", type=int, default=0, help="its seed; default: 0")
    parser.add_argument(
        "--match", type=float, nargs=2, metavar=("LOW", "HIGH"), help="percentiles of gray values to match"
    )
    parser.add_argument("--sections", action="store_true", help="match every section by itself")
    given = parser.parse_args(arguments)
    percentiles = None if given.match is None else tuple(given.match)
    comparison = load_comparison(given.out / "recipe.yaml")
    folder = CellFolder.of(given.out, given.row, given.seed)
    setup = Setup(comparison, given.row, given.seed, folder, percentiles, given.sections)
    region = open_whole(comparison.recipe(given.row, given.seed))[0]
    settings = comparison.synapses.changed(scores=(), gaps=(1,))
    grids = {}
    for name in SHIFTS:
        grids[name] = by_place(setup.grid(name, region, settings))
        print(f"{name}: done", flush=True)
    shared = list(grids["unchanged"])
    places = {
        "best of unchanged": min(shared, key=lambda place: order(grids["unchanged"][place])),
        "best of all": min(shared, key=lambda place: sum(order(grid[place])[0] for grid in grids.values())),
    }
    print("whole synapses: F1 (right of listed), then voxel F1")
    for name, place in places.items():
        print(f"{name}: threshold {place[0]:g}, seeds {place[1]:g}, gap {place[2]}, smallest {place[3]:g} nm³")
    print("\n".join(report(grids, places)))
