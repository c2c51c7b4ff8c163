"""The verb for reviews: makes a review set, takes decisions about its candidates, and applies them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cleftnet.cli.options import Json, Overwrite, Workers, whole_numbers
from cleftnet.cli.printing import print_json, print_table, text
from cleftnet.errors import InputError

if TYPE_CHECKING:
    from cleftnet.review import ReviewSet


def review(
    source: Annotated[
        Path, typer.Argument(metavar="SYNAPSES_OR_REVIEW", help="A folder that synapses wrote, or one of a review.")
    ],
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Folder of the review to make; only with SYNAPSES.")
    ] = None,
    uncertain: Annotated[int | None, typer.Option(help="Number of least certain synapses; default 20.")] = None,
    random: Annotated[int | None, typer.Option(help="Number of other synapses, drawn at random; default 20.")] = None,
    missed: Annotated[int | None, typer.Option(help="Number of likely missed synapses; default 20.")] = None,
    surroundings: Annotated[
        float | None, typer.Option(metavar="NM", help="How far around a candidate one looks, in nm; default 200.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random sample; default 0.")] = None,
    prediction: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The prediction, if it has moved since synapses were found.")
    ] = None,
    raw: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Raw volume, if it has moved.")] = None,
    workers: Workers = 0,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who decides.")] = None,
    accept: Annotated[str | None, typer.Option(metavar="3,5", help="Candidates that are synapses.")] = None,
    reject: Annotated[str | None, typer.Option(metavar="7", help="Candidates that are no synapses.")] = None,
    skip: Annotated[str | None, typer.Option(metavar="9", help="Candidates to leave open.")] = None,
    redraw: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=ADDRESS", help="A candidate whose shape these labels correct; repeatable."),
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write corrected labels and a summary to this folder.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Have people check synapses, and correct labels by it.

    cleftnet review SYNAPSES OUT makes a review. cleftnet review OUT prints its candidates and how many are undecided.
    With --by NAME --accept 3,5 --reject 7, it writes down decisions, and with --apply CORRECTED it turns them into
    corrected labels for finetune, and estimates precision and recall.
    """
    from cleftnet.review import ReviewSettings, apply_review, make_review, open_review

    verdicts = {"accept": accept, "reject": reject, "skip": skip}
    deciding = any(verdicts.values()) or bool(redraw)
    counts = {"uncertain": uncertain, "random": random, "missed": missed, "surroundings_nm": surroundings, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in counts.items() if value is not None}
    if out is not None:
        if deciding or apply is not None:
            raise InputError(
                f"{out} is made by this command; decide with: cleftnet review {out} --by NAME --accept 3,5"
            )
        from cleftnet.blockwise import ExecutionSettings

        settings, execution = ReviewSettings(**given), ExecutionSettings(workers=workers)
        made = make_review(
            source, out, prediction=prediction, raw=raw, settings=settings, execution=execution, overwrite=overwrite
        )
        _print_review(made, as_json)
        return
    if given or prediction is not None or raw is not None:
        raise InputError(f"these options make a review and need an output: cleftnet review {source} OUT")
    opened = open_review(source)
    if deciding:
        _decide(opened, verdicts, redraw or [], by)
    if apply is None:
        _print_review(opened, as_json)
        return
    summary = apply_review(source, apply, overwrite=overwrite)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        print_table([(name, text(value)) for name, value in summary.rows()])


def _decide(review: ReviewSet, verdicts: dict[str, str | None], redraw: list[str], by: str | None) -> None:
    """Write down the decisions of the command line, after all of them were checked to name a candidate once."""
    if by is None:
        raise InputError("a decision needs the name of the person who made it; add --by NAME")
    listed = [(number, verdict) for verdict, ids in verdicts.items() for number in whole_numbers(ids, verdict) or []]
    drawn: dict[int, str] = {}
    for one in redraw:
        candidate, equals, address = one.partition("=")
        if not equals or not candidate.isdigit():
            raise InputError(f"--redraw '{one}' is not ID=ADDRESS; try --redraw 4=fixed.hdf")
        drawn[int(candidate)] = address
    listed += [(number, "redraw") for number in drawn]
    numbers = [number for number, _ in listed]
    if twice := next((number for number in numbers if numbers.count(number) > 1), None):
        raise InputError(f"candidate {twice} is decided twice; name it once")
    for number in numbers:
        review.box(number)
    for number, verdict in listed:
        review.decide(number, verdict, by=by, redrawn=drawn.get(number) if verdict == "redraw" else None)


def _print_review(review: ReviewSet, as_json: bool) -> None:
    """Print the candidates with their verdicts, and how far the review has come."""
    decisions, progress = review.decisions(), review.progress
    if as_json:
        rows = review.candidates.to_dict("records")
        for row in rows:
            row["verdict"] = decisions[row["id"]].verdict if row["id"] in decisions else None
        print_json({**vars(progress), "candidates": rows, "conflicts": review.conflicts()})
        return
    shown = ("z_nm", "y_nm", "x_nm", "score", "volume_nm3")
    table = [
        (
            str(row["id"]),
            row["kind"],
            *(text(row[name]) if name == "score" else f"{row[name]:,.0f}" for name in shown),
            decisions[row["id"]].verdict if row["id"] in decisions else "-",
        )
        for row in review.candidates.to_dict("records")
    ]
    print_table(table, ("id", "kind", *shown, "verdict"))
    left = "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.0f} min left"
    print(f"{progress.done} of {progress.total} decided{left}")
    for number, people in review.conflicts().items():
        print(f"people disagree on {number}: {', '.join(f'{name} {verdict}' for name, verdict in people.items())}")
