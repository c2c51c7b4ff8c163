"""Threshold and size of synapses chosen on labels: a grid of both, scored by whole clefts, by voxels and by the CREMI score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.metrics.predictions import PredictionKind, choose_threshold, kind_of
from cleftnet.progress import track
from cleftnet.synapses.levels import Held, Level, Point
from cleftnet.synapses.rules import SynapseSettings
from cleftnet.volumes import LABELS, PREDICTION, Address, Volume, open_volume

THRESHOLDS = tuple(step / 10 for step in range(1, 10))
SIZES_NM3 = (0.0, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6)


class Tuning(BaseModel):
    """What a sweep found; a file of it is what `cleftnet synapses --tuned` takes.

    Attributes:
        settings: With the threshold, size and score that were chosen.
        chosen: Their scores: the highest object F1, of equals the highest voxel F1, then the smallest size.
        prediction: What was swept, see `Volume.identity`.
        truth: Against what.
        grid: Every point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: SynapseSettings
    chosen: Point
    prediction: str
    truth: str
    grid: list[Point]

    def is_of(self, prediction: Volume, truth: Volume, settings: SynapseSettings) -> bool:
        """Tell whether these volumes were swept with these settings, whatever was chosen."""
        own = self.settings
        given = settings.changed(
            threshold=own.threshold, min_size_nm3=own.min_size_nm3, score=own.score, segmentation=None
        )
        return (self.prediction, self.truth, own) == (prediction.identity(), truth.identity(), given)

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InputError: when the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """Read what `save` wrote.

        Raises:
            InputError: when it is not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; give the tuning.json of a --tune") from None
        except ValidationError:
            raise InputError(f"{path} is not what --tune writes; give the tuning.json of a --tune") from None


def tune(
    prediction: Volume | Address,
    truth: Volume | Address,
    *,
    settings: SynapseSettings = SynapseSettings(),  # noqa: B008 - it is frozen
    thresholds: Sequence[float] = THRESHOLDS,
    sizes_nm3: Sequence[float] = SIZES_NM3,
) -> Tuning:
    """Score a grid of thresholds and sizes where prediction and truth meet, choose the best, and fit the score there.

    Args:
        prediction: A probability, or its address.
        truth: Cleft ids or a mask, or their address; unlabelled voxels are left out.
        settings: Everything else; its threshold and size are not used.
        thresholds: To try, besides the one stored with the prediction.
        sizes_nm3: To try.

    Raises:
        InputError: when the prediction is no probability, the volumes do not fit each other, the region is larger than 2^28
            voxels, or the truth has no cleft in it.

    Example:
        >>> import numpy as np
        >>> labels, probability = np.zeros((2, 9, 9), np.uint64), np.zeros((2, 9, 9), np.uint8)
        >>> labels[0, 1:3, 1:6] = 7
        >>> probability[0, 1:3, 1:6], probability[1, 8, 8] = 200, 200     # the second is a false one of one voxel
        >>> found = tune(Volume(probability, (40, 4, 4)), Volume(labels, (40, 4, 4)), sizes_nm3=(0, 1280))
        >>> found.settings.min_size_nm3, found.chosen.object_f1
        (1280.0, 1.0)
    """
    volume = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    labels = truth if isinstance(truth, Volume) else open_volume(truth, default=LABELS)
    if kind_of(volume, settings.kind) is not PredictionKind.PROBABILITY:
        raise InputError(f"{volume.address} holds {volume.dtype}; only a probability has a threshold to tune")
    tried = {*thresholds, choose_threshold(volume, PredictionKind.PROBABILITY) or 0.0}
    tried = {threshold for threshold in tried if threshold <= (settings.seed_threshold or 1.0)}
    held = Held.of(volume, labels)
    points, best = [], None
    for threshold in track(sorted(tried), "tuning", len(tried)):
        level = Level.of(held, settings.changed(threshold=threshold), threshold)
        for point in level.points(sorted(sizes_nm3)):
            points.append(point)
            if best is None or _order(point) < _order(best[0]):
                best = (point, level)
    if best is None:
        raise InputError("no threshold and size to try; give at least one of each")
    chosen, level = best
    score = level.fit()
    chosen_settings = settings.changed(threshold=chosen.threshold, min_size_nm3=chosen.min_size_nm3, score=score)
    return Tuning(
        settings=chosen_settings, chosen=chosen, prediction=volume.identity(), truth=labels.identity(), grid=points
    )


def tune_once(
    path: Path,
    prediction: Volume | Address,
    truth: Volume | Address,
    settings: SynapseSettings,
    *,
    overwrite: bool = False,
) -> Tuning:
    """Tune and keep it in a file; what an earlier run of the same command left there is taken as it is.

    Args:
        path: Of the file.
        prediction: See `tune`.
        truth: The same.
        settings: The same.
        overwrite: Whether to tune anew, whatever is there.

    Raises:
        InputError: when the file holds something else, or as `tune`.
    """
    volume = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    labels = truth if isinstance(truth, Volume) else open_volume(truth, default=LABELS)
    if path.exists() and not overwrite:
        kept = Tuning.load(path)
        if not kept.is_of(volume, labels, settings):
            raise InputError(
                f"{path} was tuned on other volumes or with other settings; give overwrite=True or choose another name"
            )
        return kept
    tuning = tune(volume, labels, settings=settings)
    tuning.save(path, overwrite)
    return tuning


def _order(point: Point) -> tuple[float, float, float, float]:
    return -(point.object_f1 or 0.0), -(point.voxel_f1 or 0.0), point.min_size_nm3, point.threshold
