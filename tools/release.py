"""Releases the networks of a comparison's folds as one model: rounds and scores them, and writes the numbers of its page.

    python -m tools.release CELL NAME          (docs/releasing.md)

CELL is the folder of a finished cell of a comparison with folds, such as `runs/tables-vnc-l3-folds/cells/resunet/seed-0`. The
released model is the ensemble of the networks of all folds. Its scores are those of each network on the fold that it never
saw. People write about data, terms, use and limits in models/weights/NAME.md; this tool writes every number between the two
marks of that page.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, cast

from pydantic import JsonValue

from cleftnet.comparison import Cell, CellFolder
from cleftnet.comparison.cells import SynapseScores, VoxelScores
from cleftnet.comparison.folds import open_whole, raw_around
from cleftnet.comparison.out_of_fold import FoldLogits, choose_on_folds, score_out_of_fold
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import Box
from cleftnet.models.checkpoint import Model, ModelCard, load_model, load_trees, save_model
from cleftnet.models.released import FOLDER, PAGE, WEIGHTS
from cleftnet.models.trees import BoostedTrees
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.skeleton import Network
from cleftnet.nets.zoo import ZOO
from cleftnet.prediction import best_device, whole_logits
from cleftnet.progress import log_to_stderr
from cleftnet.synapses import TuningSettings
from cleftnet.training.recipe import Recipe, dump
from cleftnet.volumes import matched_to

log = logging.getLogger(__name__)

BEGIN, END = "<!-- measured: python -m tools.release -->", "<!-- end of what is measured -->"
MEGABYTE = 1e6


class ReleaseFiles(NamedTuple):
    """The files of a release.

    Attributes:
        weights: The checkpoint.
        page: The page about the model.
        card: The card of the checkpoint.
    """

    weights: Path
    page: Path
    card: ModelCard


def release(cell: str | Path, name: str, *, folder: Path = FOLDER) -> ReleaseFiles:
    """Add the networks of a cell's folds to the released models as one ensemble, or replace the one of the same name.

    A cell that is the mean of a network and boosted trees gives a model of both. Weights are rounded to float16. Networks that
    were trained without normalization give every section the contrast of their training data. Each rounded network predicts
    the fold that it never saw, as do the trees. These predictions choose calibration, threshold and operating point of the
    ensemble, and give the scores on its card and page.

    Args:
        cell: Folder of a finished cell of a comparison with folds.
        name: Name that users will give for MODEL; the page `NAME.md` must exist.
        folder: Folder of the released models.

    Raises:
        InputError: when the page is missing or has no place for the numbers, a network has this name, the cell is not finished
            or has no folds, or its recipe has paths of one machine.
    """
    page, weights = folder / f"{name}{PAGE}", folder / f"{name}{WEIGHTS}"
    if name in ZOO:
        raise InputError(f"'{name}' is the name of a network; choose another, such as that of the data")
    before, after = _split_page(page)
    parts = _load_cell(Path(cell))
    trained = parts.cell
    recipe = _recipe(parts.recipe)
    region, _ = open_whole(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        rounded = Path(scratch) / weights.name
        ensemble = Ensemble(parts.networks)
        trees = BoostedTrees.mean(parts.trees) if parts.trees else None
        card = ModelCard(
            spec=ensemble.spec,
            members=len(parts.networks),
            trees=None if trees is None else trees.settings,
            normalize=recipe.data.normalize or matched_to(region.raw, sections=True),
        )
        save_model(rounded, Model(ensemble, card, trees), half=True)
        shipped = load_model(rounded, best_device())
    folds = predict_folds(shipped, [choice.scored for choice in trained.folds], recipe)
    scored, _, _ = score_out_of_fold(folds, region, TuningSettings(**trained.synapse_grid))
    chosen = choose_on_folds(folds, region, TuningSettings())  # a comparison may try less, and fit no classifier
    about: dict[str, JsonValue] = {
        "recipe": dump(recipe),
        "folds": [choice.scored for choice in trained.folds],
        "synapse_grid": trained.synapse_grid,
    }
    card = card.model_copy(
        update={
            "calibration": chosen.calibration,
            "threshold": chosen.threshold,
            "synapses": chosen.point,
            "voxel_size_nm": region.raw.voxel_size_nm,
            "step": parts.steps,
            "scores": _scores(scored.scores, scored.objects),
            "provenance": trained.provenance | about,
        }
    )
    save_model(weights, Model(shipped.net, card, trees), half=True)
    weights.chmod(0o644)  # every user of an installed package reads it
    columns = {
        "as trained": _column(trained.scores, trained.objects),
        "as shipped": _column(scored.scores, scored.objects),
    }
    lines = _numbers(card, trained, recipe, weights.stat().st_size, columns)
    with replacing(page, overwrite=True) as temporary:
        temporary.write_text("\n".join([before + BEGIN, *lines, END + after]))
    return ReleaseFiles(weights, page, card)


def predict_folds(model: Model, scored: Sequence[str], recipe: Recipe) -> list[FoldLogits]:
    """Predict every fold with the member of a released ensemble that never saw it, and with the trees that never did.

    Args:
        model: An ensemble with one member for each fold, in their order. Raw is normalized as its card says.
        scored: The part of each fold, in voxels of the labels.
        recipe: Its recipe, with the volume that is cut into folds.
    """
    assert isinstance(model.net, Ensemble)
    recipe = recipe.changed(data=recipe.data.changed(normalize=model.card.normalize))
    (region, origin), folds = open_whole(recipe), []
    members = model.net.networks
    trees = [None] * len(members) if model.trees is None else model.trees.split(len(members))
    for number, (net, own_trees, part) in enumerate(zip(members, trees, scored, strict=True)):
        log.info(f"predicting fold {number + 1} by the network that never saw it")
        own = Box.parse(part).relative_to(origin)
        raw, inside = raw_around(region, own, recipe)
        logits = whole_logits(net, raw, overlap=recipe.training.validation_overlap, trees=own_trees)[0]
        folds.append(FoldLogits(own, logits[inside]))
    return folds


class CellParts(NamedTuple):
    """What the folds of a finished cell trained.

    Attributes:
        cell: The cell.
        recipe: Recipe of its networks, as plain values.
        steps: Steps of each training.
        networks: One for each fold.
        trees: One set for each fold, or none.
    """

    cell: Cell
    recipe: Mapping[str, JsonValue]
    steps: int
    networks: list[Network]
    trees: list[BoostedTrees]


def _load_cell(path: Path) -> CellParts:
    """Return a finished cell and what its folds trained.

    Raises:
        InputError: when the cell is not finished, has no folds, or holds no networks.
    """
    folder = CellFolder(path)
    cell = folder.load()
    rows: dict[str, Mapping[str, JsonValue]] = {}
    if cell is not None:
        members = cast(Mapping[str, Mapping[str, JsonValue]], cell.recipe.get("mean_of", {}))
        rows = dict(members) or {cell.row: cell.recipe}
    with_net, boosted = ([row for row, recipe in rows.items() if key in recipe] for key in ("net", "boosted"))
    if cell is None or not cell.folds or len(with_net) != 1 or len(with_net) + len(boosted) != len(rows):
        raise InputError(
            f"{path} is not the folder of a finished cell with folds and networks of one row; expected one such as "
            f"OUT/cells/ROW/seed-0 of `cleftnet compare tables-vnc-l3-folds --out OUT`"
        )
    own = folder if with_net[0] == cell.row else folder.of_row(with_net[0])
    count = len(cell.folds)
    networks = [load_model(own.fold(number).run, best_device()).net for number in range(count)]
    assert all(isinstance(net, Network) for net in networks), "a training makes single networks"
    trees = [load_trees(folder.of_row(row).fold(number).trees) for row in boosted for number in range(count)]
    steps = own.finished_folds()[0].effort.steps or 0
    return CellParts(cell, rows[with_net[0]], steps, cast(list[Network], networks), trees)


def _split_page(page: Path) -> tuple[str, str]:
    """Return the text of a page before and after the numbers."""
    match = re.fullmatch(f"(.*){BEGIN}.*{END}(.*)", page.read_text() if page.is_file() else "", re.DOTALL)
    if match is None:
        raise InputError(
            f"{page} is not there or has no place for the numbers; write data, terms, use and limits of the model there, and "
            f"the lines {BEGIN} and {END}"
        )
    return match[1], match[2]


def _recipe(described: Mapping[str, JsonValue]) -> Recipe:
    """Return the recipe of a cell's networks.

    Raises:
        InputError: when the recipe has paths of one machine.
    """
    recipe = Recipe(**{key: value for key, value in described.items() if key != "folds"})
    for volume in recipe.data.train:
        for address in (volume.raw, volume.labels or "", volume.tissue or ""):
            if PurePath(address).is_absolute():
                raise InputError(
                    f"the cell was trained on {address}, a path of one machine; name data by a variable in the recipe, as "
                    f"$CLEFTNET_DATA, and train again"
                )
    return recipe


def _scores(voxels: VoxelScores, objects: SynapseScores) -> dict[str, float | None]:
    """Return the scores for the card."""
    names = (
        *("f1", "precision", "recall", "voxel_f1", "cremi_score"),
        *("threshold", "seed_threshold", "min_size_nm3", "gap", "min_score"),
    )
    return voxels.model_dump() | {f"object_{name}": getattr(objects, name) for name in names}


def _column(scores: VoxelScores, objects: SynapseScores) -> dict[str, str]:
    """Return one column of the table of scores."""
    values = {
        "voxel F1": (scores.f1, ".4f"),
        "voxel precision": (scores.precision, ".4f"),
        "voxel recall": (scores.recall, ".4f"),
        "AUC": (scores.auc, ".5f"),
        "CREMI score, nm": (scores.cremi_score, ".2f"),
        "ADGT, nm": (scores.adgt, ".2f"),
        "ADF, nm": (scores.adf, ".2f"),
        "lowest CREMI score of any threshold, nm": (scores.best_cremi_score, ".2f"),
        "object F1": (objects.f1, ".3f"),
        "object precision": (objects.precision, ".3f"),
        "object recall": (objects.recall, ".3f"),
        "F1 of the synapses' voxels": (objects.voxel_f1, ".4f"),
        "CREMI score of the synapses, nm": (objects.cremi_score, ".2f"),
    }
    shown = {name: "–" if value is None else format(value, form) for name, (value, form) in values.items()}
    return shown | {"synapses: true, found, matched": f"{objects.true}, {objects.predicted}, {objects.matched}"}


def _numbers(
    card: ModelCard, cell: Cell, recipe: Recipe, size: int, columns: Mapping[str, dict[str, str]]
) -> list[str]:
    """Return the lines of a page between its marks."""
    spec, side = card.spec, card.voxel_size_nm
    versions = cast(dict[str, str], cell.provenance.get("versions", {}))
    (volume,) = recipe.data.train
    members = cell.recipe.get("mean_of")
    rows = ",".join([*members, cell.row] if isinstance(members, dict) else [cell.row])
    facts = {
        "network": f"{card.members} × {_network_name(card)}, widths {', '.join(map(str, spec.widths))}",
        "beside them": "nothing"
        if card.trees is None
        else f"boosted trees on filters of {', '.join(f'{nm:g}' for nm in card.trees.sigmas_nm)} nm",
        "patch, voxels z×y×x": "×".join(map(str, spec.patch)),
        "voxel size of the data, nm z×y×x": "unknown" if side is None else "×".join(f"{nm:g}" for nm in side),
        "training of each": f"{card.step:,} steps of {recipe.training.batch} patches, seed {cell.seed}, "
        f"cleftnet at commit {cell.provenance.get('git')}, torch {versions.get('torch')}",
        "trained on": f"{volume.raw} {volume.roi or ''}".strip() + ", each network without its fold",
        "folds": "; ".join(choice.scored for choice in cell.folds),
        "file": f"{size / MEGABYTE:.1f} MB",
        "gray values": _contrast(card),
        "threshold": f"{card.threshold:.3f}",
        "synapses": "–" if card.synapses is None else card.synapses.describe(),
    }
    names = list(columns)
    return [
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
        f"| out of fold | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        *(f"| {key} | {' | '.join(columns[name][key] for name in names)} |" for key in columns[names[0]]),
        "",
        "Each network is scored on the fold that it never saw, with calibration, threshold and operating point",
        "chosen on the other folds. The ensemble itself saw all of the labels, so it has no scores of its own here.",
        "This command trains and scores the networks, and `tests/models/test_released.py` scores the shipped ones again:",
        "",
        f"    cleftnet compare tables-vnc-l3-folds --out runs/folds --rows {rows} --seeds {cell.seed}",
        "",
    ]


def _contrast(card: ModelCard) -> str:
    """Return how gray values are normalized."""
    if card.normalize is None:
        return "as they are"
    (low, high), (black, white) = card.normalize.percentiles, card.normalize.levels
    of = "every section" if card.normalize.sections else "a volume"
    return f"the percentiles {low:g} and {high:g} of {of} become {black:.4g} and {white:.4g} of 255"


def _network_name(card: ModelCard) -> str:
    """Return the name of the network in the zoo, with the fields that differ from it."""
    free = {"widths", "patch"}
    mine, differences = card.spec.model_dump(exclude=free), {}
    for name, spec in ZOO.items():
        theirs = spec.model_dump(exclude=free)
        differences[name] = {key: value for key, value in mine.items() if value != theirs[key]}
    nearest = min(differences, key=lambda name: len(differences[name]))
    changed = [f"{key} {value}" for key, value in differences[nearest].items()]
    return nearest + (f" ({', '.join(changed)})" if changed else "")


def main() -> None:
    """Release a model from the command line."""
    parser = argparse.ArgumentParser("python -m tools.release", description=release.__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("cell", help="Folder of a finished cell of a comparison with folds.")
    parser.add_argument("name", help="Name that users will give for MODEL; models/weights/NAME.md must exist.")
    given = parser.parse_args()
    log_to_stderr()
    try:
        done = release(given.cell, given.name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(done.weights, done.page, sep="\n")


if __name__ == "__main__":
    main()
