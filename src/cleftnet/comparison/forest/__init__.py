"""The classical pipeline beside which the networks are shown: multi-scale filters and a random forest (§II of the paper).

`train_forest(...).calibrated(...)` is learned and validated as a network is, and `predict` writes the same file.
"""

from cleftnet.comparison.forest.classifier import Forest, ForestSettings, train_forest

__all__ = ["Forest", "ForestSettings", "train_forest"]
