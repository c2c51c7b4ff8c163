"""Fine-tuning against training from scratch and a random forest: F1 by the number of corrected synapses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import write_rows
from cleftnet.comparison.forest import ForestSettings, train_forest
from cleftnet.files import replacing
from cleftnet.geometry import Box
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.evaluation import evaluate
from cleftnet.models.checkpoint import BEST, Model, load_card, save_model, store_operating_point
from cleftnet.nets.skeleton import Network
from cleftnet.prediction import predict
from cleftnet.synapses import SynapseSettings, find_synapses, tune
from cleftnet.training.data import open_region
from cleftnet.training.fine_tuning import finetune as finetune_model
from cleftnet.training.fine_tuning_job import FineTuneSettings
from cleftnet.training.label_folds import LabelFolds
from cleftnet.training.recipe import Recipe, VolumeSettings, load_recipe
from cleftnet.training.runs import train
from cleftnet.volumes import INVALID, LABELS, Volume, is_cleft, open_volume, write_volume

METHODS = ("fine-tuned", "scratch", "forest")  # beside the base alone
COUNTS, DRAWS, STEPS = (3, 5, 8), 3, 200  # the halves of vnc-l3 below hold 6 and 12 synapses
FOREST_CELL_VOX = (8, 128, 128)
SURROUNDINGS_NM = 200.0  # labeled around what was looked at, as by `cleftnet review`
PREDICTED = "prediction.hdf"

Ids = npt.NDArray[np.uint64]


class Tissue(NamedTuple):
    """Where the tissue of a base, the corrections and the test lie, in voxels of the volume.

    Attributes:
        volume: A CREMI file.
        base: The base learns from this.
        base_validate: The base is validated on this part.
        halves: Tissue that the base does not see. Synapses of one half are corrected, and the other is scored.
    """

    volume: str
    base: Box
    base_validate: Box
    halves: tuple[Box, Box]


VNC_L3 = Tissue(
    "$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf",
    Box((0, 512, 0), (20, 896, 768)),
    Box((0, 896, 0), (20, 1024, 768)),
    (Box((0, 0, 0), (20, 256, 768)), Box((0, 256, 0), (20, 512, 768))),
)
"""vnc-l3, x < 768: the base sees y ≥ 512; the halves meet at y = 256."""


def corrected(labels: Volume, part: Box, found: Ids, count: int, draw: int) -> Ids:
    """Return the labels that a person makes who looks at a random share of what a model found in a part of the volume.

    Some synapses are labeled with their surroundings, the same share of the false detections is background, with what is around
    them, and all else is invalid.

    Args:
        labels: All labels.
        part: The part that synapses are drawn from.
        found: Ids of what the model found there, of the shape of the part.
        count: Number of synapses.
        draw: Seed. The synapses of a smaller count are among those of a larger one.
    """
    ids, rng = labels.read(), np.random.default_rng(draw)
    true = ids[part.slices]
    known = np.unique(Instances.of_labels(true).ids)
    kept = rng.permutation(known)[:count]
    false = rng.permutation(np.setdiff1d(found, np.append(found[is_cleft(true)], 0)))
    rejected = false[: round(len(false) * len(kept) / len(known))]
    result = np.full(ids.shape, INVALID, np.uint64)
    margin = [int(SURROUNDINGS_NM / side) for side in labels.voxel_size_nm]
    for where in [*(true == one for one in kept), *(found == one for one in rejected)]:
        box = _around(where).shift(part.start).grow(margin).intersect(part)
        result[box.slices] = ids[box.slices]
    undecided = (ids != 0) & ~np.isin(ids, kept)
    undecided[part.slices] |= np.isin(found, false[len(rejected) :])
    result[undecided] = INVALID
    return result


def _around(mask: npt.NDArray[np.bool_]) -> Box:
    """Return the bounding box of what is true."""
    where = np.argwhere(mask)
    (z0, y0, x0), (z1, y1, x1) = where.min(0).tolist(), (where.max(0) + 1).tolist()
    return Box((z0, y0, x0), (z1, y1, x1))


def cells(methods: Sequence[str], counts: Sequence[int], draws: int) -> Iterator[tuple[str, int, int]]:
    """Yield method, number of synapses and draw of every result; even draws correct the first half, odd ones the second."""
    yield from (("base", 0, half) for half in range(2))
    for count in counts:
        for draw in range(2 * draws):
            for method in methods:
                yield method, count, draw


class Experiment(NamedTuple):
    """A run of the benchmark.

    Attributes:
        out: Folder of the results.
        tissue: The volume and its parts.
        recipe: Recipe of the base; its data is replaced.
        steps: Most steps of the fine-tuning, and those of the training from scratch.
        given: Model to start from instead of the base that is trained here; None trains one.
    """

    out: Path
    tissue: Tissue
    recipe: Recipe
    steps: int
    given: str | None = None

    def base(self) -> str:
        """Return the base model; where none is given, one is trained and tuned on its own part of the volume."""
        if self.given is not None:
            return self.given
        run, volume, checked = self.out / "base", self.tissue.volume, self.tissue.base_validate
        if (run / BEST).exists() and load_card(run).synapses is not None:
            return str(run)
        data = self.recipe.data.changed(
            train=[{"raw": volume, "roi": str(self.tissue.base)}],
            validate=[{"raw": volume, "roi": str(checked)}],
        )
        train(self.recipe.changed(data=data), run, resume=True)
        truth = open_volume(volume, default=LABELS).crop(checked)
        store_operating_point(run, tune(predict(run, volume, roi=checked), truth).point)
        return str(run)

    def found_by_base(self, draw: int) -> Ids:
        """Return the synapses that the base finds in the part that a draw corrects: the part that the other draw scores."""
        self.result("base", 0, 1 - draw % 2)
        return find_synapses(self.out / "work" / f"base-0-{1 - draw % 2}" / PREDICTED).labels.read().astype(np.uint64)

    def result(self, method: str, count: int, draw: int) -> dict[str, Any]:
        """Return a result, computed where its file is not there yet."""
        path = self.out / f"{method}-{count}-{draw}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        work = self.out / "work" / path.stem
        prediction = work / PREDICTED
        work.mkdir(parents=True, exist_ok=True)
        raw = open_volume(self.tissue.volume)
        if not prediction.exists():
            self._predict(method, count, draw, work, raw)
        rule = SynapseSettings()  # the operating point stored with the prediction
        if method == "forest":  # it chooses no operating point, so it gets that of the base
            rule = SynapseSettings(point=load_card(self.base()).synapses, raw=raw)
        found = find_synapses(prediction, settings=rule).labels
        test = self.tissue.halves[1 - draw % 2]
        truth = open_volume(self.tissue.volume, default=LABELS).crop(test)
        voxels, objects = evaluate(prediction, truth), evaluate(found, truth).objects
        assert voxels.histogram is not None, "it is a probability"
        assert objects is not None, "they are labels"
        best = voxels.histogram.best_f1()
        values = {
            "method": method,
            "synapses": count,
            "draw": draw,
            "f1": voxels.f1,
            "object_f1": objects.f1,
            "auc": voxels.histogram.auc,
            "best_f1": None if best is None else best[1],
            "true": objects.true,
            "found": objects.predicted,
            "matched": objects.matched,
            "steps": self.steps,
            "test": str(test),
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")
        return values

    def _predict(self, method: str, count: int, draw: int, work: Path, raw: Volume) -> None:
        """Train a method on a draw of synapses, and predict the test part."""
        test = self.tissue.halves[1 - draw % 2]
        if method == "base":
            predict(self.base(), raw, work / PREDICTED, roi=test, overwrite=True)
            return
        labels = open_volume(self.tissue.volume, default=LABELS)
        ids = corrected(labels, self.tissue.halves[draw % 2], self.found_by_base(draw), count, draw)
        path = work / "labels.zarr"
        write_volume(Volume(ids, labels.voxel_size, labels.offset_nm), f"{path}/{LABELS[0]}", overwrite=True)
        if method == "forest":
            self._forest(open_volume(path, default=LABELS), work, raw, draw)
            return
        model, settings = self.base(), FineTuneSettings(steps=self.steps, seed=draw)
        if method == "scratch":
            model = str(_unlearned(model, work / "unlearned.safetensors", draw))
            settings = settings.changed(learning_rate=2e-3, patience=max(1, self.steps))
        finetune_model(model, raw, path, work / "run", settings=settings, resume=True)
        predict(work / "run", raw, work / PREDICTED, roi=test, overwrite=True)

    def _forest(self, labels: Volume, work: Path, raw: Volume, draw: int) -> None:
        """Train a random forest on all corrected synapses, calibrated as one that saw half of them; predict the test part."""
        halves = LabelFolds.of(raw, labels, FOREST_CELL_VOX, 2).write(work / "labels")[0]
        learned, checked = (
            [
                open_region(VolumeSettings(raw=self.tissue.volume, labels=str(path), roi=str(_box(path))))
                for path in paths
            ]
            for paths in halves
        )
        settings = ForestSettings()
        half = train_forest(settings, learned, draw).calibrated(checked)
        forest = replace(
            train_forest(settings, [*learned, *checked], draw), calibration=half.calibration, scores=half.scores
        )
        test = self.tissue.halves[1 - draw % 2]
        forest.predict(raw.crop(test), work / PREDICTED, overwrite=True)


def _box(labels: Path) -> Box:
    return open_volume(labels, default=LABELS).box


def released_recipe(name: str = "vnc-l3") -> Recipe:
    """Return the recipe of the networks of a released model, without classes of other tissue."""
    fields: dict[str, Any] = dict(load_card(name).provenance["recipe"])  # type: ignore[arg-type]
    return Recipe(**{**fields, "net": {**fields["net"], "tissue_classes": 0}})


def _unlearned(model: str, path: Path, seed: int) -> Path:
    """Write a model with the network of another one and random weights."""
    card = load_card(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_model(path, Model(Network(card.spec), card.model_copy(update={"members": 1})))
    return path


def curve(experiment: Experiment, methods: Sequence[str], counts: Sequence[int], draws: int) -> list[dict[str, Any]]:
    """Compute every result that is missing; return the means over draws of each method and number, and sums of the synapses."""
    results = [experiment.result(*cell) for cell in cells(methods, counts, draws)]
    rows = []
    for method, count in [("base", 0), *((method, count) for count in counts for method in methods)]:
        own = [one for one in results if (one["method"], one["synapses"]) == (method, count)]
        means = {
            name: float(np.mean([one[name] or 0.0 for one in own])) for name in ("auc", "f1", "best_f1", "object_f1")
        }
        sums = {name: sum(one[name] for one in own) for name in ("true", "found", "matched")}
        rows.append({"name": f"{method}, {count}" if count else method, **means, **sums})
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks finetune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"), help="folder of the results; resumed")
    parser.add_argument(
        "--recipe", help="recipe of the base, its data replaced; default: that of the released networks"
    )
    parser.add_argument("--base", help="a model to start from, instead of one trained here")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS, help="beside the base; default: all")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of corrected synapses")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of each number")
    parser.add_argument("--json", type=Path, help="file for the scores")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of fine-tuning and of training from scratch")
    given = parser.parse_args(arguments)
    recipe = released_recipe() if given.recipe is None else load_recipe(given.recipe)
    experiment = Experiment(given.out, VNC_L3, recipe, given.steps, given.base)
    rows = curve(experiment, given.methods, given.counts, given.draws)
    for row in rows:
        scores = "  ".join(f"{name} {row[name]:.3f}" for name in ("auc", "f1", "best_f1", "object_f1"))
        print(f"{row['name']:15s} {scores}  {row['true']} true, {row['found']} listed, {row['matched']} right")
    write_rows(given.json, rows)
