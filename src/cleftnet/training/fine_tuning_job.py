"""What a fine-tuning consists of: settings, folds of the labels, a recipe for each network, and the model that they make."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from cleftnet.errors import InputError
from cleftnet.files import json_object, replacing
from cleftnet.models.checkpoint import BEST, Model, ModelCard, find_model, load_card, load_model, save_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.skeleton import Network
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.sampling import SamplingSettings
from cleftnet.review import CORRECTED
from cleftnet.settings import Settings, VoxelSize
from cleftnet.training.base_model import compare_sizes, settings_of, terms_of, without_tissue
from cleftnet.training.dry_run import TrainingEstimate, estimate_training
from cleftnet.training.label_folds import FoldFiles, LabelFolds
from cleftnet.training.loop import TrainingRun
from cleftnet.training.losses import LossSettings
from cleftnet.training.members import FoldPredictions, load_network, predict_fold
from cleftnet.training.prevalence import background_weight, sampled_logits
from cleftnet.training.provenance import checksum, provenance
from cleftnet.training.recipe import DataSettings, Recipe, VolumeSettings
from cleftnet.training.schedule import TrainingSettings
from cleftnet.volumes import LABELS, Address, Volume, as_volume, normalized

log = logging.getLogger(__name__)

ABOUT, FOLDS, MEMBERS = "finetune.json", "labels", "members"  # in the run directory
DONE = "finished"  # in the run directory of a member
SINGLE_FOLDS = 3  # of a base that is a single network
FEW_CLEFTS = 5  # below which the operating point of the base stays


def member(directory: Path, number: int) -> Path:
    """Return the run directory of one of the networks."""
    return directory / MEMBERS / str(number)


class FineTuneSettings(Settings):
    """How a model learns from a few labels; the defaults are for 5 to 50 labeled synapses and two cores.

    No layer is frozen: the networks are small, and a low rate with early stopping keeps what they know. A network that did not
    become better on its fold stays as it was. Weights are averaged over the steps, and the averages get batch-norm statistics
    that are measured on the new tissue.

    Attributes:
        steps: Most optimizer steps of each network.
        learning_rate: Highest learning rate.
        batch: Patches of a step.
        folds: Number of folds of the labels, and of networks in the result; None takes as many as the base has networks, or 3
            for a single one. There are never more folds than synapses.
        validate_every: Steps between validations.
        patience: Validations without improvement after which a network stops.
        seed: Seed of the patches.
        voxel_size_nm: Voxel size z y x, for a volume that carries none.
    """

    steps: int = Field(200, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    batch: int = Field(4, ge=1)
    folds: int | None = Field(None, ge=2)
    validate_every: int = Field(25, ge=1)
    patience: int = Field(4, ge=1)
    seed: int = Field(0, ge=0)
    voxel_size_nm: VoxelSize | None = None


@dataclass(frozen=True)
class FineTuningJob:
    """A base model and labels, ready to be learned from.

    Attributes:
        address: Address of the base.
        base: The base.
        raw: The volume.
        labels: The labels.
        folds: Their folds.
        settings: The settings.
    """

    address: str
    base: Model
    raw: Volume
    labels: Volume
    folds: LabelFolds
    settings: FineTuneSettings

    @classmethod
    def of(
        cls, model: str | Path, volume: Volume | Address, labels: Volume | Address, settings: FineTuneSettings
    ) -> FineTuningJob:
        """Open everything that `finetune` is given, and cut the labels into folds.

        Raises:
            InputError: as `finetune`.
        """
        base = load_model(model)
        raw = as_volume(volume, voxel_size_nm=settings.voxel_size_nm)
        if not isinstance(labels, Volume) and Path(labels, CORRECTED).is_file():
            labels = Path(labels, CORRECTED)
        truth = as_volume(labels, voxel_size_nm=None if raw.voxel_size is None else raw.voxel_size, default=LABELS)
        if raw.source is None:
            raise InputError("the volume lies in memory, and a training reads it again; write it to a file first")
        compare_sizes(base.card, raw)
        if base.trees is not None:
            log.info("the boosted trees of the model are left out: they belong to the tissue that they learned from")
        networks = len(base.net.networks) if isinstance(base.net, Ensemble) else 1
        folds = settings.folds or (networks if networks > 1 else SINGLE_FOLDS)
        return cls(str(model), base, raw, truth, LabelFolds.of(raw, truth, base.card.spec.patch, folds), settings)

    @property
    def bases(self) -> Sequence[Network]:
        """The networks of the base."""
        return self.base.net.networks if isinstance(self.base.net, Ensemble) else [self.base.net]

    def identity(self) -> dict[str, JsonValue]:
        """Return what a resumed fine-tuning must have in common with this one."""
        return {
            "base": hashlib.sha256(find_model(self.address).read_bytes()).hexdigest(),
            "volume": self.raw.source,
            "labels": checksum(self.labels),
            "settings": self.settings.model_dump(mode="json"),
        }

    def prepare(self, directory: Path, resume: bool) -> list[Recipe]:
        """Write the labels of the folds and the networks to start from; return the recipe of each network.

        Raises:
            InputError: when the directory belongs to another fine-tuning that is to be resumed.
        """
        about, mine = directory / ABOUT, self.identity()
        if resume and about.exists():
            theirs = json_object(about.read_bytes(), about)
            if changed := [name for name in mine if theirs.get(name) != mine[name]]:
                raise InputError(
                    f"{directory} was begun with other {changed[0]}; resume with the same model, volume, labels and "
                    f"settings, or choose another directory"
                )
        else:
            for old in directory.glob(f"{MEMBERS}/*/{DONE}"):
                old.unlink()
            with replacing(about, overwrite=True) as temporary:
                temporary.write_text(json.dumps(mine, indent=1) + "\n")
        files = self.folds.write(directory / FOLDS)
        bases, recipes = self.bases, []
        for number, fold in enumerate(files):
            start = directory / MEMBERS / f"base-{number}.safetensors"
            save_model(start, without_tissue(bases[number % len(bases)], self.base.card))
            recipes.append(self._recipe(fold, start, number))
        return recipes

    def _recipe(self, fold: FoldFiles, start: Path, number: int) -> Recipe:
        mine, theirs = self.settings, self.base.card.provenance.get("recipe")
        before: dict[str, Any] = dict(theirs) if isinstance(theirs, dict) else {}
        scale = before.get("data", {}).get("distance_scale_nm")
        loss = settings_of(LossSettings, before.get("loss"))
        return Recipe(
            seed=mine.seed * 1000 + number,
            net=self.base.card.spec.changed(tissue_classes=0),
            init=str(start.absolute()),
            data=DataSettings(
                train=tuple(self._volume(path) for path in fold.train),
                validate=tuple(self._volume(path) for path in fold.validate_on),
                distance_scale_nm=scale,
                normalize=self.base.card.normalize,
            ),
            # patches without cleft show what people rejected, so half of them are kept
            sampling=SamplingSettings(min_cleft_voxels=50, reject_probability=0.5),
            augment=settings_of(AugmentSettings, before.get("augment")),
            loss=loss,
            training=TrainingSettings(
                steps=mine.steps,
                batch=mine.batch,
                learning_rate=mine.learning_rate,
                warmup_steps=min(20, mine.steps // 5),
                schedule="cosine",
                ema=0.95,
                validate_every=min(mine.validate_every, mine.steps),
                patience=mine.patience,
                save_every=min(mine.validate_every, mine.steps),
                keep_states=2,
            ),
        )

    def _volume(self, labels: Path) -> VolumeSettings:
        whole = as_volume(labels, default=LABELS).box
        return VolumeSettings(
            raw=str(self.raw.source), labels=str(labels.absolute()), roi=str(whole), voxel_size_nm=self.raw.voxel_size
        )

    def estimate(self, recipes: list[Recipe]) -> TrainingEstimate:
        """Return memory and time of the first network's training."""
        return estimate_training(recipes[0])

    def join(self, directory: Path, recipes: list[Recipe]) -> TrainingRun:
        """Join the networks to one model, chosen and scored out of fold, and write it."""
        paths = [member(directory, number) / BEST for number in range(len(recipes))]
        networks = [load_network(path) for path in paths]
        starts = [load_network(Path(str(recipe.init))) for recipe in recipes]
        parts = [predict_fold(net, recipe) for net, recipe in zip(networks, recipes, strict=True)]
        start_parts = [predict_fold(net, recipe) for net, recipe in zip(starts, recipes, strict=True)]
        worse = [number for number in range(len(parts)) if _f1(parts[number]) <= _f1(start_parts[number])]
        for number in worse:
            networks[number], parts[number] = starts[number], start_parts[number]
        if worse:
            log.warning(
                f"{len(worse)} of {len(networks)} networks became no better by the labels, and stay as they were; the labels "
                f"choose calibration and operating point all the same"
            )
        if len(worse) == len(networks):
            networks = networks[: len(self.bases)]  # a single network was tried several times
        start, found = FoldPredictions.joined(start_parts), FoldPredictions.joined(parts)
        weight = self._background_weight(starts, start)
        before, chosen, point = start.assess(weight).scores, found.assess(weight), self.base.card.synapses
        if point is None or self.folds.clefts >= FEW_CLEFTS:
            point = found.operating_point(chosen)
        else:
            log.info(f"the operating point of the base stays: {self.folds.clefts} synapses are too few to choose one")
        log.info(f"voxel F1 out of fold: {_text(before.f1)} before, {_text(chosen.scores.f1)} after fine-tuning")
        card = ModelCard(
            spec=networks[0].spec,
            members=len(networks),
            calibration=chosen.calibration,
            threshold=chosen.scores.threshold,
            synapses=point,
            voxel_size_nm=self.raw.voxel_size_nm,
            normalize=self.base.card.normalize,
            step=max(load_card(path).step for path in paths),
            scores={**chosen.scores.model_dump(), "base_f1": before.f1},
            provenance=self._provenance(),
        )
        net = networks[0] if len(networks) == 1 else Ensemble(networks)
        save_model(directory / BEST, Model(net, card))
        if terms := card.provenance.get("terms"):
            log.info(f"terms of use, from the base model: {' '.join(str(terms).split())}")
        return TrainingRun(directory, directory / BEST, chosen.scores)

    def _background_weight(self, starts: list[Network], predicted: FoldPredictions) -> float:
        """Return how many background voxels of the volume one of the labels stands for, as the base sees them."""
        seen = normalized(self.raw, self.base.card.normalize)
        sample = sampled_logits(starts, seen, self.base.card.spec.patch, self.settings.seed)
        weight = background_weight(predicted.logits, predicted.labelled, self.base.card.calibration, sample)
        log.info(
            f"labels are {weight:.2g} times as rich in cleft as the volume, by the base; calibration allows for it"
        )
        return weight

    def _provenance(self) -> dict[str, JsonValue]:
        """Return the origin of the weights: this fine-tuning, and the base with its terms of use."""
        origin: dict[str, JsonValue] = {"model": self.address, "sha256": self.identity()["base"]}
        found = provenance({"finetune": self.settings.model_dump(mode="json")})
        found |= {"base": origin | {"provenance": dict(self.base.card.provenance)}}
        found |= {"data": {"volume": self.raw.source, "labels_sha256": checksum(self.labels)}}
        if (terms := terms_of(self.address, self.base.card)) is not None:
            found["terms"] = terms
        return found


def _f1(predictions: FoldPredictions) -> float:
    return predictions.assess().scores.f1 or 0.0


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
