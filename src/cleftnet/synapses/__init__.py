"""Synapses, not voxels: from a prediction to a list of synapses with a mask for each, whatever the size of the volume."""

from cleftnet.synapses.finding import Synapses, find_synapses
from cleftnet.synapses.rules import SynapseScore, SynapseSettings
from cleftnet.synapses.table import COLUMNS, PARTNERS, Column, SynapseTable
from cleftnet.synapses.tuning import Tuning, tune, tune_once
from cleftnet.synapses.writing import write_table

__all__ = [
    "COLUMNS",
    "PARTNERS",
    "Column",
    "SynapseScore",
    "SynapseSettings",
    "SynapseTable",
    "Synapses",
    "Tuning",
    "find_synapses",
    "tune",
    "tune_once",
    "write_table",
]
