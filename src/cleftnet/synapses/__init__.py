"""Synapses of a prediction of any size: a table with a row for each, and a volume of their ids."""

from cleftnet.synapses.features import FEATURES
from cleftnet.synapses.finding import Synapses, find_synapses
from cleftnet.synapses.rules import SynapseSettings, describe_point
from cleftnet.synapses.table import COLUMNS, PARTNERS, Column, write_table
from cleftnet.synapses.tuning import TuningSettings, tune, tune_once
from cleftnet.synapses.tuning_result import Tuning

__all__ = [
    "COLUMNS",
    "FEATURES",
    "PARTNERS",
    "Column",
    "SynapseSettings",
    "Synapses",
    "Tuning",
    "TuningSettings",
    "describe_point",
    "find_synapses",
    "tune",
    "tune_once",
    "write_table",
]
