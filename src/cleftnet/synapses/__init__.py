"""Synapses of a prediction of any size: a table with a row for each, and a volume of their ids."""

from cleftnet.synapses.finding import Synapses, find_synapses
from cleftnet.synapses.rules import SynapseScore, SynapseSettings
from cleftnet.synapses.table import COLUMNS, PARTNERS, Column, write_table
from cleftnet.synapses.tuning import Tuning, tune, tune_once

__all__ = [
    "COLUMNS",
    "PARTNERS",
    "Column",
    "SynapseScore",
    "SynapseSettings",
    "Synapses",
    "Tuning",
    "find_synapses",
    "tune",
    "tune_once",
    "write_table",
]
