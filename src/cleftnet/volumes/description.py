"""What stands behind an address, told to people: geometry, and for labels what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Address
from cleftnet.volumes.chunked.storage import is_remote
from cleftnet.volumes.formats import locate
from cleftnet.volumes.opening import list_arrays, open_volume
from cleftnet.volumes.summary import LabelStatistics, label_statistics
from cleftnet.volumes.volume import Volume, holds_labels


@dataclass(frozen=True)
class Description:
    """One array: its volume, and the statistics of its labels where it holds some."""

    volume: Volume
    labels: LabelStatistics | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; lengths in nm, sizes z y x; what is unknown or does not apply is None."""
        volume, labels = self.volume, self.labels
        return {
            "address": volume.address,
            "shape": list(volume.shape),
            "dtype": str(volume.dtype),
            "voxel_size_nm": volume.voxel_size and list(volume.voxel_size),
            "offset_nm": list(volume.offset_nm),
            "threshold": volume.threshold,
            "clefts": labels and labels.clefts,
            "cleft_voxels": labels and labels.cleft_voxels,
            "cleft_share": labels and labels.cleft_share,
            "unlabelled_voxels": labels and labels.unlabelled_voxels,
            "cleft_size_vox_min_median_max": labels and labels.size_vox and list(labels.size_vox),
            "cleft_size_nm3_min_median_max": labels and labels.size_nm3 and list(labels.size_nm3),
        }


def describe(address: Address, *, voxel_size_nm: FloatZYX | None = None) -> list[Description]:
    """Describe every array behind an address.

    Integer arrays of at least four bytes a voxel, and those whose name says labels, are taken for labels and
    counted slab by slab, except where they are not on this machine.

    Args:
        address: A file, or an array in it.
        voxel_size_nm: Voxel size z y x, for formats that carry none.

    Raises:
        InputError: when there is no such file, format or array.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from cleftnet.volumes.opening import write_volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_volume(Volume(np.ones((4, 5, 6), np.uint8), (40, 4, 4)), f"{folder}/a.hdf")
        ...     [found.to_json()["shape"] for found in describe(f"{folder}/a.hdf")]
        [[4, 5, 6]]
    """
    found = []
    for name in list_arrays(address):
        volume = open_volume(name, voxel_size_nm=voxel_size_nm)
        here = not is_remote(locate(name)[1].path)  # nobody means to fetch all of a remote volume
        counted = here and holds_labels(volume.dtype, name)
        found.append(Description(volume, label_statistics(volume) if counted else None))
    return found
