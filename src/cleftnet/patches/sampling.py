"""Random patches from labelled volumes, with the paper's rejection of patches that hold hardly any cleft (§IV-C).

Patch number i of a training is a pure function of (seed, i): whatever the number of loader processes, and wherever a
training was interrupted, the same patches come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.utils.data import Dataset

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.patches.augment import AugmentSettings, Patch, augment
from cleftnet.patches.targets import distance_map
from cleftnet.volumes.volume import CLEFT, Array, Volume, classes, intensity


class SamplingSettings(BaseModel):
    """Which random patches are kept; the defaults are the paper's.

    Attributes:
        min_cleft_voxels: A patch with fewer cleft voxels is rejected with `reject_probability`.
        reject_probability: How often such a patch is rejected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_cleft_voxels: int = Field(200, ge=0)
    reject_probability: float = Field(0.95, ge=0, lt=1)


@dataclass(frozen=True)
class LabelledVolume:
    """A raw volume in memory with its augmented labels, axes z y x, all of one shape."""

    raw: Array
    classes: npt.NDArray[np.uint8]
    distance: npt.NDArray[np.float32]

    @classmethod
    def read(cls, raw: Volume, labels: Volume, *, scale_nm: float | None = None) -> LabelledVolume:
        """Read both volumes and augment the labels (Eq. 6).

        Args:
            raw: Any integer or 0-1 float type.
            labels: Instance ids in the house's convention, of the same shape.
            scale_nm: None measures boundary distance in voxels, as printed; a number in nm divided by it.

        Raises:
            InputError: when the shapes differ.
        """
        if raw.shape != labels.shape:
            raise InputError(
                f"{raw.address} is {raw.shape} but its labels {labels.address} are {labels.shape} (z y x voxels); give "
                f"arrays of one shape, or labels whose offset places them"
            )
        ids = labels.read()
        if scale_nm is None:
            distance = distance_map(ids)
        else:
            distance = distance_map(ids, unit="nm", voxel_size_nm=labels.voxel_size_nm, scale_nm=scale_nm)
        return cls(raw.read(), classes(ids), distance)

    def patch(self, box: Box) -> Patch:
        """Cut one patch; raw becomes float32 in 0-1."""
        s = box.slices
        return Patch(intensity(self.raw[s]), self.classes[s], self.distance[s])


class PatchSampler(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Augmented random patches by number, as tensors `raw 1 z y x`, `classes z y x`, `distance z y x`.

    Args:
        volumes: The training volumes; each is drawn as often as it has patch positions.
        shape: Patch size z y x in voxels.
        length: How many patches there are to number.
        seed: Together with a patch's number it decides everything about it.
        settings: The rejection rule.
        augmentation: The random changes.

    Raises:
        InputError: when a volume is smaller than the patch, or none holds any cleft.
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
        self.volumes, self.shape, self.length, self.seed = list(volumes), shape, length, seed
        self.settings, self.augmentation = settings, augmentation
        for volume in self.volumes:
            if any(n < p for n, p in zip(volume.raw.shape, shape, strict=True)):
                raise InputError(
                    f"patch {'×'.join(map(str, shape))} is larger than a training region of "
                    f"{'×'.join(map(str, volume.raw.shape))} voxels (z×y×x); choose a smaller net.patch"
                )
        if not any((v.classes == CLEFT).any() for v in self.volumes):
            raise InputError(
                "there is no cleft voxel in the training data; check the labels and the region (cleftnet info LABELS)"
            )
        places = [np.prod([n - p + 1 for n, p in zip(v.raw.shape, shape, strict=True)]) for v in self.volumes]
        self.share = np.array(places) / np.sum(places)

    def __len__(self) -> int:
        return self.length

    def draw(self, rng: np.random.Generator) -> Patch:
        """Draw one patch by the paper's rule, not augmented."""
        while True:
            volume = self.volumes[int(rng.choice(len(self.volumes), p=self.share))]
            start = [int(rng.integers(0, n - p + 1)) for n, p in zip(volume.raw.shape, self.shape, strict=True)]
            box = Box.at(start, self.shape)
            found = np.count_nonzero(volume.classes[box.slices] == CLEFT)
            if found >= self.settings.min_cleft_voxels or rng.random() >= self.settings.reject_probability:
                return volume.patch(box)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        patch = augment(self.draw(rng), self.augmentation, rng)
        return torch.from_numpy(patch.raw)[None], torch.from_numpy(patch.classes), torch.from_numpy(patch.distance)
