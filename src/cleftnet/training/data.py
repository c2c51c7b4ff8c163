"""Data of a training: labeled regions, the patches drawn from them, and the batches of each process."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.sampling import PatchSampler
from cleftnet.training.provenance import checksum, fingerprint
from cleftnet.training.recipe import Recipe, VolumeSettings
from cleftnet.training.schedule import TrainingSettings
from cleftnet.training.validation import Region
from cleftnet.volumes import LABELS, NormalizationSettings, Volume, normalized, open_volume, place

Batch = tuple[Tensor, ...]  # raw `b 1 z y x`, and classes, distance and tissue `b z y x`


@dataclass(frozen=True)
class TrainingData:
    """Patches to learn from, and regions to validate on.

    Attributes:
        patches: Training patches by number, used in order: step s takes those from (s − 1) · batch on.
        validation_regions: Regions that are predicted and scored in every validation.
        training_regions: Regions that the patches are drawn from.
        tissues: Labels of other tissue in each of these, or None.
        normalize: How the gray values of the regions were normalized.
    """

    patches: Dataset[Batch]
    validation_regions: Sequence[Region]
    training_regions: Sequence[Region] = ()
    tissues: Sequence[Volume | None] = ()
    normalize: NormalizationSettings | None = None

    @property
    def voxel_size_nm(self) -> FloatZYX | None:
        """Voxel size z y x of the first region, which the others share."""
        regions = (*self.validation_regions, *self.training_regions)
        return regions[0].raw.voxel_size_nm if regions else None

    def checksums(self) -> JsonValue:
        """Return checksums of all regions, which tell whether two trainings had the same data."""
        regions = {"train": self.training_regions, "validate": self.validation_regions}
        found: dict[str, JsonValue] = {use: [fingerprint(*region) for region in part] for use, part in regions.items()}
        if tissues := [tissue for tissue in self.tissues if tissue is not None]:
            found["tissue"] = [{"tissue_sha256": checksum(tissue)} for tissue in tissues]
        return found


def open_data(recipe: Recipe) -> TrainingData:
    """Open the volumes of a recipe.

    Raises:
        InputError: when a volume cannot be opened, holds no cleft to learn from, or is smaller than the patch.
    """
    validation_regions = [as_seen(open_region(volume), recipe) for volume in recipe.data.validate_on]
    for region in validation_regions:
        _check_size(region, recipe)
    training_regions = [as_seen(open_region(volume), recipe) for volume in recipe.data.train]
    tissues = [_open_tissue(volume) if recipe.net.tissue_classes else None for volume in recipe.data.train]
    patches = PatchSampler(
        [
            LabelledVolume.read(*region, tissue, scale_nm=recipe.data.distance_scale_nm, signed=recipe.loss.signed)
            for region, tissue in zip(training_regions, tissues, strict=True)
        ],
        recipe.net.patch,
        length=recipe.training.steps * recipe.training.batch,
        seed=recipe.seed,
        settings=recipe.sampling,
        augmentation=recipe.augment,
    )
    return TrainingData(patches, validation_regions, training_regions, tissues, recipe.data.normalize)


def open_region(volume: VolumeSettings) -> Region:
    """Open raw and labels of one volume of a recipe, lazily.

    Raises:
        InputError: when one cannot be opened, or the part lies outside.
    """
    raw = open_volume(volume.raw, voxel_size_nm=volume.voxel_size_nm)
    labels = open_volume(volume.labels or volume.raw, default=LABELS, voxel_size_nm=volume.voxel_size_nm)
    placement = place(raw, labels, None if volume.roi is None else Box.parse(volume.roi))
    return Region(raw.crop(placement.prediction_box), labels.crop(placement.truth_box))


def as_seen(region: Region, recipe: Recipe) -> Region:
    """Return a region with the gray values that the network of a recipe sees (`data.normalize`).

    The range is measured on the whole volume that the region is a part of, as `predict` does.

    Raises:
        InputError: when the region has no contrast to normalize.
    """
    return region._replace(raw=normalized(region.raw, recipe.data.normalize))


def _open_tissue(volume: VolumeSettings) -> Volume | None:
    """Open the labels of other tissue in one volume of a recipe, which lie on the grid of its cleft labels.

    Raises:
        InputError: when they cannot be opened, or the part lies outside.
    """
    if volume.tissue is None:
        return None
    tissue = open_volume(volume.tissue, voxel_size_nm=volume.voxel_size_nm)
    box = tissue.box if volume.roi is None else Box.parse(volume.roi)
    if not tissue.box.contains(box):
        raise InputError(
            f"region {box} is not inside {tissue.address}, {tissue.box}; tissue lies on the grid of the labels"
        )
    return tissue.crop(box)


def _check_size(region: Region, recipe: Recipe) -> None:
    """Raise when a region is smaller than the patch: it could not be validated on."""
    patch, shape = recipe.net.patch, region.raw.shape
    if any(n < p for n, p in zip(shape, patch, strict=True)):
        raise InputError(
            f"patch {'×'.join(map(str, patch))} is larger than {region.raw.address}, {'×'.join(map(str, shape))} voxels "
            f"(z×y×x); choose a smaller net.patch or a larger region"
        )


def load_batches(
    patches: Dataset[Batch], settings: TrainingSettings, fabric: Fabric, first: int = 0
) -> Iterator[Batch]:
    """Yield the parts of all batches that this process learns from, starting with the step after `first`.

    Each batch is split into equal parts, `accumulate` of them for each process, so that all processes together learn
    from the same patches as a single process.

    Raises:
        InputError: when the batch cannot be split into equal parts.
    """
    size = patches_at_once(settings, fabric.world_size)
    starts = (
        step * settings.batch + (part * fabric.world_size + fabric.global_rank) * size
        for step in range(first, settings.steps)
        for part in range(settings.accumulate)
    )
    loader = DataLoader(
        patches,
        batch_sampler=(list(range(start, start + size)) for start in starts),
        num_workers=settings.loaders,
        worker_init_fn=_ignore_sigterm,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),  # the loader draws from it instead of the global generator
    )
    return iter(loader)


def patches_at_once(settings: TrainingSettings, processes: int) -> int:
    """Return the number of patches of one forward pass.

    Raises:
        InputError: when the batch cannot be split into equal parts.
    """
    parts = settings.accumulate * processes
    size, rest = divmod(settings.batch, parts)
    if rest:
        raise InputError(
            f"a batch of {settings.batch} patches cannot be cut into {parts} equal parts ({processes} processes × "
            f"{settings.accumulate} to accumulate); choose training.batch, training.accumulate and hardware.devices "
            f"accordingly"
        )
    return size


def _ignore_sigterm(_: int) -> None:
    """Ignore SIGTERM in a loader process: the training still needs its patches when a whole job is signaled."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
