"""One self-contained HTML page from `Contents`: styles, script, curves and pictures inside, nothing fetched from anywhere."""

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

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.progress import track
from cleftnet.report.charts import style_class
from cleftnet.report.contents import Contents, Entry
from cleftnet.report.curves import ScoredEntries, plots
from cleftnet.report.entry_scores import score_entry
from cleftnet.report.gallery import gallery
from cleftnet.report.mistakes import MIN_NM2, MistakeKind
from cleftnet.report.pictures import Reduction
from cleftnet.report.scores import headline, score_table
from cleftnet.report.viewing import View, figure3, read_mask, slices_of_prediction, slices_of_scene

MAX_SLICE_BYTES = 11_000_000  # of pictures to browse; the page stays below about 15 MB


def write_page(contents: Contents, path: Path, *, overwrite: bool = False) -> Path:
    """Write the page.

    Args:
        contents: What it shows.
        path: The HTML file.
        overwrite: Whether a file already there may be replaced.

    Returns:
        The path.

    Raises:
        InputError: when the file exists, there is nothing to show, or a prediction does not fit its scene.
    """
    with replacing(path, overwrite) as temporary:
        temporary.write_text(render(contents), encoding="utf-8")
    return path


def render(contents: Contents) -> str:
    """Return the page as text.

    Args:
        contents: What it shows.

    Raises:
        InputError: when there is nothing to show, or a prediction does not fit its scene.
    """
    if not contents.scenes or not contents.entries:
        raise InputError(f"{contents.title} holds no prediction with its truth; expected at least one to report on")
    entries = contents.entries
    reduction = Reduction.fitting([scene.raw.shape for scene in contents.scenes])
    views = [View.of(scene, reduction) for scene in contents.scenes]
    scored = [(entry, score_entry(entry, contents.scenes)) for entry in track(entries, "scoring", len(entries))]
    slices, left_out = _slices(views, entries)
    environment = Environment(
        loader=PackageLoader("cleftnet", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
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
    """A style sheet or script of this package, as it is."""
    return Markup(files("cleftnet.report").joinpath(name).read_text(encoding="utf-8"))


def _slices(views: Sequence[View], entries: Sequence[Entry]) -> tuple[dict[str, Any], list[str]]:
    """What the slice browser shows, and the labels of the entries for which there was no room."""
    scenes = [slices_of_scene(view) for view in views]
    room, shown, left_out = MAX_SLICE_BYTES - len(json.dumps(scenes)), list[list[str]](), list[str]()
    for entry in track(entries, "drawing slices", len(entries)):
        parts = [slices_of_prediction(view, entry, p) for view, p in zip(views, entry.predictions, strict=True)]
        size = len(json.dumps(parts))
        if shown and size > room:
            left_out.append(entry.label)
            continue
        room -= size
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
    """What a reader should know before trusting the numbers: why a score has no value, and what the evaluation warns of."""
    notes = dict.fromkeys(
        f"{entry.label}{f', {scene.name}' if len(contents.scenes) > 1 else ''}: {text}"
        for entry, scores in scored
        for scene, found in zip(contents.scenes, scores.scenes, strict=True)
        for text in [*found.warnings, *(f"{name} is undefined: {why}" for name, why in found.undefined.items())]
    )
    return list(notes)
