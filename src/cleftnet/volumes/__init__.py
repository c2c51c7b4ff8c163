"""Volumes in and out: one address names an array, every format becomes the same lazy `Volume`."""

from cleftnet.volumes.address import Address
from cleftnet.volumes.chunked.arrays import WritableVolume
from cleftnet.volumes.cremi import CLEFT_ZERO, write_cremi
from cleftnet.volumes.formats import NewArrays
from cleftnet.volumes.layout import Layout
from cleftnet.volumes.opening import (
    LABELS,
    PREDICTION,
    RAW,
    as_volume,
    create_volumes,
    list_arrays,
    open_volume,
    open_writable,
    write_volume,
)
from cleftnet.volumes.slabs import Progress, WritableStore
from cleftnet.volumes.summary import LabelStatistics, label_statistics
from cleftnet.volumes.volume import BACKGROUND, INVALID, OUTSIDE, Store, Volume, is_cleft, is_labelled

__all__ = [
    "BACKGROUND",
    "CLEFT_ZERO",
    "INVALID",
    "LABELS",
    "OUTSIDE",
    "PREDICTION",
    "RAW",
    "Address",
    "LabelStatistics",
    "Layout",
    "NewArrays",
    "Progress",
    "Store",
    "Volume",
    "WritableStore",
    "WritableVolume",
    "as_volume",
    "create_volumes",
    "is_cleft",
    "is_labelled",
    "label_statistics",
    "list_arrays",
    "open_volume",
    "open_writable",
    "write_cremi",
    "write_volume",
]
