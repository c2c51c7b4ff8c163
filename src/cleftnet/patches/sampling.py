"""Random patches from labelled volumes; patches with few cleft voxels are mostly rejected, as in the paper (§IV-C).

Patch number i of a training is a pure function of (seed, i), so the patches depend neither on the number of loader
processes nor on interruptions. Rejection uses an index of clefts; only accepted patches are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import Dataset

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.patches.augment import AugmentSettings, augment
from cleftnet.patches.index import CleftIndex
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.patch import NO_TISSUE
from cleftnet.settings import Settings


class SamplingSettings(Settings):
    """Which random patches are accepted, and how much raw is held in memory; the defaults of the rule are the paper's.

    Attributes:
        min_cleft_voxels: A patch with fewer cleft voxels is rejected with `reject_probability`. They are counted before
            augmentation.
        reject_probability: Probability that such a patch is rejected.
        raw_in_memory_gib: Raw volumes are held in memory, in their order, as long as they fit into this many GiB; the
            others are read patch by patch.
    """

    min_cleft_voxels: int = Field(200, ge=0)
    reject_probability: float = Field(0.95, ge=0, lt=1)
    raw_in_memory_gib: float = Field(2.0, ge=0)


class PatchSampler(Dataset[tuple[torch.Tensor, ...]]):
    """Augmented random patches by number, as tensors `raw 1 z y x`, `classes z y x`, `distance z y x`, `tissue z y x`.

    Tissue is `NO_TISSUE` everywhere in a volume without such labels.

    Args:
        volumes: Training volumes, each drawn in proportion to its number of patch places.
        shape: Patch size z y x in voxels.
        length: Number of patches.
        seed: Determines each patch together with its number.
        settings: Rejection rule.
        augmentation: Random changes.

    Raises:
        InputError: when a volume is smaller than the patch, or none holds any cleft.

    Example:
        >>> from cleftnet.volumes import Volume
        >>> raw, labels = np.zeros((4, 8, 8), np.uint8), np.ones((4, 8, 8), np.uint64)
        >>> volume = LabelledVolume.read(Volume(raw), Volume(labels))
        >>> settings = {"settings": SamplingSettings(), "augmentation": AugmentSettings()}
        >>> patches = PatchSampler([volume], (2, 6, 6), length=10, seed=0, **settings)
        >>> [tuple(tensor.shape) for tensor in patches[7]]
        [(1, 2, 6, 6), (2, 6, 6), (2, 6, 6), (2, 6, 6)]
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        shape: IntZYX,
        *,
        length: int,
        seed: int,
        settings: SamplingSettings,
        augmentation: AugmentSettings,
    ) -> None:
        self.shape, self.length, self.seed = shape, length, seed
        self.settings, self.augmentation = settings, augmentation
        for volume in volumes:
            if any(n < p for n, p in zip(volume.shape, shape, strict=True)):
                raise InputError(
                    f"patch {'×'.join(map(str, shape))} is larger than a training region of "
                    f"{'×'.join(map(str, volume.shape))} voxels (z×y×x); choose a smaller net.patch"
                )
        self.indices = [CleftIndex.of(v.target, shape, settings.min_cleft_voxels) for v in volumes]
        if not any(index.cleft_voxels for index in self.indices):
            raise InputError(
                "the training data has no cleft voxel; check the labels and the region (cleftnet info LABELS)"
            )
        self.volumes = _held(volumes, settings.raw_in_memory_gib * 2**30)
        places = np.array([np.prod(index.places, dtype=np.int64) for index in self.indices])
        self.share = places / places.sum()

    def __len__(self) -> int:
        return self.length

    def draw(self, rng: np.random.Generator) -> tuple[LabelledVolume, Box]:
        """Draw the place of a patch by the paper's rule, without reading voxels."""
        up_to = np.cumsum(self.share)
        while True:
            number = int(np.searchsorted(up_to[:-1], rng.random(), side="right"))
            z, y, x = (int(rng.integers(n)) for n in self.indices[number].places)
            if self.indices[number].enough((z, y, x)) or rng.random() >= self.settings.reject_probability:
                return self.volumes[number], Box.at((z, y, x), self.shape)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        rng = np.random.default_rng([self.seed, index])
        volume, box = self.draw(rng)
        patch = augment(volume.patch, box, self.augmentation, rng)
        tissue = np.full(patch.raw.shape, NO_TISSUE, np.uint8) if patch.tissue is None else patch.tissue
        raw, *targets = (torch.from_numpy(a) for a in (patch.raw, patch.classes, patch.distance, tissue))
        return raw[None], *targets


def _held(volumes: Sequence[LabelledVolume], limit_bytes: float) -> list[LabelledVolume]:
    """Return the volumes, with raw read into memory for as many as fit."""
    held, used = [], 0
    for volume in volumes:
        fits = used + volume.raw_bytes <= limit_bytes
        used += volume.raw_bytes if fits else 0
        held.append(volume.in_memory() if fits else volume)
    return held
