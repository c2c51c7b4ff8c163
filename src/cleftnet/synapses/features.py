"""Features of a component that a classifier judges it by: size, shape, probability, and gray values against the surroundings.

All follow from sums that add up over blocks. Gray values enter as contrasts only, so that brightness and staining of another
volume matter little.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cleftnet.geometry import FloatZYX
from cleftnet.metrics.voxels import Floats
from cleftnet.synapses.appearance import (
    AROUND,
    AROUND_GRAY,
    AROUND_GRAY_SQUARE,
    AROUND_PROBABILITY,
    CORE_VOXELS,
    GRAY,
    GRAY_SQUARE,
    SQUARE,
    WITH_RAW,
)
from cleftnet.synapses.merging import SynapseSums

BASE_FEATURES = {
    "log_volume": "log10 of the volume in nm³",
    "log_core": "log10 of 10⁴ plus the volume in nm³ of its voxels of probability ≥ 0.75",
    "log_extent": "log10 of the longest extent in nm",
    "log_thickness": "log10 of volume / area in nm",
    "flatness": "1 − ratio of the smallest to the middle standard deviation of its voxels' positions",
    "elongation": "1 − ratio of the middle to the largest standard deviation",
    "log_sections": "log2 of the number of sections",
    "touches_border": "1 where it reaches a face of the prediction",
    "mean_probability": "mean over its voxels",
    "max_probability": "maximum over its voxels",
    "sd_probability": "standard deviation over its voxels",
    "around_probability": "mean over the voxels around it that are no cleft, up to 100 nm away in the section",
}
RAW_FEATURES = {
    "darkness": "gray value around minus that inside, in standard deviations around",
    "texture": "standard deviation of gray inside, as a share of that around",
}
FEATURES = BASE_FEATURES | RAW_FEATURES


def object_features(sums: SynapseSums, table: pd.DataFrame, voxel_size_nm: FloatZYX) -> dict[str, Floats]:
    """Return the features of every component by name; those of raw only where raw was measured.

    Args:
        sums: Sums over the voxels of the components, with their appearance.
        table: Their rows of the table.
        voxel_size_nm: Voxel size z y x.
    """
    size = np.array(voxel_size_nm)
    volume, voxels, looks = table["volume_nm3"].to_numpy(), sums.voxels, sums.appearance
    spread = _spread(sums.covariance, size)
    around = np.maximum(looks[:, AROUND], 1)
    mean = sums.probability / voxels
    features = {
        "log_volume": np.log10(volume),
        "log_core": np.log10(1e4 + looks[:, CORE_VOXELS] * size.prod()),
        "log_extent": np.log10(table["extent_nm"].to_numpy()),
        "log_thickness": np.log10(volume / table["area_nm2"].to_numpy()),
        "flatness": 1 - spread[:, 0] / spread[:, 1],
        "elongation": 1 - spread[:, 1] / spread[:, 2],
        "log_sections": np.log2(table["sections"].to_numpy()),
        "touches_border": table["touches_border"].to_numpy().astype(np.float64),
        "mean_probability": mean,
        "max_probability": sums.maximum,
        "sd_probability": np.sqrt(np.maximum(looks[:, SQUARE] / voxels / 255**2 - mean**2, 0)),
        "around_probability": looks[:, AROUND_PROBABILITY] / around / 255,
    }
    if looks.shape[1] == WITH_RAW:
        gray, gray_around = looks[:, GRAY] / voxels, looks[:, AROUND_GRAY] / around
        sd = np.sqrt(np.maximum(looks[:, GRAY_SQUARE] / voxels - gray**2, 0))
        sd_around = np.sqrt(np.maximum(looks[:, AROUND_GRAY_SQUARE] / around - gray_around**2, 1.0))
        features |= {"darkness": (gray_around - gray) / sd_around, "texture": sd / sd_around}
    return features


def _spread(covariance: Floats, size: Floats) -> Floats:
    """Return the standard deviations of positions in nm, ascending, with every voxel taken as a solid box."""
    if not len(covariance):
        return np.ones((0, 3))
    in_nm = covariance * np.outer(size, size) + np.diag(size**2 / 12)
    variance = np.linalg.eigvalsh(in_nm)
    return np.asarray(np.sqrt(np.maximum(np.round(variance, 6), 1e-6)))  # the last bits depend on blocks
