"""The tables of the paper from one recipe: networks trained with several seeds, scored alike, and compared.

A comparison recipe (`recipe`) lists rows and seeds. A plan (`plan`) checks it and lists the cells, one for each row and seed.
Every cell is trained and predicted (`cell_making`), scored (`region_scores`) and saved (`cells`). `comparing` runs the plan
and writes the results: tables (`tables`) and differences between rows (`differences`).
"""

from cleftnet.comparison.cells import Cell, CellFolder
from cleftnet.comparison.comparing import RESULTS, TABLES, Results, carry_out, compare
from cleftnet.comparison.plan import Plan
from cleftnet.comparison.recipe import Comparison, load_comparison

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
