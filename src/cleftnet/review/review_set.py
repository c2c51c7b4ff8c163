"""A review set in its folder: candidates, the volumes they come from, and the decisions made so far."""

from __future__ import annotations

import hashlib
import itertools
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import holding
from cleftnet.geometry import Box, FloatZYX, IntZYX, nm_to_voxels
from cleftnet.metrics.voxels import Mask
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.review.decisions import DecisionLog, ReviewDecision, check_known, conflicting, describe_conflicts
from cleftnet.review.selection import BOUNDS, COLUMNS, ReviewSettings
from cleftnet.settings import SettingsError
from cleftnet.volumes import (
    LABELS,
    PREDICTION,
    Address,
    Array,
    Volume,
    as_volume,
    is_cleft,
    open_volume,
    place,
    sampled_checksums,
    write_volume,
)

CANDIDATES, ABOUT, MASKS, DECISIONS, REDRAWN = (
    "candidates.csv",
    "review.json",
    "masks.npz",
    "decisions.jsonl",
    "redrawn",
)
PAUSE_S = 300.0  # longer times between decisions are pauses
_HEADER_BYTES = 2**10  # at most of a mask's file, before its voxels
LOCK, WAIT_S = ".lock", 10.0


class ReviewInputs(BaseModel):
    """What a review was made from, as `review.json` keeps it.

    Attributes:
        settings: Settings of the review.
        labels: Address of the labels of the synapses.
        prediction: Address of the prediction that they were found in.
        raw: Address of the gray values, where it is known.
        kind: What the prediction holds.
        point: The operating point that the synapses were found with.
        synapses: Number of synapses.
        left_out: Number of components that were left out.
        shape: Sides of the labels in voxels, z y x.
        voxel_size_nm: Voxel size, z y x.
        offset_nm: Position of the first voxel, z y x.
        checksums: Checksums of samples of the voxels, by the names above.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: ReviewSettings
    labels: str
    prediction: str
    raw: str | None
    kind: str
    point: OperatingPoint
    synapses: int
    left_out: int
    shape: IntZYX
    voxel_size_nm: FloatZYX
    offset_nm: FloatZYX
    checksums: Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class ReviewProgress:
    """How far a review has come.

    Attributes:
        done: Candidates with a decision, skipped ones included.
        total: All candidates.
        seconds_left: Estimated time for the others: the median time between two decisions of a person, without pauses of more
            than five minutes, for each; None before the second decision.
    """

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True, eq=False)
class ReviewSet:
    """The candidates of a review and the decisions about them; made by `make_review` and opened by `open_review`.

    Attributes:
        folder: The folder of the review.
        candidates: One row for each candidate: `id`, `kind` ("uncertain", "random" or "missed?"), `synapse_id` (0: none),
            centroid in nm, bounding box in voxels of the labels, `score`, `max_probability`, `volume_nm3`, and `weight`, the
            number of synapses that it stands for.
        inputs: What the review was made from.
    """

    folder: Path
    candidates: pd.DataFrame
    inputs: ReviewInputs

    @property
    def identity(self) -> str:
        """What distinguishes this review from others."""
        return hashlib.sha256((self.folder / CANDIDATES).read_bytes()).hexdigest()[:12]

    @property
    def labels(self) -> Volume:
        """Labels of the synapses under review."""
        return open_volume(self.inputs.labels, default=LABELS)

    @property
    def prediction(self) -> Volume:
        """The prediction, cut to the labels."""
        size, whole = self.inputs.voxel_size_nm, open_volume(self.inputs.prediction, default=PREDICTION)
        labels = self.labels
        return as_volume(whole, voxel_size_nm=size).crop(place(whole, labels, labels.box).prediction_box)

    @property
    def raw(self) -> Volume | None:
        """Gray values, which may reach beyond the labels; None where their address is not known."""
        if self.inputs.raw is None:
            return None
        return as_volume(open_volume(self.inputs.raw), voxel_size_nm=self.inputs.voxel_size_nm)

    def box(self, candidate: int) -> Box:
        """Return the bounding box of a candidate, in voxels of the labels.

        Raises:
            InputError: when there is no such candidate.
        """
        check_known(candidate, self._ids())
        z0, y0, x0, z1, y1, x1 = (int(v) for v in self.candidates.loc[candidate - 1, list(BOUNDS)])
        return Box((z0, y0, x0), (z1, y1, x1))

    def window(self, candidate: int) -> Box:
        """Return the bounding box with its surroundings (`surroundings_nm`), in voxels of the labels.

        Raises:
            InputError: when there is no such candidate.
        """
        around = [int(self.inputs.settings.surroundings_nm / side) for side in self.inputs.voxel_size_nm]
        return self.box(candidate).grow(around).intersect(Box.of(self.inputs.shape))

    def mask(self, candidate: int) -> Mask:
        """Return which voxels of its bounding box are the candidate, bool z y x.

        Raises:
            InputError: when there is no such candidate, or the file is damaged.
        """
        check_known(candidate, self._ids())
        try:
            with zipfile.ZipFile(self.folder / MASKS) as masks:
                size = masks.getinfo(f"{candidate}.npy").file_size
            if size > self.box(candidate).voxels + _HEADER_BYTES:  # np.load would unpack all of it
                raise ValueError(f"a mask of {size:,} bytes")
            with np.load(self.folder / MASKS, allow_pickle=False) as masks:
                return np.asarray(masks[str(candidate)], np.bool_)
        except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{self.folder / MASKS} is damaged ({reason}); make the review again") from None

    def redrawn(self, candidate: int) -> Array | None:
        """Return the redrawn labels of a candidate in its window, uint64 z y x, background 0; None where it was not redrawn."""
        decision = self.decisions().get(candidate)
        if decision is None or decision.redrawn is None:
            return None
        return open_volume(self.folder / decision.redrawn, default=LABELS).read()

    def decide(
        self, candidate: int, verdict: str, *, by: str, redrawn: Volume | Address | Array | None = None
    ) -> ReviewDecision:
        """Write down a decision; it is on disk when this returns. A later decision of the same person replaces an earlier one.

        Args:
            candidate: Id of the candidate.
            verdict: "accept", "reject", "redraw" or "skip".
            by: Name of the person.
            redrawn: For "redraw", the labels in their place: an array of the shape of `window(candidate)`, or a volume or
                address of cleft ids that is placed by its offset. Ids other than 0 are synapses.

        Raises:
            InputError: when the candidate or the verdict is unknown, somebody else decided differently, or the redrawn labels
                are missing, empty or reach beyond the window.
        """
        check_known(candidate, self._ids())
        if (verdict == "redraw") != (redrawn is not None):
            raise InputError(
                f"candidate {candidate} is decided '{verdict}' {'without' if redrawn is None else 'with'} redrawn labels; "
                f"'redraw' needs them, and no other verdict takes them"
            )
        with holding(self.folder / LOCK, WAIT_S) as mine:
            if not mine:
                raise InputError(f"another process is writing decisions in {self.folder}; try again")
            decision = ReviewDecision.now(self.identity, candidate, verdict, by, None)
            earlier = self._log().read()
            if candidate in (found := conflicting([*earlier, decision])) and not self._settles(earlier, decision):
                raise InputError(
                    f"people disagree on {describe_conflicts({candidate: found[candidate]})}; agree, and decide again"
                )
            if redrawn is not None:
                decision = decision.model_copy(update={"redrawn": self._keep(candidate, redrawn)})
            self._log().append(decision)
        return decision

    def _settles(self, earlier: list[ReviewDecision], decision: ReviewDecision) -> bool:
        """Return whether a decision agrees with the last one of another person, so that fewer disagree than before."""
        last = {one.by: one.verdict for one in earlier if one.id == decision.id and one.by != decision.by}
        return decision.verdict in last.values()

    def history(self) -> list[ReviewDecision]:
        """Return every decision in the order in which they were made, those included that were replaced."""
        return self._log().read()

    def decisions(self) -> dict[int, ReviewDecision]:
        """Return the decision that counts for each candidate that has one: the last."""
        return {decision.id: decision for decision in self.history()}

    def conflicts(self) -> dict[int, dict[str, str]]:
        """Return the candidates on which people disagree, each with the last verdict of every person."""
        return conflicting(self.history())

    def undecided(self) -> list[int]:
        """Return the ids of candidates without a decision, in the order of the table; skipped ones are not among them."""
        decided = self.decisions()
        return [candidate for candidate in self._ids() if candidate not in decided]

    @property
    def progress(self) -> ReviewProgress:
        """How many candidates have a decision, and the estimated time for the others."""
        history, total = self.history(), len(self.candidates)
        times: dict[str, list[float]] = {}
        for decision in history:
            times.setdefault(decision.by, []).append(decision.time.timestamp())
        gaps = [b - a for own in times.values() for a, b in itertools.pairwise(own) if 0 <= b - a <= PAUSE_S]
        done = len({decision.id for decision in history})
        return ReviewProgress(done, total, float(np.median(gaps)) * (total - done) if gaps else None)

    def check_inputs(self) -> None:
        """Raise `InputError` when the voxels of an input have changed since the review was made."""
        now = {"labels": self.labels, "prediction": self.prediction}
        for name, volume in now.items():
            if sampled_checksums(volume) != tuple(self.inputs.checksums[name]):
                raise InputError(
                    f"{volume.address} has changed since the review {self.folder} was made; make the review anew"
                )

    def _ids(self) -> range:
        return range(1, len(self.candidates) + 1)

    def _log(self) -> DecisionLog:
        return DecisionLog(self.folder / DECISIONS, self.identity, self._ids())

    def _keep(self, candidate: int, redrawn: Volume | Address | Array) -> str:
        """Write redrawn labels to a file, and return its name relative to the folder."""
        window, size = self.window(candidate), self.inputs.voxel_size_nm
        offset_nm = [o + s * v for o, s, v in zip(self.inputs.offset_nm, window.start, size, strict=True)]
        ids = self._in_window(candidate, redrawn, (offset_nm[0], offset_nm[1], offset_nm[2]))
        taken = len(list((self.folder / REDRAWN).glob(f"{candidate}-*.hdf")))
        name = f"{REDRAWN}/{candidate}-{taken + 1}.hdf"
        crop = Volume(ids, size, (offset_nm[0], offset_nm[1], offset_nm[2]))
        write_volume(crop, self.folder / name, default=LABELS[0], overwrite=True)
        with (self.folder / name).open("rb") as file:
            os.fsync(file.fileno())
        return name

    def _in_window(self, candidate: int, redrawn: Volume | Address | Array, start_nm: FloatZYX) -> Array:
        """Return redrawn labels in the window of a candidate, uint64, background 0."""
        window, size = self.window(candidate), self.inputs.voxel_size_nm
        ids = np.zeros(window.shape, np.uint64)
        if isinstance(redrawn, np.ndarray):
            if redrawn.shape != window.shape:
                raise InputError(
                    f"redrawn labels of candidate {candidate} have shape {redrawn.shape}; expected that of its window, "
                    f"{window.shape}"
                )
            ids[:] = np.where(is_cleft(redrawn), redrawn, 0)
        else:
            volume = as_volume(redrawn, voxel_size_nm=size, default=LABELS)
            start = nm_to_voxels([a - b for a, b in zip(volume.offset_nm, start_nm, strict=True)], size)
            own = volume.box.shift(start)
            shared = own.intersect(Box.of(window.shape))
            values = volume.read()
            inside = np.zeros(volume.shape, np.bool_)
            if not shared.empty:
                part = shared.relative_to(own.start).slices
                inside[part] = True
                ids[shared.slices] = np.where(is_cleft(values[part]), values[part], 0)
            if (is_cleft(values) & ~inside).any():
                raise InputError(
                    f"redrawn labels of candidate {candidate} reach beyond its window {window} (voxels of the labels); cut "
                    f"them to it, or make the review with larger surroundings: surroundings_nm=..."
                )
        if not ids.any():
            raise InputError(
                f"redrawn labels of candidate {candidate} hold no synapse; choose verdict='reject' for that"
            )
        return ids


def open_review(folder: str | Path) -> ReviewSet:
    """Open a review set; a decision that a crash left half-written is dropped, with a warning.

    Args:
        folder: The folder that `make_review` wrote.

    Raises:
        InputError: when the folder holds no review, a decision is damaged, belongs to another review, or is about an unknown
            candidate.
    """
    path = Path(folder)
    try:
        inputs = ReviewInputs.model_validate_json((path / ABOUT).read_bytes())
        with (path / CANDIDATES).open("rb") as file:  # pandas would fetch a path that reads like an address
            candidates = pd.read_csv(file)
    except OSError:
        raise InputError(
            f"{path} holds no review; expected a folder that make_review (cleftnet review) wrote"
        ) from None
    except (ValidationError, SettingsError, ValueError):
        raise InputError(f"{path}: {ABOUT} or {CANDIDATES} is damaged; make the review anew") from None
    if list(candidates.columns) != list(COLUMNS) or candidates["id"].tolist() != [*range(1, len(candidates) + 1)]:
        raise InputError(f"{path / CANDIDATES} was changed; expected the columns {', '.join(COLUMNS)} and ids from 1")
    found = ReviewSet(path, candidates, inputs)
    found.history()
    return found


def same_keys(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return what identifies each component in tables of two searches: bounding box and volume."""
    columns = [table[name].to_numpy().astype(np.int64).tolist() for name in BOUNDS]
    return list(zip(*columns, np.round(table["volume_nm3"].to_numpy().astype(float), 1).tolist(), strict=True))
