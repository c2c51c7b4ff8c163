"""Two processes learn what one does."""

import csv
import os
import signal
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

import cleftnet
from cleftnet.errors import InputError, TrainingInterrupted
from cleftnet.models.checkpoint import LAST
from cleftnet.training.distributed import HardwareSettings, launch, make_fabric, noticing_sigterm, number_of_processes
from cleftnet.training.losses import ClassCounts, LossSettings, cleft_loss

CPU = {"accelerator": "cpu"}


@pytest.fixture(scope="module")
def recipe(cremi_file, tmp_path_factory):
    content = {
        "net": {"name": "cleftnet-no-fa", "patch": [8, 32, 32], "widths": [4, 8]},
        "data": {
            "train": [{"raw": str(cremi_file), "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": str(cremi_file), "roi": "0:16,64:96,0:96"}],
        },
        "sampling": {
            "reject_probability": 0
        },  # some parts without any cleft: shares of a part are not those of the batch
        "training": {"steps": 5, "batch": 4, "validate_every": 5, "validation_overlap": 0, "ema": 0.5},
        "hardware": CPU,
    }
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def losses(directory):
    with (directory / "losses.csv").open() as file:
        return [[float(v) for v in row.values()] for row in csv.DictReader(file)]


def test_two_processes_learn_what_one_does_from_the_same_batches(recipe, tmp_path):
    one = cleftnet.train(recipe, tmp_path / "one")
    two = cleftnet.train(recipe, tmp_path / "two", changes=["hardware.devices=2"])
    assert len(losses(one.directory)) == 5
    assert np.array(losses(one.directory)) == pytest.approx(np.array(losses(two.directory)), abs=1e-5)
    assert two.scores.auc == pytest.approx(one.scores.auc, abs=1e-4)
    mine, theirs = (safetensors.torch.load_file(run.directory / LAST) for run in (one, two))
    furthest = {name: float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine}
    assert max(furthest.values()) < 1e-5, max(furthest, key=furthest.get)


def test_an_input_error_of_another_process_is_one_here(recipe, tmp_path):
    with pytest.raises(InputError, match="4 patches cannot be cut into 6 equal parts") as caught:
        cleftnet.train(recipe, tmp_path / "run", changes=["hardware.devices=2", "training.accumulate=3"])
    assert "\n" not in str(caught.value)


def test_the_mean_loss_of_the_parts_is_the_loss_of_the_batch():
    torch.manual_seed(0)
    logits, classes = torch.randn(4, 2, 2, 8, 8), torch.randint(0, 3, (4, 2, 8, 8), dtype=torch.uint8)
    classes[:2] %= 2
    distance = torch.where(classes == 1, 0.8, 0.0)
    whole = ClassCounts.of(classes, distance)._replace(parts=2)
    parts = [cleft_loss(logits[s], classes[s], distance[s], LossSettings(), whole) for s in (slice(2), slice(2, 4))]
    for name, value in cleft_loss(logits, classes, distance, LossSettings())._asdict().items():
        assert sum(getattr(part, name) for part in parts) / 2 == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_is_refused_on_cpus_where_it_gives_wrong_gradients(precision):
    with pytest.raises(InputError, match=f"{precision} is for GPUs.*training.precision=32"):
        make_fabric(HardwareSettings(accelerator="cpu"), precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="cannot train on accelerator cuda"):
        make_fabric(HardwareSettings(accelerator="cuda"))


def test_as_many_processes_as_devices_on_all_nodes():
    assert number_of_processes(HardwareSettings(accelerator="cpu", devices=4, nodes=2)) == 8
    assert number_of_processes(HardwareSettings(accelerator="cpu", devices="auto")) == 1


def test_processes_started_from_outside_must_be_as_many_as_the_recipe_has(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "GROUP_RANK": "0", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"4 processes were started, but .* are 1; set hardware\.devices"):
        make_fabric(HardwareSettings(accelerator="cpu"))


def test_a_sigterm_is_noticed_and_handled_as_before_afterwards():
    fabric, before = make_fabric(HardwareSettings(accelerator="cpu")), signal.getsignal(signal.SIGTERM)
    with noticing_sigterm() as termination:
        assert not termination.requested(fabric)
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested(fabric)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_no_signal_is_handled():
    found = []

    def enter():
        with noticing_sigterm() as termination:
            found.append(termination.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]


def terminate_oneself(fabric):
    os.kill(os.getpid(), signal.SIGTERM)
    return "went on"


def test_a_sigterm_before_the_first_step_ends_at_once_with_its_code():
    with pytest.raises(TrainingInterrupted, match="SIGTERM ended the training"):
        launch(make_fabric(HardwareSettings(accelerator="cpu")), terminate_oneself)
