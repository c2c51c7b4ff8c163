"""cleftnet: synaptic cleft detection in volume electron microscopy (Liu & Ji, CleftNet).

The public names load on first use, so that scoring needs no torch and starts fast.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cleftnet.blockwise import ExecutionSettings as ExecutionSettings
    from cleftnet.comparison import Comparison as Comparison
    from cleftnet.comparison import compare as compare
    from cleftnet.errors import InputError as InputError
    from cleftnet.errors import TrainingInterrupted as TrainingInterrupted
    from cleftnet.exporting import export as export
    from cleftnet.geometry import Box as Box
    from cleftnet.metrics.evaluation import ScoringSettings as ScoringSettings
    from cleftnet.metrics.evaluation import evaluate as evaluate
    from cleftnet.metrics.halo import HaloSettings as HaloSettings
    from cleftnet.models.checkpoint import Model as Model
    from cleftnet.models.checkpoint import load_card as load_card
    from cleftnet.models.checkpoint import load_model as load_model
    from cleftnet.models.checkpoint import store_operating_point as store_operating_point
    from cleftnet.models.operating_point import ObjectClassifier as ObjectClassifier
    from cleftnet.models.operating_point import OperatingPoint as OperatingPoint
    from cleftnet.models.released import list_models as list_models
    from cleftnet.nets.skeleton import NetSpec as NetSpec
    from cleftnet.nets.zoo import build as build
    from cleftnet.nets.zoo import list_networks as list_networks
    from cleftnet.patches.targets import distance_map as distance_map
    from cleftnet.prediction import PredictionSettings as PredictionSettings
    from cleftnet.prediction import predict as predict
    from cleftnet.prediction import predict_in_memory as predict_in_memory
    from cleftnet.reporting import report as report
    from cleftnet.review import ReviewSet as ReviewSet
    from cleftnet.review import ReviewSettings as ReviewSettings
    from cleftnet.review import apply_review as apply_review
    from cleftnet.review import make_review as make_review
    from cleftnet.review import open_review as open_review
    from cleftnet.synapses import SynapseSettings as SynapseSettings
    from cleftnet.synapses import TuningSettings as TuningSettings
    from cleftnet.synapses import find_synapses as find_synapses
    from cleftnet.synapses import tune as tune
    from cleftnet.synthetic import SyntheticSettings as SyntheticSettings
    from cleftnet.synthetic import synthetic_volume as synthetic_volume
    from cleftnet.training.fine_tuning import finetune as finetune
    from cleftnet.training.fine_tuning_job import FineTuneSettings as FineTuneSettings
    from cleftnet.training.loop import TrainingRun as TrainingRun
    from cleftnet.training.recipe import Recipe as Recipe
    from cleftnet.training.recipe import load_recipe as load_recipe
    from cleftnet.training.runs import train as train
    from cleftnet.viewing import view as view
    from cleftnet.volumes import Volume as Volume
    from cleftnet.volumes import as_volume as as_volume
    from cleftnet.volumes import open_volume as open_volume

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the caller decides what becomes of log messages

_MODULES = {
    "Box": "geometry",
    "Comparison": "comparison",
    "ExecutionSettings": "blockwise",
    "FineTuneSettings": "training.fine_tuning_job",
    "HaloSettings": "metrics.halo",
    "InputError": "errors",
    "Model": "models.checkpoint",
    "NetSpec": "nets.skeleton",
    "ObjectClassifier": "models.operating_point",
    "OperatingPoint": "models.operating_point",
    "PredictionSettings": "prediction",
    "Recipe": "training.recipe",
    "ReviewSet": "review",
    "ReviewSettings": "review",
    "ScoringSettings": "metrics.evaluation",
    "SynapseSettings": "synapses",
    "SyntheticSettings": "synthetic",
    "TrainingInterrupted": "errors",
    "TrainingRun": "training.loop",
    "TuningSettings": "synapses",
    "Volume": "volumes",
    "apply_review": "review",
    "as_volume": "volumes",
    "build": "nets.zoo",
    "compare": "comparison",
    "distance_map": "patches.targets",
    "evaluate": "metrics.evaluation",
    "export": "exporting",
    "finetune": "training.fine_tuning",
    "find_synapses": "synapses",
    "list_models": "models.released",
    "list_networks": "nets.zoo",
    "load_card": "models.checkpoint",
    "load_model": "models.checkpoint",
    "load_recipe": "training.recipe",
    "make_review": "review",
    "open_review": "review",
    "open_volume": "volumes",
    "predict": "prediction",
    "predict_in_memory": "prediction",
    "report": "reporting",
    "store_operating_point": "models.checkpoint",
    "synthetic_volume": "synthetic",
    "train": "training.runs",
    "tune": "synapses",
    "view": "viewing",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # which takes longer to import than everything else here

        return version("cleftnet")
    if name not in _MODULES:
        raise AttributeError(f"module 'cleftnet' has no attribute '{name}'")
    return getattr(importlib.import_module(f"cleftnet.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
