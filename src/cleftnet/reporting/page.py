"""Writes a self-contained HTML page: style sheet, script, charts and pictures are inside, and nothing is fetched."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cleftnet.comparison import RESULTS
from cleftnet.errors import InputError
from cleftnet.files import refuse_existing, replacing
from cleftnet.models.checkpoint import BEST, LAST
from cleftnet.progress import track
from cleftnet.reporting.charts import style_class
from cleftnet.reporting.contents import Contents, Entry
from cleftnet.reporting.curves import plots
from cleftnet.reporting.entry_scores import ScoredEntries, headline, score_entry, score_table
from cleftnet.reporting.gallery import gallery
from cleftnet.reporting.mistakes import MIN_NM2, MistakeKind
from cleftnet.reporting.pictures import Reduction
from cleftnet.reporting.sources import comparison_contents, demo_contents, run_contents
from cleftnet.reporting.viewing import View, figure3, read_mask, slices_of_prediction, slices_of_scene
from cleftnet.training.runs import RECIPE

PAGE = "report.html"  # default file name, in the folder that is reported on
MAX_SLICE_BYTES = 11_000_000  # pictures of the slice browser; the page stays below about 15 MB


def report(source: str | Path, out: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write one self-contained HTML page about a run, a comparison or a demo.

    For a run directory, the validation regions are predicted first, which takes about as long as one validation.

    Args:
        source: A run directory, or the output folder of `cleftnet compare` or `cleftnet demo`.
        out: HTML file to write; default: `report.html` in that folder.
        overwrite: Whether to replace an existing file.

    Returns:
        The path of the page.

    Raises:
        InputError: when the folder is none of these, a file in it is missing, the page exists, or its name ends in
            something else than .html.

    Example:
        >>> import cleftnet
        >>> cleftnet.report("runs/quick")  # doctest: +SKIP
        PosixPath('runs/quick/report.html')
    """
    folder = Path(source)
    page = folder / PAGE if out is None else Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a run directory, or the output of a comparison or a demo")
    if page.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"out={page} is no HTML file; expected a name that ends in .html")
    refuse_existing(page, overwrite)
    if (folder / "volume.hdf").is_file() and (folder / "prediction.hdf").is_file():
        return write_page(demo_contents(folder), page, overwrite=overwrite)
    if (folder / RESULTS).is_file():
        return write_page(comparison_contents(folder), page, overwrite=overwrite)
    if (folder / RECIPE).is_file() and any((folder / name).is_file() for name in (BEST, LAST)):
        return write_page(run_contents(folder), page, overwrite=overwrite)
    raise InputError(
        f"{folder} holds no finished training ({RECIPE} and {BEST}), comparison or demo; expected the output "
        f"folder of one of these"
    )


def write_page(contents: Contents, path: Path, *, overwrite: bool = False) -> Path:
    """Write a page.

    Args:
        contents: Contents of the page.
        path: HTML file to write.
        overwrite: Whether to replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: when the file exists, there is no prediction, or a prediction does not fit its scene.
    """
    with replacing(path, overwrite) as temporary:
        temporary.write_text(render(contents), encoding="utf-8")
    return path


def render(contents: Contents) -> str:
    """Return the page as text.

    Args:
        contents: Contents of the page.

    Raises:
        InputError: when there is no prediction, or a prediction does not fit its scene.
    """
    if not contents.scenes or not contents.entries:
        raise InputError(f"{contents.title} holds no prediction with its truth, and a report needs one")
    entries = contents.entries
    reduction = Reduction.fitting([scene.raw.shape for scene in contents.scenes])
    views = [View.of(scene, reduction) for scene in contents.scenes]
    scored = [(entry, score_entry(entry, contents.scenes)) for entry in track(entries, "scoring", len(entries))]
    slices, left_out = _slices(views, entries)
    environment = Environment(
        loader=PackageLoader("cleftnet", "reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        contents=contents,
        css=_file("page.css"),
        script=_file("page.js"),
        headline=headline(scored[0][1]),
        scores=score_table(scored),
        notes=_notes(scored, contents),
        plots=plots(scored),
        entries=[(entry.key, entry.label, style_class(number)) for number, entry in enumerate(entries)],
        figures=_figures(views, entries),
        min_nm2=MIN_NM2,
        slices=slices,
        first=slices["scenes"][0],
        left_out=left_out,
        reduction=str(reduction) if reduction != Reduction() else "",
        galleries=[
            (entry.key, entry.label, gallery(views, [read_mask(entry, p) for p in entry.predictions]))
            for entry in track(entries, "finding mistakes", len(entries))
        ],
        kinds=list(MistakeKind),
        provenance=yaml.safe_dump(json.loads(json.dumps(dict(contents.provenance))), sort_keys=False),
        made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC by cleftnet {version('cleftnet')}",
    )


def _file(name: str) -> Markup:
    """Return a style sheet or script of this package."""
    return Markup(files("cleftnet.reporting").joinpath(name).read_text(encoding="utf-8"))


def _slices(views: Sequence[View], entries: Sequence[Entry]) -> tuple[dict[str, Any], list[str]]:
    """Return the data of the slice browser, and the labels of the entries that would make the page too large."""
    scenes = [slices_of_scene(view) for view in views]
    free, shown, left_out = MAX_SLICE_BYTES - len(json.dumps(scenes)), list[list[str]](), list[str]()
    for entry in track(entries, "drawing slices", len(entries)):
        parts = [slices_of_prediction(view, entry, p) for view, p in zip(views, entry.predictions, strict=True)]
        size = len(json.dumps(parts))
        if shown and size > free:
            left_out.append(entry.label)
            continue
        free -= size
        shown.append([entry.key, entry.label])
        for scene, part in zip(scenes, parts, strict=True):
            scene["entries"][entry.key] = part
    return {"scenes": scenes, "entries": shown}, left_out


def _figures(views: Sequence[View], entries: Sequence[Entry]) -> list[Any]:
    return [
        figure3(view, ((entry.label, read_mask(entry, entry.predictions[number])) for entry in entries))
        for number, view in enumerate(views)
    ]


def _notes(scored: ScoredEntries, contents: Contents) -> list[str]:
    """Return the warnings of the evaluation, and why a score is undefined."""
    notes = dict.fromkeys(
        f"{entry.label}{f', {scene.name}' if len(contents.scenes) > 1 else ''}: {text}"
        for entry, scores in scored
        for scene, found in zip(contents.scenes, scores.volumes, strict=True)
        for text in [*found.warnings, *(f"{name} is undefined: {why}" for name, why in found.undefined.items())]
    )
    return list(notes)
