"""Verbs for networks: train one, list their costs, compare several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cleftnet.cli.options import Json, Overwrite, VoxelSize, patch_size, voxel_size_nm, whole_numbers
from cleftnet.cli.printing import print_json, print_table, text


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or a shipped recipe: cremi, cremi-modern, vnc-l3, vnc-l3-quick."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Run directory; default: runs/ and the recipe's name.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue from the newest state in the run directory; start where there is none."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Open the data, run one step, print memory and time; write nothing.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; repeatable.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network from a recipe.

    The run directory keeps the best checkpoint. SIGTERM saves the state before the program ends with exit code 143.
    """
    from cleftnet.training.dry_run import estimate_training
    from cleftnet.training.runs import train as train_network

    if dry_run:
        print_table(estimate_training(recipe, changes=changes or ()).rows())
        return
    run = train_network(recipe, out, changes=changes or (), overwrite=overwrite, resume=resume)
    print(f"best checkpoint: {run.best}")
    print_table([(name, text(value)) for name, value in vars(run.scores).items()])


def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run directory, a checkpoint file or the name of a released model.")
    ],
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Raw volume.")],
    labels: Annotated[
        str, typer.Argument(metavar="LABELS", help="Cleft labels, or the folder that review --apply wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Run directory, usable as MODEL.")],
    steps: Annotated[int | None, typer.Option(help="Most steps of each network; default 200.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate; default 0.0002.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds of the labels; default: the networks of the model, 3 for a single one.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the patches; default 0.")] = None,
    voxel_size: VoxelSize = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Open the data, run one step, print memory and time; write nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted fine-tuning exactly.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Fine-tune a model on a few labels of your tissue.

    No recipe is needed. 5 to 50 labeled synapses are enough; unlabeled voxels must be invalid, as review makes them.
    The run directory is a MODEL with an operating point, which predict and synapses use.
    """
    from cleftnet.training.fine_tuning import estimate_finetuning
    from cleftnet.training.fine_tuning import finetune as finetune_model
    from cleftnet.training.fine_tuning_job import FineTuneSettings

    size = voxel_size_nm(voxel_size)
    options = {"steps": steps, "learning_rate": learning_rate, "folds": folds, "seed": seed, "voxel_size_nm": size}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    settings = FineTuneSettings(**given)
    if dry_run:
        print_table(estimate_finetuning(model, volume, labels, settings=settings))
        return
    run = finetune_model(model, volume, labels, out, settings=settings, resume=resume, overwrite=overwrite)
    print(f"model: {run.directory}")
    print_table([(name, text(value)) for name, value in vars(run.scores).items()])


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A network, or a released model, whose card is printed; default: all networks."
        ),
    ] = None,
    patch: Annotated[str, typer.Option(metavar="Z,Y,X", help="Patch size in voxels.")] = "8,256,256",
    max_keys: Annotated[
        int | None, typer.Option(help="Upper bound on the keys of every attention; default: no bound.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks with their costs, and the released models.

    Costs: parameters, floating-point operations of a forward pass, and memory of a training step, for one patch.
    With --json, one object by name; kind is network or released.
    """
    from cleftnet.errors import InputError, nearest
    from cleftnet.models.released import list_models
    from cleftnet.nets.costs import cost
    from cleftnet.nets.zoo import ZOO, spec

    if name in list_models():
        _print_released(name, as_json)
        return
    if name is not None and name not in ZOO:
        raise InputError(f"unknown network '{name}'; {nearest(name, [*ZOO, *list_models()])}")
    names = list(ZOO) if name is None else [name]
    size = patch_size(patch)
    costs = {n: cost(spec(n, patch=size, max_keys=max_keys)) for n in names}
    if as_json:
        released = _released_summaries() if name is None else {}
        print_json({n: {"kind": "network"} | vars(c) for n, c in costs.items()} | released)
        return
    rows = [
        (
            n,
            f"{c.parameters:,}",
            f"{c.query_parameters:,}",
            f"{c.flops / 1e12:.3f}",
            f"{c.attention_flops / 1e12:.3f}",
            f"{c.training_bytes / 2**30:.2f}",
        )
        for n, c in costs.items()
    ]
    keys = "all keys" if max_keys is None else f"at most {max_keys} keys"
    print(f"one patch of {text(size)} voxels, widths as in the paper, {keys}:")
    print_table(rows, ("network", "parameters", "in queries", "TFLOP", "in attention", "GiB to train"))
    if name is None:
        _list_released()


def _released_summaries() -> dict[str, dict[str, Any]]:
    """Return what `models --json` says about each released model, by name. The whole card is printed for one name."""
    from cleftnet.models.checkpoint import load_card
    from cleftnet.models.released import LICENSE, list_models

    cards = {name: load_card(name) for name in list_models()}
    return {
        name: {
            "kind": "released",
            "networks": card.members,
            "trees": card.trees is not None,
            "patch_vox": card.spec.patch,
            "voxel_size_nm": card.voxel_size_nm,
            "threshold": card.threshold,
            "scores": card.scores,
            "license": LICENSE,
        }
        for name, card in cards.items()
    }


def _list_released() -> None:
    """Print the released models."""
    from cleftnet.models.checkpoint import load_card
    from cleftnet.models.released import list_models

    cards = {name: load_card(name) for name in list_models()}
    rows = [
        (
            name,
            text(card.spec.patch),
            text(card.voxel_size_nm),
            text(card.scores.get("f1")),
            "default" if card.synapses is None else card.synapses.describe(),
        )
        for name, card in cards.items()
    ]
    print("\nreleased models, for cleftnet predict MODEL; cleftnet models MODEL prints the card of one:")
    print_table(rows, ("model", "patch", "voxel size nm", "voxel F1 on validation", "synapses"))


def _print_released(name: str, as_json: bool) -> None:
    """Print the card of a released model, as text or as JSON."""
    from cleftnet.models.checkpoint import load_card
    from cleftnet.models.released import released_page

    if as_json:
        print_json(load_card(name).model_dump(mode="json"))
    else:
        print("\n".join(line for line in released_page(name).splitlines() if not line.startswith("<!--")))
        point = load_card(name).synapses
        print(f"\noperating point for synapses: {'default' if point is None else point.describe()}")


def compare(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, or a shipped recipe: tables-cremi, tables-vnc-l3, "
            "tables-vnc-l3-cpu, tables-vnc-l3-folds.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Output folder; default: runs/ and the recipe's name.")] = None,
    rows: Annotated[str | None, typer.Option(metavar="A,B", help="Only these rows.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1", help="Only these seeds.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the trainings; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train and score several networks, and write the tables.

    Every row of the recipe is trained with every seed. OUT/tables.md has the tables, OUT/results.json all results. The
    same command continues after an interruption; several processes share the work. A training that fails does not
    stop the others; exit code 2: each that failed did so because of its data or recipe; 1: for another reason.
    """
    from cleftnet.comparison import RESULTS, TABLES, Plan, carry_out

    plan = Plan.of(recipe, out, rows=None if rows is None else rows.split(","), seeds=whole_numbers(seeds, "seeds"))
    if dry_run:
        cells = [(cell.row, str(cell.seed), text(cell.parameters), cell.state) for cell in plan.cells()]
        print_table(cells, ("row", "seed", "parameters", "state"))
        return
    results = carry_out(plan)
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        print((plan.out / TABLES).read_text())
    if results.failed:
        others = len(results.failed) - 1
        more = f" ({others} more failed: {plan.out / RESULTS} lists all)" if others else ""
        print(f"error: {results.failed[0]}{more}", file=sys.stderr)
        raise SystemExit(2 if all(failure.is_of_input for failure in results.failed) else 1)
