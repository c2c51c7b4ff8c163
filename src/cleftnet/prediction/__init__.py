"""From raw to probability: the network over overlapping tiles (paper §IV-C, SPEC §5), block by block for any size of volume.

Probabilities leave here calibrated, so that they mean what they say; only then do they become uint8.
"""

from cleftnet.prediction.blending import whole_logits
from cleftnet.prediction.blocks import to_uint8
from cleftnet.prediction.inference import Inference, best_device, overlap_in_voxels
from cleftnet.prediction.predicting import predict
from cleftnet.prediction.rehearsal import rehearse_prediction

__all__ = [
    "Inference",
    "best_device",
    "overlap_in_voxels",
    "predict",
    "rehearse_prediction",
    "to_uint8",
    "whole_logits",
]
