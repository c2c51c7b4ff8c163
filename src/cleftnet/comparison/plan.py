"""Checks a comparison before anything is trained, and lists its cells and their progress."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from cleftnet.comparison.cells import CellFolder
from cleftnet.comparison.recipe import Comparison, load_comparison, with_defaults
from cleftnet.errors import InputError, nearest
from cleftnet.files import is_left_behind, refuse_address
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.training.data import open_data
from cleftnet.training.recipe import dump, first_difference, load_recipe
from cleftnet.training.runs import FREE, RECIPE, RUN
from cleftnet.volumes import is_cleft

State = Literal["done", "failed", "begun", "missing"]
_FREE = {*FREE, "classical.n_jobs"} - {"training.patience"}  # keys that change no score


class PlannedCell(NamedTuple):
    """A cell and its progress.

    Attributes:
        row: Name of the row.
        seed: Seed of the cell.
        state: `done`, `failed`, `begun` or `missing`; failed and begun cells are resumed.
        parameters: Number of parameters of its network; None for a random forest.
    """

    row: str
    seed: int
    state: State
    parameters: int | None


@dataclass(frozen=True)
class Plan:
    """A checked comparison: all recipes are valid, all data can be opened, nothing has been written.

    Attributes:
        comparison: The comparison.
        out: Output folder.
        wanted: Rows and seeds to run, in order: all rows of a seed before the next seed.
    """

    comparison: Comparison
    out: Path
    wanted: tuple[tuple[str, int], ...]

    @classmethod
    def of(
        cls,
        recipe: str | Path | Comparison,
        out: str | Path | None = None,
        *,
        rows: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Plan:
        """Read and check a comparison.

        Args:
            recipe: A comparison, its YAML file, or the name of a shipped recipe.
            out: Output folder; default: `runs/` and the recipe's name.
            rows: Names of the rows to run; default: all. Means of rows come last.
            seeds: Seeds to run; default: all.

        Raises:
            InputError: when recipe or data are wrong, a row or seed is unknown, or the output folder holds other files or cells
                of another recipe.
        """
        if isinstance(recipe, Comparison):
            comparison, name = recipe, "comparison"
            comparison.check()
        else:
            comparison, name = load_comparison(recipe), Path(recipe).stem
        for row in rows or ():
            if row not in comparison.rows:
                raise InputError(f"no row '{row}' in this comparison; {nearest(row, list(comparison.rows))}")
        for seed in seeds or ():
            if seed not in comparison.seeds:
                raise InputError(f"no seed {seed} in this comparison, which has {list(comparison.seeds)}")
        chosen = sorted(comparison.rows if rows is None else rows, key=lambda row: bool(comparison.rows[row].mean_of))
        wanted = tuple((row, seed) for seed in (comparison.seeds if seeds is None else seeds) for row in chosen)
        plan = cls(comparison, Path(out) if out is not None else Path("runs") / name, wanted)
        plan._check_folder()
        plan._check_packages()
        plan._check_data()
        return plan

    def folder(self, row: str, seed: int) -> CellFolder:
        """Return the folder of a cell."""
        return CellFolder.of(self.out, row, seed)

    @property
    def every(self) -> list[tuple[str, int]]:
        """All rows and seeds of the comparison, in order."""
        return [(row, seed) for seed in self.comparison.seeds for row in self.comparison.rows]

    def cells(self) -> Iterator[PlannedCell]:
        """Yield the wanted cells, in order."""
        for row, seed in self.wanted:
            folder = self.folder(row, seed)
            there: dict[State, bool] = {
                "done": folder.file.exists(),
                "failed": folder.failure.exists(),
                "begun": bool(folder.runs or folder.finished_folds()),
            }
            state: State = next((state for state, found in there.items() if found), "missing")
            network = self.comparison.rows[row].has_network
            yield PlannedCell(row, seed, state, _parameters(self.comparison.recipe(row, seed).net) if network else None)

    def _check_packages(self) -> None:
        """Raise InputError when a row of trees is not finished and scikit-learn, which grows them, is not installed."""
        grown = [row for row, settings in self.comparison.rows.items() if settings.classical or settings.boosted]
        todo = [row for row, seed in self.wanted if row in grown and not self.folder(row, seed).file.exists()]
        if todo and importlib.util.find_spec("sklearn") is None:
            raise InputError(
                f"row {todo[0]} grows trees by scikit-learn, which is not installed; pip install 'cleftnet[trees]', or choose "
                f"other rows=[...]"
            )

    def _check_folder(self) -> None:
        """Raise InputError when the folder holds other files, or cells of another recipe."""
        refuse_address(self.out)
        if self.out.is_file():
            raise InputError(f"{self.out} is a file; expected a name for a folder")
        if not self.out.exists() or all(map(is_left_behind, self.out.iterdir())):
            return
        if not (self.out / RECIPE).is_file() or (self.out / RUN).is_file():
            raise InputError(f"{self.out} is not empty and holds no comparison; choose another folder, out=...")
        grid = dump(self.comparison.synapses)
        for row, seed in self.every:
            folder, mine = self.folder(row, seed), self.comparison.described(row, seed)
            cell, begun = folder.load(), folder.run / RECIPE
            key = None
            if cell is not None:
                key = first_difference(with_defaults(cell.recipe), mine, _FREE) or first_difference(
                    cell.synapse_grid, grid
                )
            elif begun.is_file():
                key = first_difference(dump(load_recipe(begun)), mine, _FREE)
            else:
                keys = (first_difference(with_defaults(fold.recipe), mine, _FREE) for fold in folder.finished_folds())
                key = next((found for found in keys if found is not None), None)
            if key is not None:
                raise InputError(
                    f"{folder.path} was made with another {key}; choose another folder, out=..., or remove that folder to "
                    f"train the cell again"
                )

    def _check_data(self) -> None:
        """Raise InputError when the data of an unfinished cell cannot be used."""
        seen = set()
        for row, seed in self.wanted:
            if self.folder(row, seed).file.exists():
                continue
            recipe = self.comparison.recipe(row, seed)
            opened = (recipe.data, recipe.net.patch)
            if opened in seen:
                continue
            seen.add(opened)
            try:
                data = open_data(recipe)
            except InputError as error:
                raise InputError(f"row {row}: {error}") from None
            for region in data.validation_regions:
                if not is_cleft(region.labels.read()).any():
                    raise InputError(
                        f"{region.labels.address} holds no cleft, so nothing can be scored on it; validate on another region"
                    )


def _parameters(spec: NetSpec) -> int:
    """Return the number of parameters of a network without allocating them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Network(spec).parameters())
