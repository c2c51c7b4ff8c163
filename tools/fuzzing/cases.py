"""Draws inputs for the command line: the same number and seed give the same command and the same damage."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import typer

from cleftnet.cli import app
from tools.fuzzing.damage import damage_path
from tools.fuzzing.samples import LABELS, MODEL, PREDICTIONS, RAW

_ADDRESSES = {"pre": "precomputed://pre", "series": "series/*.tif"}
_NEEDS = {  # files that others name
    "recipe.yaml": ("a.hdf",), "tables.yaml": ("a.hdf",), "run": ("a.hdf",), "found": ("pred.hdf", "a.hdf"),
    "looks": ("pred.hdf", "a.hdf", "found"),
}  # fmt: skip


SHORT_VERBS = ("info", "convert", "check")


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        number: Its number in the run.
        arguments: The words after `cleftnet`.
        damaged: The file or folder to damage, a name of the samples; None where only the command line is odd.
        outputs: What the command may leave behind only when it succeeds.
    """

    number: int
    arguments: tuple[str, ...]
    damaged: str | None
    outputs: tuple[str, ...]


def draw_case(seed: int, number: int, short: bool = False) -> tuple[Case, random.Random]:
    """Return an input, and the random numbers that its damage continues with.

    Args:
        seed: Seed of the run.
        number: Number of the input.
        short: Draw only verbs that need no network, on volumes.
    """
    draw = random.Random(f"{seed} {number}")
    if short:
        return _short_case(number, draw), draw
    kind = draw.random()
    if kind < 0.72:
        damaged, arguments = draw.choice(_FAMILIES)(draw)
        while arguments[0] in _HEAVY and draw.random() < 0.6:
            damaged, arguments = draw.choice(_FAMILIES)(draw)
        return Case(number, tuple(arguments), damaged, _outputs(arguments)), draw
    arguments = list(draw.choice(COMMANDS))
    while arguments[0] in _HEAVY and draw.random() < 0.6:
        arguments = list(draw.choice(COMMANDS))
    if kind < 0.9:
        arguments = _odd_option(arguments, draw)
    else:
        while arguments[0] == "demo":  # any name is a folder in which it trains for minutes
            arguments = list(draw.choice(COMMANDS))
        place = draw.choice([n for n, word in enumerate(arguments) if n and not word.startswith("-")] or [0])
        arguments[place] = odd_address(arguments[place], draw)
    return Case(number, tuple(arguments), None, _outputs(arguments)), draw


def _short_case(number: int, draw: random.Random) -> Case:
    while True:
        damaged, arguments = draw.choice((_raw, _labels))(draw)
        if arguments[0] in SHORT_VERBS and "--pyramid" not in arguments:
            return Case(number, tuple(arguments), damaged, _outputs(arguments))


def prepare(case: Case, draw: random.Random, samples: Path, folder: Path) -> str:
    """Copy what a command names into a folder and damage it; return what was done."""
    words = " ".join(case.arguments)
    names = [path.name for path in samples.iterdir() if path.name in words or path.name == case.damaged]
    for name in names:
        names += [other for other in _NEEDS.get(name, ()) if other not in names]
    for name in names:
        source, target = samples / name, folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return damage_path(folder / case.damaged, draw) if case.damaged else "odd words"


def _address(name: str) -> str:
    return _ADDRESSES.get(name, name)


def _raw(draw: random.Random) -> tuple[str, list[str]]:
    name = draw.choice(RAW)
    a, size = _address(name), ["--voxel-size", "40,4,4"] if draw.random() < 0.7 else []
    out = draw.choice(("out.hdf", "out.zarr", "out.n5", "out.tif", "out/*.tif", "out.mrc", "precomputed://out"))
    commands = (
        ["info", a, "--json"], ["info", a, *size], ["convert", a, out, *size], ["convert", a, out, *size],
        ["predict", MODEL, a, "out.zarr", *size, "--no-rescale"], ["predict", MODEL, a, "out.hdf", "--dry-run", *size],
        ["synapses", a, "out", "--threshold", "0.6", "--kind", "probability", *size],
        ["evaluate", a, "a.hdf", "--kind", "probability", "--threshold", "0.5"],
        ["convert", a, draw.choice(("out.zarr", "precomputed://out")), "--pyramid", *size],
    )  # fmt: skip
    return name, draw.choice(commands)


def _labels(draw: random.Random) -> tuple[str, list[str]]:
    name = draw.choice(LABELS)
    a, size = _address(name), ["--voxel-size", "40,4,4"] if name.endswith(".tif") else []
    commands = (
        ["info", a, *size], ["convert", a, "out.zarr", "--labels", *size], ["evaluate", "pred.hdf", a],
        ["evaluate", a, "a.hdf", "--kind", "labels"], ["synapses", "pred.hdf", "out", "--tune", a],
        ["synapses", "pred.hdf", "out", "--threshold", "0.5", "--segmentation", a, *size],
        ["submit", a, "out.hdf", "--kind", "labels", *size], ["check", a if a.endswith(".hdf") else "a.hdf"],
        ["check", "labels.hdf", "--raw", "a.hdf"], ["train", "recipe.yaml", "--out", "new"],
        ["finetune", MODEL, "a.hdf", a, "--out", "new", "--dry-run"],
    )  # fmt: skip
    return name, draw.choice(commands)


def _prediction(draw: random.Random) -> tuple[str, list[str]]:
    name = draw.choice(PREDICTIONS)
    commands = (
        ["info", name], ["evaluate", name, "a.hdf"], ["evaluate", name, "a.hdf", "--sweep", "--sections", "--json"],
        ["synapses", name, "out"], ["synapses", name, "out", "--format", "hdf", "--format", "annotations", "--json"],
        ["submit", name, "out.hdf"],
    )  # fmt: skip
    return name, draw.choice(commands)


def _model(draw: random.Random) -> tuple[str, list[str]]:
    commands = (
        ["predict", MODEL, "a.hdf", "out.zarr"], ["predict", MODEL, "a.hdf", "out.hdf", "--dry-run"],
        ["finetune", MODEL, "a.hdf", "a.hdf", "--out", "new", "--dry-run"],
        ["synapses", "pred.hdf", "out", "--tune", "a.hdf", "--into", MODEL],
    )  # fmt: skip
    return MODEL, draw.choice(commands)


def _run(draw: random.Random) -> tuple[str, list[str]]:
    commands = (
        ["train", "recipe.yaml", "--out", "run", "--resume", "--set", "training.steps=3"],
        ["train", "recipe.yaml", "--out", "run", "--resume"], ["predict", "run", "a.hdf", "out.zarr"],
        ["report", "run", "--out", "page.html"],
    )  # fmt: skip
    return "run", draw.choice(commands)


def _recipe(draw: random.Random) -> tuple[str, list[str]]:
    if draw.random() < 0.4:
        return "tables.yaml", ["compare", "tables.yaml", "--dry-run"]
    commands = (
        ["train", "recipe.yaml", "--out", "new", "--dry-run"],
        ["train", "recipe.yaml", "--out", "new", "--set", "training.steps=1"],
    )
    return "recipe.yaml", draw.choice(commands)


def _review(draw: random.Random) -> tuple[str, list[str]]:
    if draw.random() < 0.4:
        return "found", draw.choice((["review", "found", "out", "--raw", "a.hdf"], ["info", "found/labels.zarr"]))
    if draw.random() < 0.2:
        return "tuned", ["synapses", "pred.hdf", "out", "--tuned", "tuned/tuning.json"]
    commands = (
        ["review", "looks"], ["review", "looks", "--json"], ["review", "looks", "--by", "me", "--reject", "2"],
        ["review", "looks", "--apply", "out"],
    )  # fmt: skip
    return "looks", draw.choice(commands)


_FAMILIES: tuple[Callable[[random.Random], tuple[str, list[str]]], ...] = (
    _raw, _raw, _raw, _raw, _labels, _labels, _prediction, _model, _run, _recipe, _review,
)  # fmt: skip
COMMANDS = (  # sound, or quick to fail: what a valid option would begin must end within seconds
    ("info", "a.hdf"), ("info", "two.zarr", "vol.n5"), ("check", "a.hdf"), ("convert", "a.hdf", "out.zarr"),
    ("convert", "stack.tif", "out.hdf"), ("download", "cremi", "--sample", "Z"), ("train", "recipe.yaml", "--dry-run"),
    ("train", "recipe.yaml", "--out", "new"), ("finetune", MODEL, "a.hdf", "a.hdf", "--out", "new", "--dry-run"),
    ("models", "cleftnet"), ("compare", "tables.yaml", "--dry-run"), ("predict", MODEL, "a.hdf", "out.zarr"),
    ("predict", MODEL, "a.hdf", "out.hdf", "--roi", "0:4,0:20,0:20"), ("synapses", "pred.hdf", "out"),
    ("synapses", "pred.zarr", "out", "--segmentation", "labels.zarr"), ("export", MODEL, "out.xyz"),
    ("evaluate", "pred.hdf", "a.hdf"), ("evaluate", "pred.hdf", "a.hdf", "--roi", "0:4,0:20,0:20"),
    ("review", "found", "out"), ("review", "looks"), ("submit", "pred.hdf", "out.hdf"), ("report", "run", "--out", "a.hdf"),
    ("view", "nothing.hdf"), ("demo", "a.hdf"), ("doctor", "surplus"),
)  # fmt: skip
_HEAVY = ("train", "finetune", "report")  # which take a second where others take a tenth
_SLOW = {"--workers", "--scheduler", "--steps", "--folds", "--help"}  # valid values start processes or hours of work
_WORDS = (
    "", " ", "x", "-1", "0", "1", "2", "0.5", "1.5", "-0.5", "nan", "inf", "-inf", "1e999", "1e308", "99999999999999999999",
    "0x10", "1_0", "١", "é", "☃", "a\nb", "a\tb", "'", '"', "--", "None", "null", "true", "[]", "{}", "1,2", "1,2,3", "4,16,16",
    "0,0,0", "-1,-1,-1", "nan,nan,nan", "inf,1,1", "1,2,3,4", ",,", "1e300,1e300,1e300", "1e-300,1,1", "0:1,0:1,0:1", "0:4,0:4",
    "::", "4:2,0:1,0:1", "-1:2,0:1,0:1", "0:99999999999999999999,0:1,0:1", "0nm:80nm,0nm:9nm,0nm:9nm", "0nm:1e300nm,0:1,0:1",
    "0:4,0:20,:", "a=b", "a=b=c", "training.steps=1", "training=1", "net.widths=[1,2]", "net.patch=[0,0,0]", "net.patch=9", "=",
    "training.learning_rate=nan", "seed=-1", "data.train=[]", "data.train.0.raw=x", "uint8", "float32", "float16", "labels",
    "probability", "mask", "2", "3", "zarr", "csv", "parquet", "cave", "catmaid", "a.hdf", "pred.hdf", "two.zarr", "vol.mrc",
    "model.safetensors", "recipe.yaml", "run", "found", "/", "..", ".", "~", "~nobody/x", "$HOME", "${", "%s", "{0}",
    "/dev/null", "/dev/full/x", "/proc/self/mem", "a.hdf/x/y", "x" * 300, "x" * 5000, "\udcff", "http://127.0.0.1:9/x.zarr",
    "file:///x", "s3://", "gs://", "precomputed://", "precomputed://x", "1000000",
)  # fmt: skip


@cache
def _options(verb: str) -> list[tuple[str, bool]]:
    """Return the options of a verb, each with whether it is a flag."""
    group = cast(Any, typer.main.get_command(app))
    found = [
        (opt, bool(getattr(p, "is_flag", False)))
        for p in group.commands[verb].params
        for opt in p.opts
        if opt[0] == "-"
    ]
    return [(name, flag) for name, flag in found if name not in _SLOW] or [("--json", True)]


def _odd_option(arguments: list[str], draw: random.Random) -> list[str]:
    """Add one to three options with odd values, at times twice or with no value."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        name, flag = draw.choice(_options(arguments[0]))
        value = odd_address("a.hdf", draw) if draw.random() < 0.1 else draw.choice(_WORDS)
        arguments += [name] if flag or draw.random() < 0.02 else [name, value]
    if draw.random() < 0.05:
        arguments.append(draw.choice(_WORDS))
    return arguments


def odd_address(address: str, draw: random.Random) -> str:
    """Damage an address."""
    endings = (
        ".hdf",
        ".zarr",
        ".n5",
        ".tif",
        ".mrc",
        ".safetensors",
        ".yaml",
        "/",
        "/volumes/raw",
        "/*.tif",
        "/s0",
        "",
    )
    at = draw.randrange(len(address) + 1)
    return draw.choice(
        (
            draw.choice(_WORDS), draw.choice(_WORDS) + draw.choice(endings), address + draw.choice(endings),
            address + "/" + draw.choice(_WORDS), address[:at] + draw.choice("/*?[]:@#%\\ .\t\n☃") + address[at:],
            draw.choice(("s3", "http", "file", "zip", "precomputed", "")) + "://" + draw.choice(("", "x", "127.0.0.1:9/a")),
            "/" * draw.choice((1, 3, 5000)) + address, address * draw.choice((2, 1000)), "../" * draw.choice((1, 50)) + address,
        )
    ).replace("\x00", "")  # fmt: skip


def _outputs(arguments: list[str]) -> tuple[str, ...]:
    names = ("out", "out.hdf", "out.zarr", "out.n5", "out.tif", "out.mrc", "page.html", "new/best.safetensors")
    return names if arguments[0] != "train" else ()
