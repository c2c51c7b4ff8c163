"""Makes the sound inputs that a fuzzing run damages: tiny volumes in every format, a model, a run, a review and recipes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import tifffile
import yaml

from cleftnet.cli import main
from cleftnet.volumes import PROBABILITY_NAME, Volume, write_cremi, write_volume

MODEL = "model.safetensors"
SHAPE, SIZE_NM = (8, 40, 48), (40.0, 4.0, 4.0)
RAW = (
    "a.hdf", "plain.hdf", "stack.tif", "series", "ome.tif", "packed.tif", "two.zarr", "three.zarr", "vol.n5", "pre",
    "vol.mrc",
)  # fmt: skip
LABELS = ("a.hdf", "labels.hdf", "labels.zarr", "labels.tif", "labels.n5")
PREDICTIONS = ("pred.hdf", "pred.zarr")
RECIPE = {
    "net": {"name": "cleftnet", "patch": [2, 16, 16], "widths": [2, 4], "max_keys": 8},
    "data": {
        "train": [{"raw": "a.hdf", "roi": "0:8,0:40,0:24"}],
        "validate": [{"raw": "a.hdf", "roi": "0:8,0:40,24:48"}],
    },
    "sampling": {"min_cleft_voxels": 1},
    "training": {"steps": 2, "batch": 1, "learning_rate": 0.01, "validate_every": 1, "validation_overlap": 0, "save_every": 1},
}  # fmt: skip
COMPARISON = {
    "base": RECIPE,
    "seeds": [0],
    "rows": {"cleftnet": {"label": "CleftNet"}, "forest": {"label": "Forest", "classical": {"trees": 2}}},
    "tables": [{"title": "Two", "rows": ["forest", "cleftnet"], "paper": {"cleftnet": {"f1": 0.8}}}],
    "reference": "cleftnet",
}


def arrays() -> tuple[Volume, Volume, Volume]:
    """Return raw, labels of two clefts, and their probability."""
    draw = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint64)
    labels[1:5, 6:20, 4:20], labels[2:7, 22:36, 26:44] = 1, 2
    raw = draw.integers(100, 200, SHAPE, np.uint8) - (labels > 0).astype(np.uint8) * np.uint8(60)
    probability = np.where(labels > 0, 220, 10).astype(np.uint8) + draw.integers(0, 30, SHAPE, np.uint8)
    return Volume(raw, SIZE_NM), Volume(labels, SIZE_NM), Volume(probability, SIZE_NM)


def make_volumes(folder: Path) -> None:
    """Fill a folder, which must be the current one, with volumes in every format."""
    raw, labels, probability = arrays()
    write_cremi(folder / "a.hdf", raw=raw, clefts=labels)
    for target in ("plain.hdf", "stack.tif", "two.zarr", "vol.n5", "precomputed://pre"):
        _cleftnet("convert", "a.hdf", target, *([] if target.endswith(".tif") else ["--chunk", "4,16,16"]))
    with mrcfile.new(folder / "vol.mrc") as file:
        file.set_data(np.asarray(raw))
        file.voxel_size = tuple(10 * side for side in SIZE_NM[::-1])
    _cleftnet("convert", "a.hdf", "series/*.tif")
    _cleftnet("convert", "a.hdf", "three.zarr", "--zarr", "3", "--pyramid")
    for target in ("labels.hdf", "labels.zarr", "labels.n5"):
        _cleftnet("convert", "a.hdf", target, "--labels")
    narrow = np.asarray(labels).astype(np.uint16)
    tifffile.imwrite(folder / "labels.tif", narrow)
    sizes = {f"PhysicalSize{a}": s for a, s in zip("ZYX", SIZE_NM, strict=True)}
    units = {f"PhysicalSize{a}Unit": "nm" for a in "ZYX"}
    tifffile.imwrite(folder / "ome.tif", np.asarray(raw), ome=True, metadata={"axes": "ZYX", **sizes, **units})
    tifffile.imwrite(folder / "packed.tif", np.asarray(raw), compression="zlib", tile=(16, 16))
    for target in PREDICTIONS:
        write_volume(probability, folder / target, default=PROBABILITY_NAME)


def make_samples(folder: Path) -> None:
    """Fill a folder with all inputs; it must be the current one, since recipes and results name others in it."""
    import torch

    from cleftnet.models.checkpoint import Model, ModelCard, save_model
    from cleftnet.nets.zoo import build

    make_volumes(folder)
    torch.manual_seed(0)
    net = build("cleftnet", widths=(2, 4), patch=(2, 16, 16), max_keys=8).eval()
    save_model(folder / MODEL, Model(net, ModelCard(spec=net.spec, voxel_size_nm=SIZE_NM)))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "tables.yaml").write_text(yaml.safe_dump(COMPARISON))
    _cleftnet("train", "recipe.yaml", "--out", "run")
    _cleftnet("synapses", "pred.hdf", "found", "--threshold", "0.5")
    _cleftnet("synapses", "pred.hdf", "tuned", "--tune", "a.hdf")
    _cleftnet("review", "found", "looks", "--raw", "a.hdf", "--uncertain", "1", "--random", "1")
    _cleftnet("review", "looks", "--by", "me", "--accept", "1")


def rehearse() -> None:
    """Call verbs on a copy of the samples in the current folder, so that all of their modules are imported."""
    samples = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(samples, name, dirs_exist_ok=True)
        os.chdir(name)
        for command in OTHERS:
            _cleftnet(*command, codes=(0, 2))


OTHERS = (  # verbs that made no sample
    ("convert", "a.hdf", "out.zarr", "--pyramid"), ("convert", "ome.tif", "precomputed://out"), ("info", "vol.mrc"),
    ("evaluate", "pred.hdf", "a.hdf", "--sweep", "--json"), ("submit", "pred.hdf", "out.hdf"), ("models", "nothing"),
    ("report", "run", "--out", "page.html"), ("predict", MODEL, "a.hdf", "new.hdf"), ("compare", "tables.yaml", "--dry-run"),
    ("review", "looks", "--apply", "applied"), ("synapses", "pred.hdf", "new", "--format", "annotations"),
    ("finetune", MODEL, "a.hdf", "a.hdf", "--out", "fine", "--dry-run"), ("view", "nothing.hdf"), ("export", MODEL, "out.xyz"),
)  # fmt: skip


def _cleftnet(*arguments: str, codes: tuple[int, ...] = (0,)) -> None:
    try:
        main(list(arguments))
    except SystemExit as done:
        if done.code not in codes:
            raise RuntimeError(f"cleftnet {' '.join(arguments)} failed") from done
