"""What the side list and the legend of a viewer show: synapses and mistakes by score, and the layers with their colors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cleftnet.geometry import FloatZYX
from cleftnet.viewing.cleft_errors import CleftErrors, JudgedClefts
from cleftnet.viewing.layers import LayerKind

LISTED = 5000  # rows of the side list; more make the page slow
RIGHT, FALSE, MISSED = "right", "false", "missed"  # true positives, false positives, false negatives

# Okabe & Ito, as in the report
COLORS: Mapping[str, str] = {
    LayerKind.PROBABILITY: "#e69f00",
    LayerKind.DISTANCE: "#cc79a7",
    LayerKind.TRUTH: "#56b4e9",
    RIGHT: "#56b4e9",
    FALSE: "#d55e00",
    MISSED: "#009e73",
}


@dataclass(frozen=True)
class ListedCleft:
    """One row of the side list.

    Attributes:
        cleft_id: Its id in its labels.
        center_nm: Its centroid, z y x.
        volume_nm3: Its volume.
        score: Confidence that it is a synapse, 0 to 1; None where no table gives one.
        verdict: `right`, `false` or `missed` where there is a truth, the verdict of a person in a review, else an empty text.
        kind: Why it is in a review; an empty text elsewhere.
    """

    cleft_id: int
    center_nm: FloatZYX
    volume_nm3: float
    score: float | None = None
    verdict: str = ""
    kind: str = ""

    def to_json(self, voxel_size_nm: FloatZYX) -> dict[str, Any]:
        """Return what the page needs; positions x y z in voxels of this size, counted as neuroglancer does."""
        return {
            "id": str(self.cleft_id),  # JavaScript has no 64-bit integers
            "position": list(viewer_position(self.center_nm, voxel_size_nm)),
            "volume_nm3": self.volume_nm3,
            "score": self.score,
            "verdict": self.verdict,
            "kind": self.kind,
        }


def viewer_position(place_nm: Sequence[float], voxel_size_nm: FloatZYX) -> tuple[float, ...]:
    """Return a place, nm z y x, as a position of neuroglancer: x y z in voxels.

    Voxel n of neuroglancer reaches from n to n + 1, and our positions are centers of voxels.

    Example:
        >>> viewer_position((80, 8, 4), (40, 4, 4))
        (1.5, 2.5, 2.5)
    """
    return tuple(place / side + 0.5 for place, side in zip(place_nm[::-1], voxel_size_nm[::-1], strict=True))


def list_clefts(table: pd.DataFrame | None, errors: CleftErrors | None) -> list[ListedCleft]:
    """Return the rows of the side list: the highest score first, or the largest where there is no score.

    Args:
        table: The table of synapses.
        errors: What is right, false and missed; the ids of predicted clefts are those of the table.
    """
    rows: list[ListedCleft] = []
    if table is not None:
        rows += _of_table(table, {} if errors is None else _verdicts(errors))
    elif errors is not None:
        rows += [*_of_clefts(errors.true_positives, RIGHT), *_of_clefts(errors.false_positives, FALSE)]
    if errors is not None:
        rows += _of_clefts(errors.false_negatives, MISSED)
    return sorted(rows, key=lambda row: (-1.0 if row.score is None else row.score, row.volume_nm3), reverse=True)


def _verdicts(errors: CleftErrors) -> dict[int, str]:
    judged = ((errors.true_positives, RIGHT), (errors.false_positives, FALSE))
    return {int(cleft): verdict for clefts, verdict in judged for cleft in clefts.ids}


def _of_table(table: pd.DataFrame, verdicts: Mapping[int, str]) -> list[ListedCleft]:
    columns = (table[name].to_numpy() for name in ("synapse_id", "z_nm", "y_nm", "x_nm", "volume_nm3", "score"))
    return [
        ListedCleft(
            int(one),
            (float(z), float(y), float(x)),
            float(volume),
            float(score) if math.isfinite(score) else None,
            verdicts.get(int(one), ""),
        )
        for one, z, y, x, volume, score in zip(*columns, strict=True)
    ]


def _of_clefts(clefts: JudgedClefts, verdict: str) -> list[ListedCleft]:
    return [
        ListedCleft(int(one), (float(z), float(y), float(x)), float(volume), None, verdict)
        for one, (z, y, x), volume in zip(clefts.ids, clefts.centers_nm, clefts.volumes_nm3, strict=True)
    ]


def middle_nm(shape: Sequence[int], voxel_size_nm: FloatZYX, offset_nm: FloatZYX) -> FloatZYX:
    """Return the center of the middle voxel of a volume, z y x."""
    z, y, x = np.array(offset_nm) + np.array(shape) // 2 * np.array(voxel_size_nm)
    return float(z), float(y), float(x)
