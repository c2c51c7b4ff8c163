"""Part 3: the paper's Table IV at its own width and patch, equal minutes a row, then further seeds and folds."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.gpu.session import Session, gpu_busy
from benchmarks.gpu.steps import training_step
from cleftnet.comparison import TABLES, CellFolder, Comparison, Plan, carry_out, load_comparison
from cleftnet.comparison.comparing import write_results
from cleftnet.nets.kernels import fast_kernels
from cleftnet.synthetic import synthetic_volume
from cleftnet.training.log import METRICS
from cleftnet.training.recipe import dump
from cleftnet.training.runs import RECIPE
from cleftnet.training.state import STATES
from cleftnet.volumes import Volume, write_cremi, write_volume

RECIPE_NAME = "tables-vnc-l3"
BORDERS = (0, 256, 512, 768, 1024)  # of the folds along y; the fourth validates on y >= 768, as the recipe does
CANDIDATE_S = 110.0
SYNAPSES = {  # what was tried for whole synapses in the first cells, and so in all
    "thresholds": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "sizes_nm3": [0.0, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6],
    "gaps": [0, 1],
    "scores": [0.2, 0.3, 0.4, 0.5, 0.6],
    "seed_thresholds": [0.0],
}
REST_S = 25.0  # of a cell beside its minutes, before one was measured


def run(session: Session) -> None:
    """Train, predict and score the missing cells while a whole one still fits into the time."""
    rest = 0.0 if session.tiny else REST_S
    for fold, row, seed in cells(session):
        if name_of(fold, row, seed) in session.file("table").results:
            continue
        comparison = comparison_on(session, fold)
        minutes = comparison.recipe(row, seed).training.minutes or 0.0
        if session.left_s() < 60 * minutes + rest + _reserved_s(session):
            print(f"  no time is left for {name_of(fold, row, seed)} and what follows it")
            break
        start = time.monotonic()
        _make(session, comparison, fold, row, seed)
        rest = max(rest, time.monotonic() - start - 60 * minutes)
    write_tables(session)


def first_pass(session: Session) -> bool:
    """Return whether every row has been trained once on fold 4, or failed in this run."""
    comparison = comparison_on(session, fold=4)
    over = session.file("table").results.keys() | session.failed
    return all(name_of(4, row, comparison.seeds[0]) in over for row in comparison.tables[0].rows)


def _reserved_s(session: Session) -> float:
    """Return the seconds that belong to the candidate: some once every row has been trained, until there is one."""
    waiting = first_pass(session) and not session.file("candidate").results
    return CANDIDATE_S if waiting and not session.tiny else 0.0


def cells(session: Session) -> Iterator[tuple[int, str, int]]:
    """Yield fold, row and seed of all cells in order: all rows of fold 4 with every seed, then the other folds."""
    comparison = comparison_on(session, fold=4)
    rows, (first, *others) = comparison.tables[0].rows, comparison.seeds
    passes = [(4, first, rows), *((4, seed, rows) for seed in others), *((fold, first, rows) for fold in (3, 2, 1))]
    if session.tiny:
        passes = [(4, first, rows), (3, first, rows[:1])]
    for fold, seed, some in passes:
        yield from ((fold, row, seed) for row in some)


def name_of(fold: int, row: str, seed: int) -> str:
    """Return the name of a cell among the results."""
    return f"fold {fold}, {row}, seed {seed}"


def _make(session: Session, comparison: Comparison, fold: int, row: str, seed: int) -> None:
    """Make one cell and store it; a cell that fails is tried again by the next run."""
    recipe, busy = comparison.recipe(row, seed), dict[str, Any]()
    if comparison.rows[row].classical is None:  # the choice of kernels takes no time from the training
        with fast_kernels(session.device):
            training_step(session, recipe.net, recipe.training.batch)()
    plan = Plan.of(comparison, folder_of(session, fold), rows=[row], seeds=[seed])
    with gpu_busy(busy):
        carry_out(plan)
    folder = plan.folder(row, seed)
    cell = folder.load()
    if cell is None:
        session.failed.add(name_of(fold, row, seed))
        print(f"  {name_of(fold, row, seed)} failed:\n{folder.failure.read_text()[-2000:]}")
        return
    with (folder.run / METRICS).open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    values: dict[str, Any] = {
        "fold": fold,
        "row": row,
        "f1": cell.scores.f1,
        "auc": cell.scores.auc,
        "cremi_score": cell.scores.cremi_score,
    }
    values |= {key: float(last[key]) for key in ("patches_per_second", "data_wait") if last[key]} | busy
    session.add("table", name_of(fold, row, seed), values | {"cell": cell.model_dump(mode="json")}, seed)
    shutil.rmtree(folder.run / STATES, ignore_errors=True)  # up to a gigabyte


def folder_of(session: Session, fold: int) -> Path:
    """Return the output folder of a fold's comparison, with the cells that earlier runs finished."""
    out = session.work / f"fold-{fold}"
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(yaml.safe_dump(dump(comparison_on(session, fold)), allow_unicode=True))
    for result in session.file("table").results.values():
        cell = result["values"]["cell"]
        file = CellFolder.of(out, cell["row"], cell["seed"]).file
        if result["values"]["fold"] == fold and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(cell))
    return out


@functools.cache
def comparison_on(session: Session, fold: int) -> Comparison:
    """Return the comparison of a fold: it validates there and learns from the rest of y."""
    comparison = load_comparison(RECIPE_NAME)
    base: dict[str, Any] = dict(comparison.base)
    (volume,) = base["data"]["train"]
    low, high = BORDERS[fold - 1], BORDERS[fold]
    sides = [(0, low), (high, BORDERS[-1])]
    training: dict[str, Any] = dict(base["training"])
    depth, width = "0:20", "0:768"
    if session.tiny:
        volume, depth, width = _tissue(session), "0:16", "0:96"
        low, high, sides = low // 8, high // 8, [(a // 8, b // 8) for a, b in sides]
        sizes = session.sizes
        tiny = {"patch": list(sizes.patch), "widths": list(sizes.widths), "max_keys": sizes.max_keys}
        base["net"] = base["net"] | tiny
        base["sampling"] = {"min_cleft_voxels": 1}
        training |= {"minutes": None, "steps": 2, "batch": 2, "warmup_steps": 0, "precision": 32, "loaders": 0}
    else:
        training["loaders"] = _loaders(training["loaders"])

    def part(a: int, b: int) -> dict[str, Any]:
        return dict(volume) | {"roi": f"{depth},{a}:{b},{width}"}

    base["training"] = training
    base["data"] = {"train": [part(a, b) for a, b in sides if b > a], "validate": [part(low, high)]}
    base["data"]["validate"][0].pop("tissue")
    synapses = {"thresholds": [0.5], "sizes_nm3": [0.0]} if session.tiny else SYNAPSES
    content: dict[str, Any] = dump(comparison)
    return Comparison(**(content | {"base": base, "synapses": synapses, "tables": content["tables"][:1]}))


def _tissue(session: Session) -> dict[str, str]:
    """Return a small synthetic volume, as recipes name one; its other tissue is one class everywhere."""
    file, tissue = session.work / "synthetic.hdf", session.work / "tissue.zarr"
    if not file.exists():
        synthetic = synthetic_volume((16, 128, 96), seed=0)
        write_volume(Volume(np.zeros(synthetic.raw.shape, np.uint8), synthetic.raw.voxel_size), tissue, overwrite=True)
        write_cremi(file, raw=synthetic.raw, clefts=synthetic.labels)
    return {"raw": str(file), "tissue": str(tissue)}


def _loaders(wanted: int) -> int:
    """Return how many loader processes the cores and the shared memory of this machine allow; each holds two batches."""
    batch = 16 * 8 * 256 * 256 * 9  # bytes: raw and distance of 4, classes of 1
    shared = os.statvfs("/dev/shm")
    allowed = min(wanted, (os.cpu_count() or 1) - 2, shared.f_bavail * shared.f_frsize // (3 * batch))
    if allowed < wanted:
        print(f"  {allowed} loader processes instead of {wanted}")
    return max(0, allowed)


def write_tables(session: Session) -> None:
    """Write the tables of fold 4 beside the results."""
    results = session.file("table").results
    if any(result["values"]["fold"] == 4 for result in results.values()):
        plan = Plan.of(comparison_on(session, 4), folder_of(session, 4))
        write_results(plan)
        shutil.copyfile(plan.out / TABLES, session.out / TABLES)
