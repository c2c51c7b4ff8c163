"""Selects the candidates of a review: the least certain synapses, a random sample of the others, and likely missed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from cleftnet.metrics.voxels import Integers
from cleftnet.settings import Settings

UNCERTAIN, RANDOM, MISSED = KINDS = ("uncertain", "random", "missed?")
BOUNDS = ("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop")
KEYS = ("synapse_id", "volume_nm3", *BOUNDS)  # columns of a table that tell which component a synapse is
_FROM_TABLE = ("z_nm", "y_nm", "x_nm", *BOUNDS, "score", "max_probability", "volume_nm3")
COLUMNS = ("id", "kind", "synapse_id", *_FROM_TABLE, "weight")


class ReviewSettings(Settings):
    """How many candidates a review has, and how far one looks around them.

    Attributes:
        uncertain: Synapses with the least certain scores: nearest to 0.5 by a classifier, else the lowest mean probabilities.
        random: Synapses drawn at random from the others; they make the estimate of precision one of all synapses.
        missed: Components of the prediction that were left out by size, score or seed, most likely synapses first.
        smallest_nm3: Smallest volume of such a component.
        surroundings_nm: How far around a candidate's bounding box one looks. What is no object there counts as background
            once the candidate is decided, and a redrawn synapse must lie there.
        seed: Seed of the random sample.
    """

    uncertain: int = Field(20, ge=0)
    random: int = Field(20, ge=0)
    missed: int = Field(20, ge=0)
    smallest_nm3: float = Field(5e4, ge=0, allow_inf_nan=False)
    surroundings_nm: float = Field(200.0, ge=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0)


def select(components: pd.DataFrame, synapse_ids: Integers, settings: ReviewSettings, classified: bool) -> pd.DataFrame:
    """Return the table of candidates, with the columns of `COLUMNS` and a column `component`.

    The weight is the number of synapses that a candidate stands for in the estimate of precision: 1, or more for those of the
    random sample.

    Args:
        components: Table of all components of a prediction, as `find_synapses` makes it.
        synapse_ids: The synapse that each component is, or 0 where it was left out.
        settings: Numbers of candidates, and the seed.
        classified: Whether scores are probabilities by a classifier, rather than mean probabilities.
    """
    score, rng = components["score"].to_numpy(), np.random.default_rng(settings.seed)
    accepted, left_out = np.flatnonzero(synapse_ids), np.flatnonzero(synapse_ids == 0)
    certainty = np.abs(score - 0.5) if classified else score
    by_certainty = accepted[np.argsort(certainty[accepted], kind="stable")]
    uncertain, others = by_certainty[: settings.uncertain], np.sort(by_certainty[settings.uncertain :])
    drawn = rng.choice(others, min(settings.random, len(others)), replace=False) if len(others) else others
    likelihood = score if classified else components["sum_probability"].to_numpy()
    missed = left_out[np.argsort(-likelihood[left_out], kind="stable")][: settings.missed]
    chosen = np.concatenate([uncertain, drawn, missed]).astype(np.int64)
    table = components.iloc[chosen].reset_index(drop=True)
    sizes = (len(uncertain), len(drawn), len(missed))
    return pd.DataFrame(
        {
            "id": np.arange(1, len(chosen) + 1),
            "kind": np.repeat(KINDS, sizes),
            "synapse_id": synapse_ids[chosen],
            **{name: table[name] for name in _FROM_TABLE},
            "weight": np.repeat([1.0, len(others) / max(1, len(drawn)), 1.0], sizes),
            "component": chosen + 1,
        }
    )
