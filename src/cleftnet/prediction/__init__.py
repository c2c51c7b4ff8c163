"""Predicts cleft probabilities: a network over overlapping tiles (paper §IV-C), block by block for volumes of any size.

See docs/method.md, "Data", for how tiles are cut and blended. Probabilities are calibrated before they become uint8.
"""

from cleftnet.prediction.blending import whole_logits
from cleftnet.prediction.dry_run import PredictionEstimate, estimate_prediction
from cleftnet.prediction.job import to_uint8
from cleftnet.prediction.predicting import predict, predict_in_memory
from cleftnet.prediction.prediction_settings import PredictionSettings, best_device, overlap_in_voxels

__all__ = [
    "PredictionEstimate",
    "PredictionSettings",
    "best_device",
    "estimate_prediction",
    "overlap_in_voxels",
    "predict",
    "predict_in_memory",
    "to_uint8",
    "whole_logits",
]
