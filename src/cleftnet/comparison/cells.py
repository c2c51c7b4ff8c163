"""One cell of a comparison: the results of one row trained with one seed, and the folder that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.intervals import Territory
from cleftnet.metrics.pooling import PooledScores


class ResultRecord(BaseModel):
    """Base class of the records in `cell.json` and `results.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VoxelScores(PooledScores):
    """Scores over voxels at the threshold of the cell, and the best CREMI score; None where undefined.

    Attributes:
        best_cremi_score: Lowest CREMI score over a grid of thresholds, nm.
        best_cremi_threshold: Threshold of that score.
    """

    best_cremi_score: float | None
    best_cremi_threshold: float | None


class SynapseScores(ResultRecord):
    """Scores over whole synapses of all regions, at the operating point that their F1 and that of the voxels chose.

    Attributes:
        threshold: Probability from which a voxel belongs to a synapse.
        seed_threshold: Synapses without a voxel of at least this probability are left out; 0 leaves out none.
        min_size_nm3: Smallest volume of a synapse.
        gap: Longest run of sections without cleft that is filled.
        min_score: Smallest score of a synapse by the classifier; 0 where no classifier decides.
        f1: F1 of synapses matched one to one.
        precision: Share of the predicted synapses that are matched.
        recall: Share of the true synapses that are matched.
        true: Number of true synapses.
        predicted: Number of predicted synapses.
        matched: Number of predicted synapses matched to a true one.
        splits: True synapses predicted in several pieces.
        merges: Predicted synapses that cover several true ones.
        average_precision: Mean over the regions.
        voxel_f1: F1 over the voxels of the remaining synapses of all regions.
        cremi_score: CREMI score of the remaining synapses, mean over the regions, nm.
    """

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
    seed_threshold: float = 0.0
    gap: float = 0
    min_score: float = 0.0

    @classmethod
    def of(cls, objects: ObjectScores, **others: float | None) -> SynapseScores:
        """Return the counts and scores of matched objects, with the values that they do not have."""
        names = ("f1", "precision", "recall", "true", "predicted", "matched", "splits", "merges")
        return cls.model_validate({name: getattr(objects, name) for name in names} | others)


class Effort(ResultRecord):
    """What a training took.

    Attributes:
        parameters: Number of learned parameters; None for a random forest or a mean of rows.
        steps: Optimizer steps; None for a random forest or a mean of rows.
        minutes: Time of the training, validations included.
        seconds_per_step: Time of an optimizer step, validations not included.
    """

    parameters: int | None
    steps: int | None
    minutes: float
    seconds_per_step: float | None


class FoldChoice(ResultRecord):
    """What the other folds chose for one fold.

    Attributes:
        scored: The part that is scored, in voxels of the labels.
        scale: Scale of the calibration of its logits.
        shift: Shift of the calibration.
        threshold: Probability with the best voxel F1.
        synapse_threshold: Probability from which a voxel belongs to a synapse.
        seed_threshold: Synapses without a voxel of at least this probability are left out; 0 leaves out none.
        min_size_nm3: Smallest volume of a synapse.
        gap: Longest run of sections without cleft that is filled.
        min_score: Smallest score of a synapse by the classifier; 0 where no classifier decides.
    """

    scored: str
    scale: float
    shift: float
    threshold: float
    synapse_threshold: float
    min_size_nm3: float
    seed_threshold: float = 0.0
    gap: int = 0
    min_score: float = 0.0


class FoldRecord(ResultRecord):
    """What one fold took, and where it comes from: `fold.json` beside its logits.

    Attributes:
        recipe: Training recipe of the cell, as in `Cell`.
        effort: What the training took.
        provenance: Versions, device, git state, time, checksums of the data.
    """

    recipe: dict[str, JsonValue]
    effort: Effort
    provenance: dict[str, JsonValue]


class Cell(ResultRecord):
    """The results of one row trained with one seed.

    Attributes:
        row: Name of the row.
        label: Name of the row in tables.
        seed: Seed of weights and patches.
        threshold: Probability with the best voxel F1 on the validation regions; with folds, the median over them.
        scores: Scores over voxels.
        objects: Scores over whole synapses.
        territories: Sums around each true synapse, region by region.
        effort: What the training took.
        recipe: Training recipe with every default; for a random forest, its seed, data and settings.
        synapse_grid: Values that were tried for whole synapses.
        provenance: Versions, device, git state, time, checksums of the data.
        folds: What was chosen for each fold; empty without folds.
    """

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
    folds: tuple[FoldChoice, ...] = ()


@dataclass(frozen=True)
class CellFolder:
    """The folder of a cell, `OUT/cells/<row>/seed-<k>`.

    Example:
        >>> CellFolder.of(Path("out"), "cleftnet", 0).prediction(1).as_posix()
        'out/cells/cleftnet/seed-0/prediction-1.hdf'
    """

    path: Path

    @classmethod
    def of(cls, out: Path, row: str, seed: int) -> CellFolder:
        """Return the folder of a row and a seed."""
        return cls(out / "cells" / row / f"seed-{seed}")

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.path / "run"

    @property
    def file(self) -> Path:
        """The finished cell, `cell.json`."""
        return self.path / "cell.json"

    @property
    def failure(self) -> Path:
        """The traceback of a failed cell."""
        return self.path / "failed.txt"

    @property
    def lock(self) -> Path:
        """Lock of the process that works on the cell."""
        return self.path / "lock"

    def prediction(self, region: int) -> Path:
        """Return the prediction file of a validation region, or of the whole volume that is cut into folds."""
        return self.path / f"prediction-{region}.hdf"

    @property
    def logits(self) -> Path:
        """Logits of the scored part of a fold, a NumPy file."""
        return self.path / "logits.npy"

    @property
    def trees(self) -> Path:
        """The boosted trees of a fold, a checkpoint without networks."""
        return self.path / "trees.safetensors"

    @property
    def record(self) -> Path:
        """Effort and provenance of a fold, `fold.json`."""
        return self.path / "fold.json"

    def finished_folds(self) -> list[FoldRecord]:
        """Return the records of the folds that are finished."""
        return [
            FoldRecord.model_validate_json(path.read_bytes()) for path in sorted(self.path.glob("fold-*/fold.json"))
        ]

    def of_row(self, row: str) -> CellFolder:
        """Return the folder of another row with the same seed."""
        return CellFolder(self.path.parents[1] / row / self.path.name)

    def fold(self, number: int) -> CellFolder:
        """Return the folder of one fold of this cell."""
        return CellFolder(self.path / f"fold-{number}")

    @property
    def runs(self) -> list[Path]:
        """The run directories that exist: one, or one for each fold."""
        found = [self.run, *(folder / self.run.name for folder in sorted(self.path.glob("fold-*")))]
        return [run for run in found if run.is_dir()]

    def load(self) -> Cell | None:
        """Return the finished cell, or None if there is none yet.

        Raises:
            InputError: when another version of cleftnet wrote the file.
        """
        try:
            return Cell.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            reason = error.errors()[0]
            raise InputError(
                f"{self.file} is not a cell of this version of cleftnet ({'.'.join(map(str, reason['loc']))}: "
                f"{reason['msg']}); remove it to train and score that cell again"
            ) from None

    def save(self, cell: Cell) -> None:
        """Write the finished cell as a whole, and remove the traceback of an earlier failure."""
        with replacing(self.file, overwrite=True) as temporary:
            temporary.write_text(cell.model_dump_json(indent=1) + "\n")
        self.failure.unlink(missing_ok=True)
