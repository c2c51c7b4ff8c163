import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import BEST, LAST, load_model
from cleftnet.nets.zoo import build
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.sampling import PatchSampler, SamplingSettings
from cleftnet.training.averaging import measure_statistics
from cleftnet.training.data import TrainingData, load_batches
from cleftnet.training.distributed import HardwareSettings, make_fabric
from cleftnet.training.loop import fit, learn
from cleftnet.training.losses import LossSettings
from cleftnet.training.schedule import TrainingSettings, initial_state, is_finished, learning_rate
from cleftnet.training.validation import Region, validate
from cleftnet.volumes import Volume


def easy_volume(seed=0):
    """Noise with one bright box in it, which is the cleft: learned within a few steps."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(80, 120, (8, 32, 32), np.uint8)
    labels = np.zeros(raw.shape, np.uint64)
    labels[2:6, 8:20, 8:20] = 1
    raw[labels > 0] += 100
    return Volume(raw, (40, 4, 4)), Volume(labels, (40, 4, 4))


def train(out, seed=0, **settings):
    out.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    options = TrainingSettings(**{"steps": 6, "batch": 2, "validate_every": 3, "learning_rate": 0.01} | settings)
    sampler = PatchSampler(
        [LabelledVolume.read(*easy_volume())],
        (8, 16, 16),
        length=options.steps * options.batch,
        seed=seed,
        settings=SamplingSettings(),
        augmentation=AugmentSettings(),
    )
    state = initial_state(build("cleftnet", widths=(4, 8), patch=(8, 16, 16), max_keys=64).channels_last(), options)
    data = TrainingData(sampler, [Region(*easy_volume(1))])
    fabric = make_fabric(HardwareSettings(accelerator="cpu"))
    return fit(fabric, state, data, options, LossSettings(), out, {"seed": seed})


def rows(directory):
    with (directory / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), steps=40, validate_every=10)


def test_a_training_learns_what_is_easy_to_learn(run):
    assert run.scores.f1 > 0.9


def test_the_best_checkpoint_is_the_validation_with_the_highest_score(run):
    best = max(rows(run.directory), key=lambda row: float(row["f1"]))
    card = load_model(run.best).card
    assert (card.step, card.scores["f1"]) == (int(best["step"]), pytest.approx(float(best["f1"])))


def test_threshold_and_calibration_are_stored_with_the_weights(run):
    card = load_model(run.best).card
    assert card.threshold == run.scores.threshold
    assert card.calibration.scale > 0
    assert card.provenance == {"seed": 0}


def test_calibration_brings_probabilities_nearer_to_what_is_seen(run):
    assert run.scores.calibration_error < run.scores.uncalibrated_error


def test_the_last_checkpoint_is_that_of_the_last_step(run):
    assert load_model(run.directory / LAST).card.step == 40


def test_a_stored_model_scores_again_what_its_card_says(run):
    model = load_model(run.best)
    calibration, scores, _ = validate(model.net, [Region(*easy_volume(1))])
    assert scores.f1 == pytest.approx(model.card.scores["f1"])
    assert calibration.shift == pytest.approx(model.card.calibration.shift)


def test_the_same_seed_gives_the_same_losses_and_scores(tmp_path):
    one, two = (train(tmp_path / name, steps=4, validate_every=2) for name in "ab")
    clock = ("seconds", "patches_per_second", "data_wait")
    timeless = [[{k: v for k, v in row.items() if k not in clock} for row in rows(r.directory)] for r in (one, two)]
    assert timeless[0] == timeless[1]


def test_another_seed_gives_other_losses(tmp_path):
    one, two = (train(tmp_path / str(seed), seed=seed, steps=2) for seed in (0, 1))
    assert rows(one.directory)[0]["loss_total"] != rows(two.directory)[0]["loss_total"]


def test_saved_averages_have_the_batch_norm_statistics_of_their_own_weights(tmp_path):
    """Measuring the statistics of the checkpoint again, on the patches that it saw last, changes none of them."""
    run = train(tmp_path / "a", ema=0.9)
    saved = load_model(run.directory / LAST).net
    before = {name: buffer.clone() for name, buffer in saved.named_buffers() if "running" in name}
    sampler = PatchSampler(
        [LabelledVolume.read(*easy_volume())],
        (8, 16, 16),
        length=12,
        seed=0,
        settings=SamplingSettings(),
        augmentation=AugmentSettings(),
    )
    batches = [torch.stack([sampler[number][0] for number in range(start, start + 2)]) for start in range(0, 12, 2)]
    measure_statistics(saved, batches)
    after = dict(saved.named_buffers())
    assert before
    for name, buffer in before.items():
        assert torch.allclose(after[name], buffer, rtol=1e-4, atol=1e-6), name


def test_without_averaging_the_running_statistics_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.training.loop.measure_statistics", lambda *_: pytest.fail("measured"))
    train(tmp_path / "a", ema=0)


def test_averaged_weights_are_what_is_saved(tmp_path):
    """A slow average moves about half as far as the weights; without averaging they move by the learning rate."""
    torch.manual_seed(0)
    start = build("cleftnet", widths=(4, 8), patch=(8, 16, 16), max_keys=64).head.weight.detach()

    def moved(run):
        return float((load_model(run.directory / LAST).net.head.weight.detach() - start).abs().max())

    assert moved(train(tmp_path / "a", ema=0.999)) < 0.8 * moved(train(tmp_path / "b", ema=0))


@pytest.fixture
def poison(monkeypatch):
    """Make the head's convolution give NaN from a given training step on."""

    def _poison(first):
        steps, honest = iter(range(1, 100)), nn.Conv3d.forward

        def forward(self, x):
            y = honest(self, x)
            return y * math.nan if self.training and self.out_channels == 2 and next(steps) >= first else y

        monkeypatch.setattr(nn.Conv3d, "forward", forward)

    return _poison


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_good_checkpoint(tmp_path, poison):
    poison(5)
    with pytest.raises(InputError, match=r"not a finite number at step 5 .*last\.safetensors.*learning_rate"):
        train(tmp_path / "run", steps=20, validate_every=3)
    assert load_model(tmp_path / "run" / LAST).card.step == 3


def test_a_loss_that_is_no_number_before_any_checkpoint_says_so(tmp_path, poison):
    poison(1)
    with pytest.raises(InputError, match="nothing was saved yet"):
        train(tmp_path / "run")
    assert not (tmp_path / "run" / BEST).exists()


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    """Warm-up over 4 steps to 1, then cosine over 100: half way at step 51."""
    settings = TrainingSettings(steps=100, learning_rate=1.0, warmup_steps=4, schedule="cosine")
    assert learning_rate(settings, 1) == pytest.approx(0.2)
    assert learning_rate(settings, 51) == pytest.approx(0.5)
    assert learning_rate(settings, 100) < 0.001


def test_a_constant_learning_rate_is_constant():
    assert {learning_rate(TrainingSettings(steps=9, learning_rate=0.5), step) for step in range(1, 10)} == {0.5}


def test_with_minutes_the_cosine_falls_with_the_time():
    settings = TrainingSettings(steps=10**6, minutes=10, learning_rate=1.0, schedule="cosine")
    assert [learning_rate(settings, 1, 60 * minutes) for minutes in (0, 5, 10, 11)] == pytest.approx([1, 0.5, 0, 0])


def test_steps_end_a_cosine_before_the_minutes_do():
    settings = TrainingSettings(steps=100, minutes=10, learning_rate=1.0, schedule="cosine")
    assert learning_rate(settings, 51, seconds=60) == pytest.approx(0.5)


def test_minutes_end_a_training_with_a_validation(tmp_path, messages):
    """One hundredth of a second is over after the first step."""
    run = train(tmp_path / "run", steps=10**6, validate_every=10**6, minutes=0.01 / 60)
    assert [row["step"] for row in rows(run.directory)] == ["1"]
    assert "0.000166667 minutes are over: ended at step 1 of 1000000" in " ".join(messages.text.split())


def test_a_resumed_training_has_only_the_rest_of_its_minutes():
    """Legs count together: a training whose minutes are over stays as it is."""
    state = initial_state(build("unet3d", widths=(2, 4), patch=(2, 4, 4)), TrainingSettings(steps=10, minutes=1))
    state.step, state.validated, state.seconds = 3, 3, 61.0
    assert is_finished(TrainingSettings(steps=10, minutes=1), state)
    assert not is_finished(TrainingSettings(steps=10, minutes=2), state)


def test_weight_decay_is_for_convolution_kernels_alone():
    """Queries, norms and biases would only be pulled towards meaninglessness."""
    net = build("cleftnet", widths=(4, 8), patch=(8, 16, 16))
    state = initial_state(net, TrainingSettings(steps=1, optimizer="adamw", weight_decay=0.1))
    decayed = {id(p) for group in state.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(m.weight) for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)}
    assert sum(len(group["params"]) for group in state.optimizer.param_groups) == len(list(net.parameters()))


def test_weight_decay_without_adamw_is_refused():
    with pytest.raises(ValueError, match="optimizer: adamw"):
        TrainingSettings(steps=1, weight_decay=0.1)


def test_a_clipped_gradient_moves_the_weights_less(tmp_path):
    """Adam moves by the learning rate whatever the gradient's size, unless that is far below its epsilon of 1e-8."""
    torch.manual_seed(0)
    start = build("cleftnet", widths=(4, 8), patch=(8, 16, 16), max_keys=64).head.weight.detach()

    def moved(run):
        return float((load_model(run.directory / LAST).net.head.weight.detach() - start).abs().max())

    assert moved(train(tmp_path / "a", steps=2, clip_norm=1e-10)) < 0.1 * moved(train(tmp_path / "b", steps=2))


def test_patience_ends_a_training_that_gets_no_better(tmp_path):
    """With a learning rate of next to nothing the second validation is as good as the first, which is not better."""
    run = train(tmp_path / "run", steps=9, validate_every=1, learning_rate=1e-12, patience=2)
    assert [row["step"] for row in rows(run.directory)] == ["1", "2", "3"]


class Numbers(torch.utils.data.Dataset):
    """Patch i is the number i."""

    def __getitem__(self, index):
        return (torch.tensor(index),)


def numbers_of(rank, processes, accumulate, first=0):
    fabric = SimpleNamespace(world_size=processes, global_rank=rank, device=torch.device("cpu"))
    settings = TrainingSettings(steps=2, batch=8, accumulate=accumulate)
    return [part[0].tolist() for part in load_batches(Numbers(), settings, fabric, first)]


def test_a_batch_is_cut_into_parts_for_processes_and_accumulation():
    assert numbers_of(0, 2, 2) == [[0, 1], [4, 5], [8, 9], [12, 13]]
    assert numbers_of(1, 2, 2) == [[2, 3], [6, 7], [10, 11], [14, 15]]


def test_patches_go_on_with_those_of_the_next_step():
    assert numbers_of(0, 1, 1, first=1) == [[8, 9, 10, 11, 12, 13, 14, 15]]


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(InputError, match="8 patches cannot be cut into 3 equal parts"):
        numbers_of(0, 3, 1)


def test_an_accumulated_batch_learns_from_all_of_its_parts(tmp_path):
    """Batch norm sees two patches at a time instead of four, so that the losses are near each other, not equal."""
    one, two = (train(tmp_path / str(n), steps=1, batch=4, accumulate=n) for n in (1, 2))
    assert float(rows(two.directory)[0]["loss_total"]) == pytest.approx(
        float(rows(one.directory)[0]["loss_total"]), rel=0.1
    )


def test_averaged_weights_are_what_is_validated(tmp_path):
    """A slow average is far from the weights after six steps; the saved one gives the calibration of its card again."""
    model = load_model(train(tmp_path / "a", ema=0.999).directory / LAST)
    assert validate(model.net, [Region(*easy_volume(1))]).calibration == pytest.approx(model.card.calibration, rel=1e-4)


def test_parts_of_a_batch_count_as_their_mean_in_the_gradient():
    """Two equal parts of a batch move the weights as one of them alone: the steps of plain SGD scale with the gradient."""
    raw, labels = torch.rand(2, 1, 8, 16, 16), torch.zeros(2, 8, 16, 16, dtype=torch.uint8)
    labels[:, 2:6, 4:9, 4:9] = 1
    batch = (raw, labels, labels.float() / 2, torch.zeros_like(labels))
    fabric, moved = make_fabric(HardwareSettings(accelerator="cpu")), []
    for parts in ([batch], [batch, batch]):
        torch.manual_seed(0)
        net = build("cleftnet", widths=(4, 8), patch=(8, 16, 16), max_keys=64).channels_last()
        before = net.head.weight.detach().clone()
        model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
        learn(fabric, model, optimizer, parts, LossSettings(), None)
        moved.append(net.head.weight.detach() - before)
    assert moved[0].abs().max() > 1e-4
    assert torch.allclose(moved[0], moved[1], rtol=1e-3, atol=1e-6)
