"""Trains the boosted trees that judge voxels beside the networks of a model (`cleftnet.models.trees`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from cleftnet.comparison.voxel_drawing import common_voxel_size, draw_features
from cleftnet.models.trees import BoostedTrees, TreeSettings
from cleftnet.settings import Settings
from cleftnet.training.validation import Region

log = logging.getLogger(__name__)


class BoostingSettings(Settings):
    """Filters and size of boosted trees.

    Attributes:
        sigmas_nm: Scales of the filters.
        trees: Number of trees.
        depth: Number of questions that a tree asks at most.
        learning_rate: Factor on the leaves of each tree.
        min_leaf_voxels: Smallest number of training voxels in a leaf.
        voxels: Number of training voxels: half of them in clefts, or all cleft voxels if there are fewer.
    """

    sigmas_nm: tuple[float, ...] = Field((5.0, 10.0, 20.0, 40.0, 80.0), min_length=1)
    trees: int = Field(150, ge=1)
    depth: int = Field(5, ge=1, le=10)
    learning_rate: float = Field(0.1, gt=0)
    min_leaf_voxels: int = Field(100, ge=1)
    voxels: int = Field(250_000, ge=2)


def train_trees(settings: BoostingSettings, regions: Sequence[Region], seed: int = 0) -> BoostedTrees:
    """Train boosted trees on voxels drawn from labelled regions, with scikit-learn's histogram-based gradient boosting.

    Args:
        settings: Filters and size.
        regions: Raw and labels, of one voxel size.
        seed: Seed of the drawn voxels and of the trees.

    Returns:
        The trees; their log-odds are those of the drawn voxels, of which more are clefts than in the tissue.

    Raises:
        InputError: when voxel sizes differ, or when cleft or background is missing.

    Example:
        >>> from cleftnet.geometry import Box
        >>> from cleftnet.synthetic import synthetic_volume
        >>> tissue = synthetic_volume((8, 64, 64), seed=0)
        >>> trees = train_trees(BoostingSettings(trees=3, voxels=500), [Region(tissue.raw, tissue.labels)])
        >>> trees.log_odds(tissue.raw[tissue.raw.box], tissue.raw.box, Box.of((8, 32, 32))).shape
        (8, 32, 32)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    size = common_voxel_size(regions)
    rows, cleft = draw_features(regions, settings.sigmas_nm, settings.voxels, seed)
    log.info(f"boosting {settings.trees} trees on {len(rows):,} voxels, {int(cleft.sum()):,} of them in clefts")
    grown = HistGradientBoostingClassifier(
        max_iter=settings.trees,
        max_depth=settings.depth,
        max_leaf_nodes=2**settings.depth,
        learning_rate=settings.learning_rate,
        min_samples_leaf=settings.min_leaf_voxels,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    ).fit(rows, cleft)
    inner = 2**settings.depth - 1
    feature = np.zeros((settings.trees, inner), np.int16)
    threshold = np.full((settings.trees, inner), np.inf, np.float32)
    value = np.zeros((settings.trees, inner + 1), np.float32)
    # scikit-learn has no public way to the nodes; tests/models/test_trees.py holds that these are what it predicts by
    for number, (tree,) in enumerate(grown._predictors):
        _complete(tree.nodes, feature[number], threshold[number], value[number])
    value[0] += np.float32(grown._baseline_prediction.item())  # the log-odds before any tree
    return BoostedTrees(TreeSettings(sigmas_nm=settings.sigmas_nm, voxel_size_nm=size), feature, threshold, value)


def _complete(nodes: Any, feature: Any, threshold: Any, value: Any) -> None:
    """Write the nodes of a scikit-learn tree into the arrays of a complete one."""
    inner = len(feature)
    places = [(0, 0)]  # of a node in the complete tree, and in scikit-learn's
    while places:
        place, number = places.pop()
        node = nodes[number]
        if place >= inner:
            value[place - inner] = node["value"]
        elif node["is_leaf"]:  # the whole branch has the leaf's value
            places += [(2 * place + 1, number), (2 * place + 2, number)]
        else:
            feature[place] = node["feature_idx"]
            threshold[place] = _not_above(node["num_threshold"])
            places += [(2 * place + 1, node["left"]), (2 * place + 2, node["right"])]


def _not_above(threshold: float) -> np.float32:
    """Return the largest float32 that is not above a threshold, so that float32 features fall on the same side of it."""
    rounded = np.float32(threshold)
    return rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf))
