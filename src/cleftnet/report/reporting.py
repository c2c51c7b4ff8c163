"""A report on whatever a verb left behind: what lies in a folder decides which contents the page gets."""

from __future__ import annotations

from pathlib import Path

from cleftnet.comparison import RESULTS
from cleftnet.errors import InputError
from cleftnet.files import refuse_existing
from cleftnet.models.checkpoint import BEST, LAST
from cleftnet.report.comparisons import comparison_contents
from cleftnet.report.loading import demo_contents, run_contents
from cleftnet.report.page import write_page
from cleftnet.training.runs import RECIPE

PAGE = "report.html"  # beside what it reports on


def report(source: str | Path, out: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write one self-contained HTML page on a run, a comparison or a demo.

    Of a run directory the validation regions are predicted, which takes about as long as one of its validations did.

    Args:
        source: A run directory, the output of `cleftnet compare`, or of `cleftnet demo`.
        out: The page; default `report.html` in that folder.
        overwrite: Whether a file already there may be replaced.

    Returns:
        The page.

    Raises:
        InputError: when the folder is none of those, something of it is missing, or the page exists.
    """
    folder = Path(source)
    page = folder / PAGE if out is None else Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a run directory, or the output of cleftnet compare or demo")
    refuse_existing(page, overwrite)
    if (folder / "volume.hdf").is_file() and (folder / "prediction.hdf").is_file():
        return write_page(demo_contents(folder), page, overwrite=overwrite)
    if (folder / RESULTS).is_file():
        return write_page(comparison_contents(folder), page, overwrite=overwrite)
    if (folder / RECIPE).is_file() and any((folder / name).is_file() for name in (BEST, LAST)):
        with run_contents(folder) as contents:
            return write_page(contents, page, overwrite=overwrite)
    raise InputError(
        f"{folder} holds no finished training ({RECIPE} and {BEST}), comparison or demo; expected what cleftnet train, "
        f"compare or demo wrote"
    )
