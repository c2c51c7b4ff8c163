"""A trained model made ready to ship with the package: rounded, scored as shipped, its page filled in with what was measured.

    python -m tools.release RUN NAME          (docs/releasing.md)

What a person writes about a model (data, terms, use, limits) stands in models/weights/NAME.md; every number between
its two marks is written here.
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

from cleftnet.comparison.recipe import TuningSettings
from cleftnet.comparison.region_scores import RegionScores, score_regions
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.models.checkpoint import Model, ModelCard, find_model, load_model, save_model
from cleftnet.models.released import FOLDER, PAGE, WEIGHTS
from cleftnet.nets.zoo import ZOO
from cleftnet.prediction import PredictionSettings, best_device, predict
from cleftnet.progress import log_to_stderr
from cleftnet.training.recipe import Recipe
from cleftnet.training.validation import Region

log = logging.getLogger(__name__)

BEGIN, END = "<!-- measured: python -m tools.release -->", "<!-- end of what is measured -->"
MEGABYTE = 1e6


class Released(NamedTuple):
    """What a release left behind.

    Attributes:
        weights: The checkpoint.
        page: The page about it.
        card: That of the checkpoint.
    """

    weights: Path
    page: Path
    card: ModelCard


def release(model: str | Path, name: str, *, folder: Path = FOLDER) -> Released:
    """Put a trained model among those that the package ships, in the place of one of the same name.

    Weights are rounded to float16. The rounded model predicts the validation regions of the recipe that it was trained by, as
    `cleftnet predict` does; threshold and scores of its card come from there, and its page shows them beside those of the
    model as trained.

    Args:
        model: A run directory or a checkpoint file.
        name: What users will say for MODEL; `NAME.md` must be there.
        folder: Of the released models.

    Raises:
        InputError: when the page is missing or has no place for the numbers, a network has this name, or the model's recipe or
            data cannot be used.
    """
    page, weights = folder / f"{name}{PAGE}", folder / f"{name}{WEIGHTS}"
    if name in ZOO:
        raise InputError(f"'{name}' is the name of a network; choose another, such as that of the data")
    before, after = _around_the_numbers(page)
    source = find_model(model)
    trained = load_model(source, best_device())
    recipe = _recipe(trained.card, source)
    regions = [volume.open() for volume in recipe.data.validate_on]
    with tempfile.TemporaryDirectory() as scratch:
        rounded = Path(scratch) / weights.name
        save_model(rounded, trained, half=True)
        shipped, scored = load_model(rounded, best_device()), {}
        for what, found in {"as trained": trained, "as shipped": shipped}.items():
            log.info(f"scoring the model {what} on validation")
            scored[what] = _score(found, recipe, regions, Path(scratch))
        card = _card(trained.card, scored["as shipped"])
        save_model(weights, Model(shipped.net, card), half=True)
        weights.chmod(0o644)  # whoever installs the package, everybody reads it
    sizes = {"as trained": source.stat().st_size, "as shipped": weights.stat().st_size}
    lines = _numbers(name, card, recipe, {what: _row(scored[what], sizes[what]) for what in scored})
    with replacing(page, overwrite=True) as temporary:
        temporary.write_text("\n".join([before + BEGIN, *lines, END + after]))
    return Released(weights, page, card)


def _around_the_numbers(page: Path) -> tuple[str, str]:
    """What stands on a page before and after the numbers."""
    found = re.fullmatch(f"(.*){BEGIN}.*{END}(.*)", page.read_text() if page.is_file() else "", re.DOTALL)
    if found is None:
        raise InputError(
            f"{page} is not there or has no place for the numbers; write data, terms, use and limits of the model there, and "
            f"the lines {BEGIN} and {END}"
        )
    return found[1], found[2]


def _recipe(card: ModelCard, source: Path) -> Recipe:
    """The recipe that a model was trained by.

    Raises:
        InputError: when it has none, or one that makes sense on one machine only.
    """
    try:
        recipe = Recipe.model_validate(card.provenance.get("recipe"))
    except ValidationError:
        raise InputError(
            f"{source} does not know the recipe it was trained by; release a model of `cleftnet train`"
        ) from None
    for volume in (*recipe.data.train, *recipe.data.validate_on):
        if PurePath(volume.raw).is_absolute() or PurePath(volume.labels or "").is_absolute():
            raise InputError(
                f"{source} was trained on {volume.raw}, a path of one machine; name data by a variable in the recipe, as "
                f"$CLEFTNET_DATA, and train again"
            )
    return recipe


def _score(model: Model, recipe: Recipe, regions: Sequence[Region], scratch: Path) -> RegionScores:
    how = PredictionSettings(overlap=recipe.training.validation_overlap)
    predictions = [
        predict(model, region.raw, scratch / f"prediction-{number}.hdf", settings=how, overwrite=True)
        for number, region in enumerate(regions)
    ]
    folders = [scratch / f"synapses-{number}" for number in range(len(regions))]
    return score_regions(predictions, regions, TuningSettings(), folders)


def _card(card: ModelCard, scored: RegionScores) -> ModelCard:
    """The card with what was measured."""
    objects = {
        "object_f1": scored.objects.f1,
        "object_precision": scored.objects.precision,
        "object_recall": scored.objects.recall,
        "object_threshold": scored.objects.threshold,
        "object_min_size_nm3": scored.objects.min_size_nm3,
        "average_precision": scored.objects.average_precision,
    }
    return card.model_copy(update={"threshold": scored.threshold, "scores": scored.scores.model_dump() | objects})


def _row(scored: RegionScores, size: int) -> dict[str, str]:
    """One column of the table of scores."""
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
    """The lines of a page between its marks."""
    spec, size = card.spec, card.voxel_size_nm
    versions = cast(dict[str, str], card.provenance.get("versions", {}))
    facts = {
        "network": f"{_row_of_the_zoo(card)}, widths {', '.join(map(str, spec.widths))}"
        + ("" if spec.max_keys is None else f", at most {spec.max_keys} keys"),
        "patch, voxels z×y×x": "×".join(map(str, spec.patch)),
        "voxel size of the data, nm z×y×x": "unknown" if size is None else "×".join(f"{side:g}" for side in size),
        "trained": f"{card.step:,} steps of {recipe.training.batch} patches, seed {recipe.seed}, "
        f"cleftnet at commit {card.provenance.get('git')}, torch {versions.get('torch')}",
        "learned from": ", ".join(f"{volume.raw} {volume.roi or ''}".strip() for volume in recipe.data.train),
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
        "These commands print them (thresholds and sizes were chosen on validation, so that the scores are not those of tissue "
        "that nobody tuned on):",
        "",
        f"    cleftnet predict {shlex.quote(name)} {raw} out.hdf{part} --overlap {recipe.training.validation_overlap:g}",
        f"    cleftnet evaluate out.hdf {labels}",
        f"    cleftnet synapses out.hdf out --threshold {scores['object_threshold']:g} "
        f"--min-size {scores['object_min_size_nm3']:g}",
        f"    cleftnet evaluate out/labels.zarr {labels}",
        "",
    ]


def _row_of_the_zoo(card: ModelCard) -> str:
    """The name of the network in the paper's tables, or its parts."""
    free = {"widths", "patch", "max_keys"}
    parts = card.spec.model_dump(exclude=free)
    names = [name for name, spec in ZOO.items() if spec.model_dump(exclude=free) == parts]
    return names[0] if names else ", ".join(f"{key} {value}" for key, value in parts.items())


def main() -> None:
    """Release a model from the command line."""
    parser = argparse.ArgumentParser("python -m tools.release", description=release.__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("model", help="A run directory or a checkpoint file.")
    parser.add_argument("name", help="What users will say for MODEL; models/weights/NAME.md must be there.")
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
