"""How a new array shall lie on disk, where its format leaves a choice."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cleftnet.errors import InputError
from cleftnet.geometry import IntZYX

# Names of the arrays in files that we write, the same in every format that has names.
RAW_NAME = "volumes/raw"
CLEFTS_NAME = "volumes/labels/clefts"
PROBABILITY_NAME = "volumes/probability"
DISTANCE_NAME = "volumes/distance"
NAMES = (RAW_NAME, CLEFTS_NAME, PROBABILITY_NAME, DISTANCE_NAME)


@dataclass(frozen=True)
class Layout:
    """What is asked for; None and False leave it to the format.

    Args:
        chunk: Sides of a chunk in voxels, z y x.
        pyramid: Whether to add lower resolutions, for viewers.
        zarr: The version of Zarr, and with it of OME-Zarr: 2 (NGFF 0.4) or 3 (NGFF 0.5).
    """

    chunk: IntZYX | None = None
    pyramid: bool = False
    zarr: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and not all(side > 0 for side in self.chunk):
            raise InputError(f"chunk {self.chunk} must have three positive sides z,y,x in voxels, such as 16,128,128")
        if self.zarr not in (None, 2, 3):
            raise InputError(f"there is no version {self.zarr} of Zarr to write; choose 2 or 3")

    def sides(self, shape: tuple[int, ...], default: IntZYX) -> IntZYX:
        """Return the sides of a chunk of an array, none larger than the array.

        Example:
            >>> Layout(chunk=(4, 64, 64)).sides((20, 30, 100), default=(16, 128, 128))
            (4, 30, 64)
        """
        z, y, x = (max(1, min(n, side)) for n, side in zip(shape, self.chunk or default, strict=True))
        return z, y, x

    def chosen(self) -> list[str]:
        """Return the names of what is asked for.

        Example:
            >>> Layout(pyramid=True).chosen()
            ['pyramid']
        """
        return [field.name for field in fields(self) if getattr(self, field.name) not in (None, False)]
