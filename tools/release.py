"""Releases a trained model: rounds its weights, scores them as shipped, and writes the numbers of its page.

    python -m tools.release RUN NAME          (docs/releasing.md)

People write about data, terms, use and limits in models/weights/NAME.md. This tool writes every number between the two
marks of that page.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, cast

from pydantic import ValidationError

from cleftnet.comparison.region_scores import RegionScores, score_regions
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.models.checkpoint import Model, ModelCard, find_model, load_model, save_model
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.models.released import FOLDER, PAGE, WEIGHTS
from cleftnet.nets.zoo import ZOO
from cleftnet.prediction import PredictionSettings, best_device, predict
from cleftnet.progress import log_to_stderr
from cleftnet.synapses import TuningSettings
from cleftnet.training.data import open_region
from cleftnet.training.recipe import Recipe
from cleftnet.training.validation import Region

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


def release(model: str | Path, name: str, *, folder: Path = FOLDER) -> ReleaseFiles:
    """Add a trained model to the released models, or replace the one of the same name.

    Weights are rounded to float16. The rounded model predicts the validation regions of its recipe as `cleftnet predict`
    does. Its card gets threshold and scores from these predictions, and its page shows them beside those of the model as
    trained.

    Args:
        model: A run directory or a checkpoint file.
        name: Name that users will give for MODEL; the page `NAME.md` must exist.
        folder: Folder of the released models.

    Raises:
        InputError: when the page is missing or has no place for the numbers, a network has this name, or the recipe or the
            data of the model cannot be used.
    """
    page, weights = folder / f"{name}{PAGE}", folder / f"{name}{WEIGHTS}"
    if name in ZOO:
        raise InputError(f"'{name}' is the name of a network; choose another, such as that of the data")
    before, after = _split_page(page)
    source = find_model(model)
    trained = load_model(source, best_device())
    recipe = _recipe(trained.card, source)
    regions = [open_region(volume) for volume in recipe.data.validate_on]
    with tempfile.TemporaryDirectory() as scratch:
        rounded = Path(scratch) / weights.name
        save_model(rounded, trained, half=True)
        shipped, scored = load_model(rounded, best_device()), {}
        for what, candidate in {"as trained": trained, "as shipped": shipped}.items():
            log.info(f"scoring the model {what} on validation")
            scored[what] = _score(candidate, recipe, regions)
        card = _card(trained.card, scored["as shipped"])
        save_model(weights, Model(shipped.net, card), half=True)
        weights.chmod(0o644)  # every user of an installed package reads it
    sizes = {"as trained": source.stat().st_size, "as shipped": weights.stat().st_size}
    lines = _numbers(name, card, recipe, {what: _row(scored[what], sizes[what]) for what in scored})
    with replacing(page, overwrite=True) as temporary:
        temporary.write_text("\n".join([before + BEGIN, *lines, END + after]))
    return ReleaseFiles(weights, page, card)


def _split_page(page: Path) -> tuple[str, str]:
    """Return the text of a page before and after the numbers."""
    match = re.fullmatch(f"(.*){BEGIN}.*{END}(.*)", page.read_text() if page.is_file() else "", re.DOTALL)
    if match is None:
        raise InputError(
            f"{page} is not there or has no place for the numbers; write data, terms, use and limits of the model there, and "
            f"the lines {BEGIN} and {END}"
        )
    return match[1], match[2]


def _recipe(card: ModelCard, source: Path) -> Recipe:
    """Return the recipe that a model was trained with.

    Raises:
        InputError: when the card has no recipe, or the recipe has paths of one machine.
    """
    try:
        recipe = Recipe.model_validate(card.provenance.get("recipe"))
    except ValidationError:
        raise InputError(
            f"{source} does not hold the recipe it was trained with; release a model that `cleftnet train` wrote"
        ) from None
    for volume in (*recipe.data.train, *recipe.data.validate_on):
        if PurePath(volume.raw).is_absolute() or PurePath(volume.labels or "").is_absolute():
            raise InputError(
                f"{source} was trained on {volume.raw}, a path of one machine; name data by a variable in the recipe, as "
                f"$CLEFTNET_DATA, and train again"
            )
    return recipe


def _score(model: Model, recipe: Recipe, regions: Sequence[Region]) -> RegionScores:
    """Predict the regions as in validation, and score them together."""
    settings = PredictionSettings(overlap=recipe.training.validation_overlap)
    predictions = [predict(model, region.raw, settings=settings) for region in regions]
    return score_regions(predictions, regions, TuningSettings())


def _card(card: ModelCard, scored: RegionScores) -> ModelCard:
    """Return the card with the measured threshold and scores."""
    objects = {
        "object_f1": scored.objects.f1,
        "object_precision": scored.objects.precision,
        "object_recall": scored.objects.recall,
        "object_threshold": scored.objects.threshold,
        "object_min_size_nm3": scored.objects.min_size_nm3,
        "object_gap": scored.objects.gap,
        "average_precision": scored.objects.average_precision,
    }
    point = OperatingPoint(
        threshold=scored.objects.threshold, min_size_nm3=scored.objects.min_size_nm3, gap=int(scored.objects.gap)
    )
    return card.model_copy(
        update={
            "threshold": scored.threshold,
            "synapses": card.synapses or point,  # one that the model was tuned to stays
            "scores": scored.scores.model_dump() | objects,
        }
    )


def _row(scored: RegionScores, size: int) -> dict[str, str]:
    """Return one column of the table of scores."""
    scores, objects = scored.scores, scored.objects
    values = {
        "threshold": (scored.threshold, ".3f"),
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
    }
    counted = {"synapses: true, found, matched": f"{objects.true}, {objects.predicted}, {objects.matched}"}
    shown = {name: "–" if value is None else format(value, form) for name, (value, form) in values.items()}
    return {"file": f"{size / MEGABYTE:.1f} MB"} | shown | counted


def _numbers(name: str, card: ModelCard, recipe: Recipe, rows: Mapping[str, dict[str, str]]) -> list[str]:
    """Return the lines of a page between its marks."""
    spec, size = card.spec, card.voxel_size_nm
    versions = cast(dict[str, str], card.provenance.get("versions", {}))
    facts = {
        "network": f"{_network_name(card)}, widths {', '.join(map(str, spec.widths))}"
        + ("" if spec.max_keys is None else f", at most {spec.max_keys} keys"),
        "patch, voxels z×y×x": "×".join(map(str, spec.patch)),
        "voxel size of the data, nm z×y×x": "unknown" if size is None else "×".join(f"{side:g}" for side in size),
        "training": f"{card.step:,} steps of {recipe.training.batch} patches, seed {recipe.seed}, "
        f"cleftnet at commit {card.provenance.get('git')}, torch {versions.get('torch')}",
        "trained on": ", ".join(f"{volume.raw} {volume.roi or ''}".strip() for volume in recipe.data.train),
        "validated on": ", ".join(f"{volume.raw} {volume.roi or ''}".strip() for volume in recipe.data.validate_on),
    }
    lines = ["", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    columns = list(rows)
    lines += [f"| on validation | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {key} | {' | '.join(rows[what][key] for what in columns)} |" for key in rows[columns[0]]]
    volume = recipe.data.validate_on[0]
    raw, labels = (f'"{address}"' for address in (volume.raw, volume.labels or volume.raw))
    part = f" --roi {volume.roi}" if volume.roi else ""
    scores = card.scores
    return [
        *lines,
        "",
        "These commands print the scores. Thresholds and sizes were chosen on validation, so the scores on",
        "other tissue may be lower:",
        "",
        f"    cleftnet predict {shlex.quote(name)} {raw} out.hdf{part} --overlap {recipe.training.validation_overlap:g}",
        f"    cleftnet evaluate out.hdf {labels}",
        f"    cleftnet synapses out.hdf out --threshold {scores['object_threshold']:g} "
        f"--min-size {scores['object_min_size_nm3']:g} --gap {scores['object_gap']:g}",
        f"    cleftnet evaluate out/labels.zarr {labels}",
        "",
    ]


def _network_name(card: ModelCard) -> str:
    """Return the name of the network in the zoo, or its parts if it has none."""
    free = {"widths", "patch", "max_keys"}
    parts = card.spec.model_dump(exclude=free)
    names = [name for name, spec in ZOO.items() if spec.model_dump(exclude=free) == parts]
    return names[0] if names else ", ".join(f"{key} {value}" for key, value in parts.items())


def main() -> None:
    """Release a model from the command line."""
    parser = argparse.ArgumentParser("python -m tools.release", description=release.__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("model", help="A run directory or a checkpoint file.")
    parser.add_argument("name", help="Name that users will give for MODEL; models/weights/NAME.md must exist.")
    given = parser.parse_args()
    log_to_stderr()
    try:
        done = release(given.model, given.name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(done.weights, done.page, sep="\n")


if __name__ == "__main__":
    main()
