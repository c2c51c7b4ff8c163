"""The result of a tuning: every operating point that was tried, with its scores, and the one that was chosen."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.settings import SettingsError
from cleftnet.synapses.rules import SynapseSettings
from cleftnet.volumes import Volume

MARGIN = 0.05  # of F1 by which a classifier must beat sizes and seeds; less was noise on held-out folds (docs/log.md)


class TuningPoint(BaseModel):
    """The scores at one threshold, gap, and smallest size or score, over all regions; None where undefined.

    Attributes:
        threshold: Voxels of at least this probability are cleft.
        seed_threshold: Synapses without a voxel of at least this probability are left out; 0 leaves out none.
        gap: Runs of at most so many sections without cleft are filled.
        min_size_nm3: Smaller synapses are left out.
        min_score: Synapses with a lower score by the classifier, cross-validated, are left out; 0 where no
            classifier decides.
        object_f1: F1 of whole clefts, matched one to one by overlap.
        object_precision: Matched share of the predicted synapses.
        object_recall: Matched share of the true clefts.
        predicted: Predicted synapses.
        matched: Predicted synapses matched to a true cleft.
        true: True clefts.
        splits: Predicted synapses beyond the first that share voxels with a true cleft, summed over true clefts.
        merges: True clefts beyond the first that share voxels with a predicted synapse, summed over predicted synapses.
        average_precision: Average precision of the synapses, ranked by the classifier, or by mean probability where none
            decides; mean over regions.
        voxel_f1: F1 of voxels; voxels of all regions are counted together.
        cremi_score: CREMI score in nm, lower is better, mean over regions; only of the chosen point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    seed_threshold: float
    gap: int
    min_size_nm3: float
    min_score: float
    object_f1: float | None
    object_precision: float | None
    object_recall: float | None
    predicted: int
    matched: int
    true: int
    splits: int
    merges: int
    average_precision: float | None
    voxel_f1: float | None
    cremi_score: float | None = None


class Tuning(BaseModel):
    """The result of `tune`, which can be kept in a JSON file.

    Attributes:
        point: The chosen operating point, with its classifiers.
        chosen: Its scores: the highest mean of voxel F1 and object F1, where a classifier must be better than sizes and seeds
            by 0.05; of equals the highest object F1, then the lowest threshold of seeds and the smallest size.
        given: Settings that were given, and not chosen.
        predictions: Identities of the predictions, see `Volume.identity`.
        truths: Identities of the truths.
        grid: Every point that was tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    point: OperatingPoint
    chosen: TuningPoint
    given: SynapseSettings
    predictions: tuple[str, ...]
    truths: tuple[str, ...]
    grid: list[TuningPoint]

    @property
    def settings(self) -> SynapseSettings:
        """Settings with the chosen operating point, for `find_synapses`."""
        return SynapseSettings(point=self.point, kind=self.given.kind)

    def is_of(self, prediction: Volume, truth: Volume, settings: SynapseSettings) -> bool:
        """Return whether this is the tuning of these volumes and settings; what is chosen does not matter."""
        mine = (self.predictions, self.truths, self.given)
        return mine == ((prediction.identity(),), (truth.identity(),), kept_settings(settings))

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write the tuning to a JSON file, whole or not at all.

        Raises:
            InputError: when the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """Read a file that `save` wrote.

        Raises:
            InputError: when it is not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; give the tuning.json of a tuning") from None
        except (ValidationError, SettingsError):
            raise InputError(f"{path} holds no tuning; give a file that Tuning.save or tune_once wrote") from None


def kept_settings(settings: SynapseSettings) -> SynapseSettings:
    """Return the settings that `tune` takes as they are."""
    return SynapseSettings(
        seed_threshold=settings.seed_threshold, gap=settings.gap, hole_nm=settings.hole_nm, kind=settings.kind
    )


def order(point: TuningPoint) -> tuple[float, ...]:
    """Return a key that sorts the best point first."""
    f1 = ((point.voxel_f1 or 0.0) + (point.object_f1 or 0.0)) / 2 - (MARGIN if point.min_score else 0.0)
    return -f1, -(point.object_f1 or 0.0), point.seed_threshold, point.min_size_nm3, point.threshold, point.gap
