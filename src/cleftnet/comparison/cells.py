"""A cell: one row trained with one seed, its scores and all that is needed to compare it, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.metrics.intervals import Territory
from cleftnet.metrics.pooling import PooledScores


class VoxelScores(PooledScores):
    """Scores over voxels at the cell's threshold, and the lowest CREMI score; None where undefined.

    Attributes:
        best_cremi_score: The lowest of a grid of thresholds, nm.
        best_cremi_threshold: Where.
    """

    best_cremi_score: float | None
    best_cremi_threshold: float | None


class SynapseScores(BaseModel):
    """Scores over whole synapses at the threshold and size with the highest F1 (`synapses.tune`), regions taken together.

    Attributes:
        threshold: Probability.
        min_size_nm3: Smaller synapses are left out.
        f1: Of synapses matched one to one.
        precision: The same.
        recall: The same.
        true: Synapses of the truth.
        predicted: Synapses found.
        matched: Of them.
        splits: True synapses in several pieces.
        merges: Found synapses over several true ones.
        average_precision: The mean over regions.
        voxel_f1: Over voxels of the synapses that are left, the mean over regions.
        cremi_score: The same, nm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    min_size_nm3: float
    f1: float | None
    precision: float | None
    recall: float | None
    true: int
    predicted: int
    matched: int
    splits: int
    merges: int
    average_precision: float | None
    voxel_f1: float | None
    cremi_score: float | None


class Effort(BaseModel):
    """What the training took.

    Attributes:
        parameters: Learned numbers; None of what is no network.
        steps: Optimizer steps; None of what has none.
        minutes: Of training, validations included.
        seconds_per_step: Of learning alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int | None
    steps: int | None
    minutes: float
    seconds_per_step: float | None


class Cell(BaseModel):
    """What one row with one seed came to.

    Attributes:
        row: The row's name.
        label: Its name in tables.
        seed: The seed.
        threshold: The probability with the best voxel F1 on validation.
        scores: Over voxels.
        objects: Over whole synapses.
        territories: Sums around each true synapse, region by region.
        effort: What the training took.
        recipe: The ordinary recipe, every default said; of what is no network, its seed, data and settings.
        synapse_grid: What threshold and size of whole synapses were chosen from.
        provenance: Versions, device, git state, time, checksums of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    label: str
    seed: int
    threshold: float
    scores: VoxelScores
    objects: SynapseScores
    territories: tuple[tuple[Territory, ...], ...]
    effort: Effort
    recipe: dict[str, JsonValue]
    synapse_grid: dict[str, JsonValue]
    provenance: dict[str, JsonValue]


@dataclass(frozen=True)
class CellFolder:
    """Where a cell lies: `OUT/cells/<row>/seed-<k>`.

    Example:
        >>> CellFolder.of(Path("out"), "cleftnet", 0).prediction(1).as_posix()
        'out/cells/cleftnet/seed-0/prediction-1.hdf'
    """

    path: Path

    @classmethod
    def of(cls, out: Path, row: str, seed: int) -> CellFolder:
        """Return that of a row and a seed."""
        return cls(out / "cells" / row / f"seed-{seed}")

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.path / "run"

    @property
    def file(self) -> Path:
        """The finished cell."""
        return self.path / "cell.json"

    @property
    def failure(self) -> Path:
        """The traceback of a failure."""
        return self.path / "failed.txt"

    @property
    def lock(self) -> Path:
        """Held by the process at work."""
        return self.path / "lock"

    def prediction(self, region: int) -> Path:
        """The prediction of a validation region."""
        return self.path / f"prediction-{region}.hdf"

    def synapses(self, region: int) -> Path:
        """The folder of the synapses found in a validation region."""
        return self.path / f"synapses-{region}"

    def load(self) -> Cell | None:
        """Return the finished cell, or None where there is none yet.

        Raises:
            InputError: when the file is not one of ours.
        """
        try:
            return Cell.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            reason = error.errors()[0]
            raise InputError(
                f"{self.file} is not a cell of this version of cleftnet ({'.'.join(map(str, reason['loc']))}: "
                f"{reason['msg']}); remove it to make the cell anew"
            ) from None

    def save(self, cell: Cell) -> None:
        """Write the finished cell, whole or not at all; a failure before it is forgotten."""
        with replacing(self.file, overwrite=True) as temporary:
            temporary.write_text(cell.model_dump_json(indent=1) + "\n")
        self.failure.unlink(missing_ok=True)
