"""Resumable, fault-tolerant map over the blocks of a volume.

`map_blocks` runs a `Work` on every block of a `BlockGrid`, in the calling process or on Dask workers. A `Journal` beside the
output records the finished blocks, so that a later run computes only the others. This package knows no model and no torch.
"""

from cleftnet.blockwise.grid import BlockGrid
from cleftnet.blockwise.journal import Journal, Task
from cleftnet.blockwise.mapping import map_blocks
from cleftnet.blockwise.output import Output, unfinished
from cleftnet.blockwise.work import ExecutionSettings, Tick, UnfinishedError, Work

__all__ = [
    "BlockGrid",
    "ExecutionSettings",
    "Journal",
    "Output",
    "Task",
    "Tick",
    "UnfinishedError",
    "Work",
    "map_blocks",
    "unfinished",
]
