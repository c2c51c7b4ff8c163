"""A map over the blocks of a volume that any number of workers can die in: resumed, retried, and ignorant of what it maps.

No model and no torch here. `map_blocks` does a `Work` with every block of a `BlockGrid`, in this process or on Dask workers,
and a `Journal` beside the output says which blocks need not be done again.
"""

from cleftnet.blockwise.grid import BlockGrid
from cleftnet.blockwise.journal import Journal, Task
from cleftnet.blockwise.mapping import map_blocks
from cleftnet.blockwise.output import NewArray, Output, unfinished
from cleftnet.blockwise.work import ExecutionSettings, Tick, UnfinishedError, Work

__all__ = [
    "BlockGrid",
    "ExecutionSettings",
    "Journal",
    "NewArray",
    "Output",
    "Task",
    "Tick",
    "UnfinishedError",
    "Work",
    "map_blocks",
    "unfinished",
]
