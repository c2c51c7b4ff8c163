"""From a prediction of any size to its synapses: a mask of ids and a table, block by block, resumed where it stopped."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from cleftnet.blockwise import BlockGrid, ExecutionSettings, Journal, NewArray, Task, map_blocks, unfinished
from cleftnet.errors import InputError, nearest
from cleftnet.files import refuse_existing
from cleftnet.geometry import Box, IntZYX
from cleftnet.metrics.predictions import choose_threshold, kind_of
from cleftnet.synapses.annotations import write_annotations
from cleftnet.synapses.blocks import Labelling, Measuring, Painting
from cleftnet.synapses.contacts import Surroundings, Touching, partners, save_planes
from cleftnet.synapses.merging import SynapseSums, merge
from cleftnet.synapses.rules import SynapseSettings, check_seeds
from cleftnet.synapses.segmentation import Segmenter, as_stored
from cleftnet.synapses.table import SynapseTable, tabulate
from cleftnet.synapses.writing import TABLE_FORMATS, check_table_format, write_table
from cleftnet.volumes import CHUNK_VOX, LABELS, PREDICTION, Address, Volume, as_volume, open_volume

BLOCK: IntZYX = (64, 512, 512)  # about 0.5 GB in memory where all of it is cleft
LABEL_FORMATS = ("zarr", "hdf")
ANNOTATIONS = "annotations"


@dataclass(frozen=True)
class Synapses:
    """The synapses of a prediction.

    Attributes:
        labels: Their ids, uint64, background 0, opened lazily.
        table: One row a synapse.
        threshold: Voxels of at least this probability were taken; None for a mask or labels.
        labels_path: Where the labels lie.
        table_path: Where the table lies.
    """

    labels: Volume
    table: SynapseTable
    threshold: float | None
    labels_path: str
    table_path: str

    def summary(self) -> dict[str, JsonValue]:
        """Return what `cleftnet synapses --json` prints; medians are None where there is no synapse."""
        columns = ("volume_nm3", "area_nm2", "extent_nm", "score")
        medians = {
            f"median_{name}": float(np.median(self.table[name])) if len(self.table) else None for name in columns
        }
        return {
            "synapses": len(self.table),
            "touching_border": int(self.table["touches_border"].sum()),
            "threshold": self.threshold,
            **medians,
            "labels": self.labels_path,
            "table": self.table_path,
        }


def find_synapses(
    prediction: Volume | Address,
    out: str | Path,
    *,
    settings: SynapseSettings = SynapseSettings(),  # noqa: B008 - it is frozen
    formats: Sequence[str] = (),
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - so is this
    overwrite: bool = False,
) -> Synapses:
    """Find the synapses of a prediction: connected components of its mask (26 neighbours), whatever the size of the volume.

    A folder gets `labels.zarr` and `synapses.csv`. Ids are dense and follow the first voxels in z y x order, whatever the
    blocks and whoever did them. Until all is done, `labels.zarr.unfinished` and `parts.unfinished` lie beside them: after a
    crash or an interrupt the same call does only what is missing.

    Args:
        prediction: A volume or its address: probability (uint8 0 to 255, float 0 to 1), mask (bool) or cleft ids, of which only
            cleft or not is taken.
        out: The folder, made if it is not there.
        settings: What counts as a synapse.
        formats: "zarr" or "hdf" for the labels, "csv" or "parquet" for the table (zarr and csv, where none is named), and
            "annotations" for a folder of that name that neuroglancer shows.
        execution: The size of the blocks, and who does them.
        overwrite: Whether results already there may be replaced, and others begun there forgotten.

    Raises:
        InputError: when the prediction has no voxel size or cannot be read, an output exists, or others were begun there.
        UnfinishedError: when blocks failed or the workers were lost, and it is not the input.

    Example:
        >>> import tempfile
        >>> probability = np.zeros((4, 32, 32), np.uint8)
        >>> probability[1:3, 4:6, 4:20] = 200
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = find_synapses(Volume(probability, (40, 4, 4)), folder)
        ...     len(found.table), found.table["volume_nm3"].tolist(), int(found.labels.read().max())
        (1, [40960.0], 1)
    """
    volume = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    outputs, parts = _Outputs.of(Path(out), formats), Path(out, "parts.unfinished")
    refuse_existing(outputs.labels, overwrite)
    for path in outputs.last:
        refuse_existing(path, overwrite or parts.exists())  # a run that broke off may have come this far
    job = _Job.of(volume, settings)
    task = Task(settings=job.settings, block=execution.block or BLOCK)
    with Journal(parts, task, anew=overwrite) as measured:
        grid = BlockGrid(volume.box, measured.block, CHUNK_VOX, job.labelling.reads)
        found = job.measure(parts, grid, measured, execution)
        table = tabulate(found, volume, settings.score)
        begun: dict[str, JsonValue] = {**job.settings, "block": list(grid.step)}
        array = NewArray(LABELS[0], np.uint64)
        with unfinished(outputs.labels, [array], volume, Task(settings=begun, block=grid.step), overwrite) as output:
            work = Painting(job.labelling, parts.absolute(), output.arrays[array.name])
            map_blocks(work, grid, output.journal, execution, what="painting")
            if job.around is not None:
                table = job.meet(table, output.arrays[array.name].volume, parts / "contacts", grid.step, execution)
            write_table(table, outputs.table, overwrite=True)
            if outputs.annotations is not None:
                write_annotations(table, volume, outputs.annotations, overwrite=True)
        shutil.rmtree(parts)
    labels = open_volume(outputs.labels, default=LABELS)
    return Synapses(labels, table, job.threshold, str(outputs.labels), str(outputs.table))


@dataclass(frozen=True)
class _Job:
    """A search made ready.

    Attributes:
        labelling: Of the prediction.
        threshold: Of the probability; None for a mask or labels.
        min_voxels: Of a synapse.
        seed: The probability that a synapse must reach somewhere.
        around: The neurons, where they are given.
        settings: What a later run must have in common to go on with this one.
    """

    labelling: Labelling
    threshold: float | None
    min_voxels: float
    seed: float
    around: Surroundings | None
    settings: dict[str, JsonValue]

    @classmethod
    def of(cls, volume: Volume, settings: SynapseSettings) -> _Job:
        size_nm = volume.voxel_size_nm
        meant = kind_of(volume, settings.kind)
        threshold = choose_threshold(volume, meant, settings.threshold)
        seed = settings.seed_threshold or 0.0
        if seed and threshold is None:
            raise InputError(f"{volume.address} is a {meant.value} volume, which takes no seed threshold; leave it out")
        if threshold is not None:
            check_seeds(threshold, settings.seed_threshold)  # the stored threshold may lie above that of the seeds
        task: dict[str, JsonValue] = {
            "prediction": volume.identity(),
            "shape": list(volume.shape),
            "voxel size": list(size_nm),
            **settings.model_dump(mode="json"),
            "kind": meant.value,
            "threshold": threshold,
        }
        around = None
        if settings.segmentation is not None:
            around = Surroundings.of(as_volume(settings.segmentation), settings.reach_nm, volume)
            task |= {"segmentation": around.segmentation.identity(), "reach nm": around.reach_nm}
        min_voxels = (
            settings.min_size_nm3 / float(np.prod(size_nm)) * (1 - 1e-9)
        )  # whole voxels times nm³ round either way
        seed = as_stored(seed, volume.dtype)
        segmenter = Segmenter.of(settings, meant, threshold, size_nm)
        return cls(Labelling(volume, segmenter), threshold, min_voxels, seed, around, task)

    def measure(self, folder: Path, grid: BlockGrid, journal: Journal, execution: ExecutionSettings) -> SynapseSums:
        """Measure every block and join what they found."""
        size_nm = self.labelling.prediction.voxel_size_nm
        work = Measuring(self.labelling, size_nm, self.min_voxels, self.seed, folder.absolute())
        map_blocks(work, grid, journal, execution, what="finding synapses")
        return merge(folder, grid, self.min_voxels, self.seed)

    def meet(
        self, table: SynapseTable, labels: Volume, folder: Path, block: IntZYX, execution: ExecutionSettings
    ) -> SynapseTable:
        """Count the contacts of every block and add the partners to the table."""
        assert self.around is not None
        task = Task(settings=self.settings, block=block)
        with Journal(folder, task, anew=True) as journal:  # the other journals have settled what is being done
            grid = BlockGrid(labels.box, journal.block, reads=functools.partial(Box.grow, by=self.around.halo))
            save_planes(table, folder / "planes.npy")
            work = Touching(labels, self.around, (folder / "planes.npy").absolute(), folder.absolute())
            map_blocks(work, grid, journal, execution, what="finding partners")
            return partners(folder, grid, table)


@dataclass(frozen=True)
class _Outputs:
    """Where the results go; annotations are None where they are not asked for."""

    labels: Path
    table: Path
    annotations: Path | None

    @classmethod
    def of(cls, folder: Path, formats: Sequence[str]) -> _Outputs:
        labels, table = LABEL_FORMATS[0], "csv"
        for name in formats:
            if name in LABEL_FORMATS:
                labels = name
            elif name in TABLE_FORMATS:
                check_table_format(name)
                table = name
            elif name != ANNOTATIONS:
                raise InputError(
                    f"'{name}' is no format; {nearest(name, [*LABEL_FORMATS, *TABLE_FORMATS, ANNOTATIONS])}"
                )
        annotations = folder / ANNOTATIONS if ANNOTATIONS in formats else None
        return cls(folder / f"labels.{labels}", folder / f"synapses.{table}", annotations)

    @property
    def last(self) -> list[Path]:
        """Those that are written when all blocks are done."""
        return [path for path in (self.table, self.annotations) if path is not None]
