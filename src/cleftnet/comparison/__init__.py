"""The paper's tables: rows by seeds of one recipe, each trained, predicted and scored alike, told apart where they can be."""

from cleftnet.comparison.cells import Cell, CellFolder
from cleftnet.comparison.comparing import carry_out, compare
from cleftnet.comparison.plan import Plan
from cleftnet.comparison.recipe import Comparison, load_comparison
from cleftnet.comparison.results import RESULTS, TABLES, Results

__all__ = [
    "RESULTS",
    "TABLES",
    "Cell",
    "CellFolder",
    "Comparison",
    "Plan",
    "Results",
    "carry_out",
    "compare",
    "load_comparison",
]
