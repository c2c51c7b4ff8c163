"""Volumes in and out: one address names an array, and every format becomes the same lazy `Volume`."""

from cleftnet.volumes.address import Address, expand
from cleftnet.volumes.alignment import Placement, place
from cleftnet.volumes.attributes import read_lengths
from cleftnet.volumes.chunked.arrays import WritableVolume
from cleftnet.volumes.chunked.storage import is_remote, remove_remote
from cleftnet.volumes.chunked.writing import CHUNK_VOX
from cleftnet.volumes.conversion import convert
from cleftnet.volumes.cremi import (
    CLEFT_ZERO,
    CREMI_BACKGROUND,
    FILE_FORMAT,
    CremiLabels,
    from_cremi,
    to_cremi,
    write_cremi,
)
from cleftnet.volumes.description import Description, describe
from cleftnet.volumes.formats import NewArrays, locate
from cleftnet.volumes.hdf5 import Hdf5Store, open_hdf5_file
from cleftnet.volumes.layout import CLEFTS_NAME, DISTANCE_NAME, PROBABILITY_NAME, RAW_NAME, Layout
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
from cleftnet.volumes.slabs import Progress, WritableStore, copy_into
from cleftnet.volumes.summary import LabelStatistics, label_statistics
from cleftnet.volumes.volume import (
    BACKGROUND,
    CLEFT,
    INVALID,
    NOT_CLEFT,
    OUTSIDE,
    UNLABELLED,
    Array,
    Store,
    Volume,
    classes,
    intensity,
    is_cleft,
    is_labelled,
)

__all__ = [
    "BACKGROUND",
    "CHUNK_VOX",
    "CLEFT",
    "CLEFTS_NAME",
    "CLEFT_ZERO",
    "CREMI_BACKGROUND",
    "DISTANCE_NAME",
    "FILE_FORMAT",
    "INVALID",
    "LABELS",
    "NOT_CLEFT",
    "OUTSIDE",
    "PREDICTION",
    "PROBABILITY_NAME",
    "RAW",
    "RAW_NAME",
    "UNLABELLED",
    "Address",
    "Array",
    "CremiLabels",
    "Description",
    "Hdf5Store",
    "LabelStatistics",
    "Layout",
    "NewArrays",
    "Placement",
    "Progress",
    "Store",
    "Volume",
    "WritableStore",
    "WritableVolume",
    "as_volume",
    "classes",
    "convert",
    "copy_into",
    "create_volumes",
    "describe",
    "expand",
    "from_cremi",
    "intensity",
    "is_cleft",
    "is_labelled",
    "is_remote",
    "label_statistics",
    "list_arrays",
    "locate",
    "open_hdf5_file",
    "open_volume",
    "open_writable",
    "place",
    "read_lengths",
    "remove_remote",
    "to_cremi",
    "write_cremi",
    "write_volume",
]
