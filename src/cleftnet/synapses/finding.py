"""Finds the synapses of a prediction of any size: a volume of ids and a table, block by block, resumed after a crash."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import JsonValue

from cleftnet.blockwise import BlockGrid, ExecutionSettings, Journal, Task, Work, map_blocks, unfinished
from cleftnet.errors import InputError, nearest
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.metrics.predictions import choose_threshold, kind_of
from cleftnet.progress import track
from cleftnet.synapses.block_arrays import BlockArrays, FolderArrays, MemoryArrays
from cleftnet.synapses.blocks import BlockLabeler, Ids, LabelWriter, PartMeasurer, Surroundings
from cleftnet.synapses.contacts import ContactCounter, PlacedSegmentation, planes_of, with_partners
from cleftnet.synapses.exports import EXPORTS, Export, find_export
from cleftnet.synapses.judging import RAW_ADDRESS, judged, scored
from cleftnet.synapses.merging import join
from cleftnet.synapses.rules import STORED, SynapseSettings, UsedPoint
from cleftnet.synapses.segmentation import Segmenter, as_stored
from cleftnet.synapses.table import TABLE_FORMATS, check_table_format, keep_rows, tabulate, write_table
from cleftnet.volumes import (
    CHUNK_VOX,
    LABELS,
    PREDICTION,
    Address,
    Array,
    ArraySpec,
    Volume,
    as_volume,
    open_volume,
    sampled_checksums,
)

log = logging.getLogger(__name__)

BLOCK: IntZYX = (64, 512, 512)  # about 0.5 GB in memory where all of it is cleft
LABEL_FORMATS = ("zarr", "hdf")
FOUND_IN = "prediction"  # key of the prediction's address in the provenance of labels


@dataclass(frozen=True, eq=False)
class Synapses:
    """The synapses of a prediction.

    Attributes:
        table: One row for each synapse, with the columns of `COLUMNS` and, where neurons were given, of `PARTNERS`; unrounded.
        labels: Ids of the synapses, uint64, background 0; read lazily where they are in a file.
        threshold: Voxels of at least this probability are cleft; None for a mask or labels.
        used: The operating point that was used, and where it comes from.
        labels_path: File or folder of the labels; None in memory.
        table_path: File of the table; None in memory.
    """

    table: pd.DataFrame
    labels: Volume
    threshold: float | None
    used: UsedPoint
    labels_path: str | None = None
    table_path: str | None = None

    def summary(self) -> dict[str, JsonValue]:
        """Return the number of synapses, how they were found, medians of the table (None without synapses), and paths."""
        columns = ("volume_nm3", "area_nm2", "extent_nm", "score")
        medians = {
            f"median_{name}": float(np.median(self.table[name])) if len(self.table) else None for name in columns
        }
        paths = {"labels": self.labels_path, "table": self.table_path}
        return {
            "synapses": len(self.table),
            "touching_border": int(self.table["touches_border"].sum()),
            "operating_point": self.used.origin,
            **dict(self.used.point.rows()),
            "threshold": self.threshold,
            "classifier_features": len(self.used.point.classifiers[0].features)
            if self.used.point.classifiers
            else None,
            **medians,
            **{name: path for name, path in paths.items() if path is not None},
        }


def find_synapses(
    prediction: Volume | Address | Array,
    out: str | Path | None = None,
    *,
    voxel_size_nm: FloatZYX | None = None,
    settings: SynapseSettings = SynapseSettings(),  # noqa: B008 - it is frozen
    formats: Sequence[str] = (),
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - so is this
    overwrite: bool = False,
) -> Synapses:
    """Find the synapses of a prediction: the 26-connected components of its mask, for volumes of any size.

    Ids are dense and follow the first voxels in z y x order; blocks and workers do not change them. Without `out` the labels
    are made in memory and nothing is written. With `out` that folder gets `labels.zarr` and `synapses.csv`. Until they are
    complete, `labels.zarr.unfinished` and `parts.unfinished` lie beside them: after a crash or an interrupt the same call
    computes only what is missing.

    Args:
        prediction: A volume, its address, or a NumPy array z y x: probability (uint8 0 to 255, float 0 to 1), mask (bool) or
            cleft ids, of which only cleft or not is used.
        out: Folder for the results, made if it does not exist; None keeps them in memory.
        voxel_size_nm: Voxel size, z y x, of a prediction that carries none, such as an array.
        settings: What counts as a synapse, and which neurons are looked for at each.
        formats: "zarr" or "hdf" for the labels, "csv" or "parquet" for the table; by default zarr and csv. Others add
            the table for other programs: "annotations" (neuroglancer), "cave" or "cave:40,4,4" (CAVE, with positions in voxels
            of that size z y x) and "catmaid" (connectors).
        execution: The size of the blocks, and which processes compute them.
        overwrite: Whether results that exist are replaced, and other results begun in `out` discarded.

    Raises:
        InputError: when the prediction has no voxel size or cannot be read, an output exists, or other results were begun in
            `out`.
        UnfinishedError: when blocks failed or the workers were lost, and the input is not the cause.

    Example:
        >>> probability = np.zeros((4, 64, 64), np.uint8)
        >>> probability[1:3, 4:24, 4:44] = 200
        >>> found = find_synapses(probability, voxel_size_nm=(40, 4, 4))
        >>> len(found.table), found.table["volume_nm3"].tolist(), int(found.labels.read().max())
        (1, [1024000.0], 1)
    """
    outputs = None if out is None else _Outputs.of(Path(out), formats, overwrite)
    search = _Search.of(as_volume(prediction, voxel_size_nm=voxel_size_nm, default=PREDICTION), settings)
    if outputs is not None:
        return search.on_disk(outputs, execution, overwrite)
    if formats:
        raise InputError(f"formats={list(formats)} need a folder to write to; give out=..., or leave them out")
    if execution.workers or execution.scheduler:
        raise InputError(
            "workers=... and scheduler=... need a folder for their results; give out=..., or leave them out"
        )
    return search.in_memory(execution.block or BLOCK)


@dataclass(frozen=True)
class _Search:
    """The passes over a prediction, with everything that decides their results.

    Attributes:
        labeler: Numbers the parts of blocks.
        used: What counts as a synapse.
        threshold: Threshold of a probability; None for a mask or labels.
        around: What is measured of the surroundings of components; None where no classifier asks for it.
        min_voxels: Synapses of fewer voxels are left out.
        seed: Synapses that reach this probability nowhere are left out.
        neurons: The neurons; None where they are not looked for.
    """

    labeler: BlockLabeler
    used: UsedPoint
    threshold: float | None
    around: Surroundings | None
    min_voxels: float
    seed: float
    neurons: PlacedSegmentation | None

    @classmethod
    def of(cls, volume: Volume, settings: SynapseSettings) -> _Search:
        size_nm = volume.voxel_size_nm
        kind = kind_of(volume, settings.kind)
        threshold = choose_threshold(volume, kind, settings.threshold)
        if settings.seed_threshold and threshold is None:
            raise InputError(f"{volume.address} is a {kind.value} volume, which takes no seed_threshold; leave it out")
        used = UsedPoint.of(volume, kind, settings)
        used, around = judged(used, volume, settings.raw)
        neurons = None
        if settings.segmentation is not None:
            neurons = PlacedSegmentation.of(as_volume(settings.segmentation), settings.reach_nm, volume)
        log.info(f"operating point: {used.origin} ({used.point.describe()})")
        point = used.point
        threshold = None if threshold is None else point.threshold
        voxels = point.min_size_nm3 / float(np.prod(size_nm)) * (1 - 1e-9)  # whole voxels times nm³ round either way
        labeler = BlockLabeler(volume, Segmenter.of(point, kind, threshold, size_nm))
        return cls(labeler, used, threshold, around, voxels, as_stored(point.seed_threshold, volume.dtype), neurons)

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What a later call must have in common to go on with this one."""
        volume, segmenter = self.volume, self.labeler.segmenter
        decisive: dict[str, JsonValue] = {
            "prediction": volume.identity(),
            "shape": list(volume.shape),
            "voxel size": list(volume.voxel_size_nm),
            **self.used.point.model_dump(mode="json"),
            "kind": segmenter.kind.value,
            "threshold": self.threshold,
        }
        if self.around is not None and self.around.raw is not None:
            decisive |= {"raw": self.around.raw.raw.identity()}
        if self.neurons is not None:
            decisive |= {"segmentation": self.neurons.segmentation.identity(), "reach nm": self.neurons.reach_nm}
        return decisive

    def provenance(self) -> dict[str, JsonValue]:
        """Return what the attributes of the labels say: how they were found, and the addresses of prediction and raw."""
        raw: JsonValue = self.volume.provenance.get(RAW_ADDRESS)
        if self.around is not None and self.around.raw is not None and self.around.raw.raw.source is not None:
            raw = self.around.raw.raw.source
        known: dict[str, JsonValue] = {FOUND_IN: self.volume.source, RAW_ADDRESS: raw}
        return {
            STORED: self.used.point.model_dump(mode="json"),
            "kind": self.labeler.segmenter.kind.value,
            **{name: address for name, address in known.items() if address is not None},
        }

    def inputs(self) -> dict[str, tuple[int | None, ...]]:
        """Return checksums of a sample of voxels, which tell whether the inputs have changed at their addresses."""
        inputs = {"prediction": sampled_checksums(self.volume)}
        if self.around is not None and self.around.raw is not None:
            inputs["raw"] = sampled_checksums(self.around.raw.raw)
        if self.neurons is not None:
            inputs["segmentation"] = sampled_checksums(self.neurons.segmentation)
        return inputs

    @property
    def volume(self) -> Volume:
        """The prediction."""
        return self.labeler.prediction

    def in_memory(self, block: IntZYX) -> Synapses:
        """Find the synapses block by block, as on disk, and write nothing."""
        volume, arrays, target = self.volume, MemoryArrays(), _MemoryTarget(np.zeros(self.volume.shape, np.uint64))
        labels = Volume(target.ids, volume.voxel_size, volume.offset_nm, "synapses in memory")
        measurer = self.measurer(arrays)
        grid = self.grid(block)
        _run(measurer, self.grid(block, measurer), MEASURING)
        table = self.table(arrays, grid)
        _run(LabelWriter(self.labeler, arrays, target), grid, WRITING)
        if self.neurons is not None:
            grid = self.contact_grid(grid.step, self.neurons)
            _run(ContactCounter(labels, self.neurons, planes_of(table), arrays), grid, COUNTING)
            table = with_partners(table, arrays, grid)
        return Synapses(table, labels, self.threshold, self.used)

    def on_disk(self, outputs: _Outputs, execution: ExecutionSettings, overwrite: bool) -> Synapses:
        """Find the synapses block by block, and write labels and table."""
        volume, arrays = self.volume, FolderArrays(outputs.parts.absolute())
        inputs, accept = self.inputs(), execution.accept_changed_input
        task = Task(settings=self.identity, block=execution.block or BLOCK, inputs=inputs)
        with Journal(outputs.parts, task, overwrite, accept) as measured:
            grid, work = self.grid(measured.block), self.measurer(arrays)
            map_blocks(work, self.grid(measured.block, work), measured, execution, what=MEASURING)
            table = self.table(arrays, grid)
            written = Task(settings={**self.identity, "block": list(grid.step)}, block=grid.step, inputs=inputs)
            array = replace(ArraySpec.like(volume, LABELS[0], np.uint64), provenance=self.provenance())
            with unfinished(outputs.labels, [array], written, overwrite, accept) as output:
                target = output.arrays[array.name]
                map_blocks(LabelWriter(self.labeler, arrays, target), grid, output.journal, execution, what=WRITING)
                if self.neurons is not None:
                    table = self._partners_on_disk(
                        table, target.volume, outputs.parts / "contacts", grid.step, execution
                    )
                write_table(table, outputs.table, overwrite=True)
                for export in outputs.exports:
                    export.write(table, volume, outputs.folder, overwrite=True)
            shutil.rmtree(outputs.parts)
        labels = open_volume(outputs.labels, default=LABELS)
        return Synapses(table, labels, self.threshold, self.used, str(outputs.labels), str(outputs.table))

    def _partners_on_disk(
        self, table: pd.DataFrame, labels: Volume, folder: Path, block: IntZYX, execution: ExecutionSettings
    ) -> pd.DataFrame:
        """Count the contacts of every block and add the partners to the table."""
        assert self.neurons is not None
        task = Task(settings=self.identity, block=block)
        with Journal(folder, task, anew=True) as journal:  # the other journals have checked the task
            grid = self.contact_grid(journal.block, self.neurons)
            arrays, planes = FolderArrays(folder.absolute()), folder.absolute() / "planes.npy"
            with replacing(planes, overwrite=True) as temporary, temporary.open("wb") as file:
                np.save(file, planes_of(table))
            map_blocks(ContactCounter(labels, self.neurons, planes, arrays), grid, journal, execution, what=COUNTING)
            return with_partners(table, arrays, grid)

    def grid(self, block: IntZYX, reader: BlockLabeler | PartMeasurer | None = None) -> BlockGrid:
        """Return the blocks of the prediction; the reader decides how far beyond a block is read."""
        return BlockGrid(self.volume.box, block, CHUNK_VOX, (reader or self.labeler).reads)

    def measurer(self, arrays: BlockArrays) -> PartMeasurer:
        """Return the first pass."""
        return PartMeasurer(self.labeler, self.volume.voxel_size_nm, self.min_voxels, self.seed, arrays, self.around)

    def table(self, arrays: BlockArrays, grid: BlockGrid) -> pd.DataFrame:
        """Join the parts of all blocks, score them, keep those with a high enough score, and return their table."""
        joined = join(arrays, grid, self.min_voxels, self.seed)
        table = scored(joined.sums, tabulate(joined.sums, self.volume), self.used.point, self.volume.voxel_size_nm)
        kept = table["score"].to_numpy() >= self.used.point.min_score
        joined.number(arrays, grid, kept)
        if not kept.any() and self.used.point.seed_threshold:
            log.info(
                f"no synapse was found, and each must have a voxel of at least {self.used.point.seed_threshold:g}; where the "
                f"tissue is unlike that of the training, try a lower seed_threshold, or 0 for none"
            )
        return keep_rows(table, kept)

    def contact_grid(self, block: IntZYX, neurons: PlacedSegmentation) -> BlockGrid:
        """Return the blocks in which contacts are counted."""
        return BlockGrid(self.volume.box, block, reads=functools.partial(Box.grow, by=neurons.halo))


MEASURING, WRITING, COUNTING = "finding synapses", "writing labels", "finding partners"


@dataclass(frozen=True)
class _MemoryTarget:
    """Labels in memory that are written box by box."""

    ids: Ids

    def __setitem__(self, box: Box, values: Ids, /) -> None:
        self.ids[box.slices] = values


def _run(work: Work, grid: BlockGrid, what: str) -> None:
    """Do the work on every block in turn."""
    for block in track(grid, what, len(grid)):
        work.write(block, work.compute(block, work.read(block), lambda share: None))


@dataclass(frozen=True)
class _Outputs:
    """Where the results go, and the forms of the table for other programs."""

    folder: Path
    labels: Path
    table: Path
    exports: tuple[Export, ...]
    parts: Path

    @classmethod
    def of(cls, folder: Path, formats: Sequence[str], overwrite: bool) -> _Outputs:
        """Choose the paths.

        Raises:
            InputError: when there is no such format, or an output exists that may not be replaced.
        """
        labels, table = LABEL_FORMATS[0], "csv"
        exports: list[Export] = []
        for name in formats:
            if name in LABEL_FORMATS:
                labels = name
            elif name in TABLE_FORMATS:
                check_table_format(name)
                table = name
            elif (export := find_export(name)) is not None:
                exports.append(export)
            else:
                raise InputError(f"'{name}' is no format; {nearest(name, [*LABEL_FORMATS, *TABLE_FORMATS, *EXPORTS])}")
        paths = (folder / f"labels.{labels}", folder / f"synapses.{table}")
        outputs = cls(folder, *paths, tuple(exports), folder / "parts.unfinished")
        refuse_existing(outputs.labels, overwrite)
        for path in (outputs.table, *(folder / name for export in exports for name in export.files)):
            refuse_existing(path, overwrite or outputs.parts.exists())  # an interrupted call may have written these
        return outputs
