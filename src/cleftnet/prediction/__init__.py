"""From raw to probability: the network over overlapping tiles (paper §IV-C, SPEC §5), block by block for any size of volume.

Probabilities leave here calibrated, so that they mean what they say; only then do they become uint8.
"""

from cleftnet.prediction.blending import whole_logits
from cleftnet.prediction.blocks import to_uint8
from cleftnet.prediction.dry_run import estimate_prediction
from cleftnet.prediction.inference import PredictionSettings, best_device, overlap_in_voxels
from cleftnet.prediction.predicting import predict

__all__ = [
    "PredictionSettings",
    "best_device",
    "estimate_prediction",
    "overlap_in_voxels",
    "predict",
    "to_uint8",
    "whole_logits",
]
