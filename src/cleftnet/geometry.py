"""Boxes of voxels, the tiles and slabs that cover them, and conversion between nm and voxels; no arrays.

Axes are always z y x. Lengths carry their unit in their name (`_vox`, `_nm`). A `Box` is half open, as Python slices are.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cleftnet.errors import InputError

IntZYX = tuple[int, int, int]
FloatZYX = tuple[float, float, float]

# Share of a patch that neighboring tiles have in common; the paper's is 0, which is faster and worse (docs/results.md).
OVERLAP = 0.5

# Sides of a chunk of the HDF5 files that we write; slabs end at multiples of them.
SLAB_CHUNK_VOX: IntZYX = (8, 128, 128)


def _int_zyx(values: Sequence[int]) -> IntZYX:
    z, y, x = (int(v) for v in values)
    return z, y, x


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of voxels, `start` inclusive and `stop` exclusive, axes z y x.

    Example:
        >>> box = Box((0, 768, 0), (20, 1024, 768))
        >>> box.shape, str(box)
        ((20, 256, 768), '0:20,768:1024,0:768')
    """

    start: IntZYX
    stop: IntZYX

    @classmethod
    def of(cls, shape: Sequence[int]) -> Box:
        """Return the box from the origin that has this shape."""
        return cls((0, 0, 0), _int_zyx(shape))

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> Box:
        """Return the box of this shape that begins at `start`."""
        z, y, x = start
        d, h, w = shape
        return cls((z, y, x), (z + d, y + h, x + w))

    @classmethod
    def parse(cls, text: str) -> Box:
        """Parse a box written as `z0:z1,y0:y1,x0:x1`, in voxels.

        Raises:
            InputError: when the text is not three ascending ranges.

        Example:
            >>> Box.parse("0:20,768:1024,0:768").start
            (0, 768, 0)
        """
        try:
            (z0, z1), (y0, y1), (x0, x1) = ((int(n) for n in part.split(":")) for part in text.split(","))
        except ValueError:
            raise InputError(f"region '{text}' is not z0:z1,y0:y1,x0:x1 in voxels; try 0:20,768:1024,0:768") from None
        box = cls((z0, y0, x0), (z1, y1, x1))
        if box.empty:
            raise InputError(f"region '{text}' is empty: every range must ascend, as in 0:20,768:1024,0:768")
        return box

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, never negative."""
        return _int_zyx([max(0, b - a) for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def voxels(self) -> int:
        """The number of voxels in the box."""
        return math.prod(self.shape)

    @property
    def empty(self) -> bool:
        """Whether the box holds no voxel."""
        return self.voxels == 0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an array index."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def shift(self, by: Sequence[int]) -> Box:
        """Return the box moved by `by` voxels."""
        return Box.at([a + d for a, d in zip(self.start, by, strict=True)], self.shape)

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the box in coordinates that begin at `origin`."""
        return self.shift([-o for o in origin])

    def intersect(self, other: Box) -> Box:
        """Return the common part, which may be empty."""
        return Box(
            _int_zyx([max(a, b) for a, b in zip(self.start, other.start, strict=True)]),
            _int_zyx([min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]),
        )

    def hull(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            _int_zyx([min(a, b) for a, b in zip(self.start, other.start, strict=True)]),
            _int_zyx([max(a, b) for a, b in zip(self.stop, other.stop, strict=True)]),
        )

    def grow(self, by: Sequence[int]) -> Box:
        """Return the box with `by` voxels more on both sides of each axis."""
        return Box(
            _int_zyx([a - g for a, g in zip(self.start, by, strict=True)]),
            _int_zyx([b + g for b, g in zip(self.stop, by, strict=True)]),
        )

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of `other` lies in this box."""
        return self.intersect(other) == other


@dataclass(frozen=True)
class Block:
    """One piece of work: the box that it reads, and the part of it that no other block writes."""

    read: Box
    write: Box


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles along one axis begin: in regular steps, the last one shifted inwards to end at the border."""
    step = tile - overlap
    return [*range(0, length - tile, step), length - tile]


def write_edges(starts: Sequence[int], tile: int, length: int) -> list[int]:
    """Return where tiles along one axis begin to write, and the end; neighbors meet in the middle of their overlap.

    Args:
        starts: First voxel of each tile, ascending, the first 0.
        tile: Length of every tile.
        length: Length of the axis.

    Example:
        >>> write_edges([0, 8, 12], 8, 20)
        [0, 8, 14, 20]
    """
    return [0, *((b + a + tile) // 2 for a, b in itertools.pairwise(starts)), length]


@dataclass(frozen=True)
class TileGrid:
    """A region covered with tiles of one shape, which may overlap; their write boxes cover every voxel exactly once.

    Tiles step by `shape - overlap`; the last one on each axis is shifted inwards so that it ends at the border
    (docs/method.md, "Data"). Where tiles overlap, each writes up to the middle of the overlap, so that every voxel is written
    by the tile that reads more of its surroundings.

    Args:
        box: The region to cover, voxels z y x.
        shape: The tile's sides in voxels; none may be larger than the region.
        overlap: The least number of voxels that neighboring tiles share, each below the tile's side.

    Raises:
        InputError: when a tile is larger than the region or an overlap is not below the tile's side.

    Example:
        >>> tiles = TileGrid(Box.of((20, 4, 4)), (8, 4, 4))
        >>> [str(tile.write) for tile in tiles.touching(Box((8, 0, 0), (12, 4, 4)))]
        ['8:14,0:4,0:4']
        >>> str(tiles.reads(Box((8, 0, 0), (14, 4, 4))))
        '8:20,0:4,0:4'
    """

    box: Box
    shape: IntZYX
    overlap: IntZYX = (0, 0, 0)

    def __post_init__(self) -> None:
        if any(t > n for t, n in zip(self.shape, self.box.shape, strict=True)):
            raise InputError(
                f"patch {'×'.join(map(str, self.shape))} is larger than the region {'×'.join(map(str, self.box.shape))} "
                f"(z×y×x voxels); use a larger region, or a model trained with a smaller patch"
            )
        if any(not 0 <= o < t for o, t in zip(self.overlap, self.shape, strict=True)):
            raise InputError(f"overlap {self.overlap} must lie between 0 and the patch {self.shape} on every axis")

    @functools.cached_property
    def starts(self) -> tuple[list[int], list[int], list[int]]:
        """The first voxels of the tiles, axis by axis, counted from the first voxel of the region."""
        z, y, x = map(_starts, self.box.shape, self.shape, self.overlap)
        return z, y, x

    @functools.cached_property
    def _edges(self) -> list[list[int]]:
        return list(map(write_edges, self.starts, self.shape, self.box.shape))

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    def __iter__(self) -> Iterator[Block]:
        return self.touching(self.box)

    def touching(self, box: Box) -> Iterator[Block]:
        """Yield the tiles that read any voxel of a box inside the region, in z y x order."""
        for corner in itertools.product(*self._places(box)):
            starts, begins, ends = zip(*corner, strict=True)
            yield Block(
                Box.at(starts, self.shape).shift(self.box.start),
                Box(_int_zyx(begins), _int_zyx(ends)).shift(self.box.start),
            )

    def reads(self, box: Box) -> Box:
        """Return the smallest box around all tiles that read any voxel of a box."""
        places = self._places(box)
        start = [axis[0][0] for axis in places]
        stop = [axis[-1][0] + side for axis, side in zip(places, self.shape, strict=True)]
        return Box(_int_zyx(start), _int_zyx(stop)).shift(self.box.start)

    def counts(self, box: Box) -> IntZYX:
        """Return how many tiles read any voxel of a box, along each axis."""
        return _int_zyx(list(map(len, self._places(box))))

    def _places(self, box: Box) -> list[list[tuple[int, int, int]]]:
        """Return where each tile begins, begins to write and stops writing, axis by axis."""
        inside = box.relative_to(self.box.start)
        places = []
        for axis, (starts, edges) in enumerate(zip(self.starts, self._edges, strict=True)):
            first = bisect.bisect_right(starts, inside.start[axis] - self.shape[axis])
            last = bisect.bisect_left(starts, inside.stop[axis])
            places.append([(starts[n], edges[n], edges[n + 1]) for n in range(first, last)])
        return places


def tile(box: Box, shape: Sequence[int], overlap: Sequence[int] = (0, 0, 0)) -> Iterator[Block]:
    """Cover a box with tiles of one shape, see `TileGrid`; the write boxes cover every voxel exactly once.

    Raises:
        InputError: when a tile is larger than the box or an overlap is not below the tile's side.

    Example:
        >>> [str(b.write) for b in tile(Box.of((20, 4, 4)), (8, 4, 4))]
        ['0:8,0:4,0:4', '8:14,0:4,0:4', '14:20,0:4,0:4']
    """
    return iter(TileGrid(box, _int_zyx(shape), _int_zyx(overlap)))


def slabs(box: Box, max_voxels: int = 2**23, chunk: IntZYX = SLAB_CHUNK_VOX) -> Iterator[Box]:
    """Cut a box into slabs: whole slices, whole rows where slices are very large, or parts of rows where rows are.

    Slabs come in z y x order, cover every voxel exactly once and end at the borders of chunks, so that no chunk is read or
    written twice. One slab holds about `max_voxels` at most, but never less than one chunk.

    Args:
        box: The box to cover.
        max_voxels: How many voxels one slab may hold.
        chunk: Sides of a chunk in voxels, z y x; the first chunk begins where the box does.

    Example:
        >>> [str(slab) for slab in slabs(Box.of((20, 128, 64)), max_voxels=8 * 128 * 64)]
        ['0:8,0:128,0:64', '8:16,0:128,0:64', '16:20,0:128,0:64']
    """
    _, height, width = box.shape
    columns = max(1, max_voxels // (chunk[0] * chunk[1] * chunk[2])) * chunk[2]
    width = min(width, columns)
    depth = max(1, max_voxels // max(1, height * width * chunk[0])) * chunk[0]
    rows = max(1, max_voxels // max(1, depth * width * chunk[1])) * chunk[1]
    for z, y, x in itertools.product(*map(range, box.start, box.stop, (depth, rows, columns))):
        yield Box.at((z, y, x), (depth, rows, columns)).intersect(box)


def parse_region(text: str, voxel_size_nm: Sequence[float] | None, offset_nm: Sequence[float] = (0, 0, 0)) -> Box:
    """Parse a region, `z0:z1,y0:y1,x0:x1`, in voxels or, where a number ends in nm, in nm.

    Args:
        text: The region. Voxels count from the volume's first one; nm from the origin of the offset.
        voxel_size_nm: Voxel size of the volume, z y x; None where it is not known.
        offset_nm: Position of the volume's first voxel, z y x.

    Returns:
        The region in voxels; its ends are rounded to whole voxels.

    Raises:
        InputError: when the text is not three ascending ranges, or gives nm where no voxel size is known.

    Example:
        >>> str(parse_region("40nm:800nm,0:256,0nm:1000nm", (40, 4, 4)))
        '1:20,0:256,0:250'
    """
    if "nm" not in text:
        return Box.parse(text)
    if voxel_size_nm is None:
        raise InputError(
            f"region '{text}' is in nm, but the volume carries no voxel size; add voxel_size_nm=(40, 4, 4)"
        )
    ranges = []
    try:
        for part, size, offset in zip(text.split(","), voxel_size_nm, offset_nm, strict=True):
            low, high = (
                round((float(end.strip()[:-2]) - offset) / size) if end.strip().endswith("nm") else int(end)
                for end in part.split(":")
            )
            ranges.append(f"{low}:{high}")
    except (ValueError, OverflowError):
        raise InputError(
            f"region '{text}' is not z0:z1,y0:y1,x0:x1; try 0:20,768:1024,0:768 or 0nm:800nm,0nm:1000nm,0nm:1000nm"
        ) from None
    return Box.parse(",".join(ranges))


def nm_to_voxels(lengths_nm: Sequence[float], voxel_size_nm: Sequence[float]) -> IntZYX:
    """Convert nm to whole voxels along z y x.

    Raises:
        InputError: when a length is not a whole number of voxels, to a hundredth of a voxel.

    Example:
        >>> nm_to_voxels((1480, 3644, 3644), (40, 4, 4))
        (37, 911, 911)
    """
    exact = [n / v for n, v in zip(lengths_nm, voxel_size_nm, strict=True)]
    whole = [round(e) if math.isfinite(e) else 0 for e in exact]
    if any(abs(e - w) > 0.01 for e, w in zip(exact, whole, strict=True)):
        raise InputError(
            f"offset {tuple(lengths_nm)} nm is not a whole number of voxels of {tuple(voxel_size_nm)} nm (z y x); "
            f"resample one of the volumes onto the other's grid"
        )
    return _int_zyx(whole)
