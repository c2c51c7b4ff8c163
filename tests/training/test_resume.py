"""A training that was interrupted ends as if it never had been."""

import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

import cleftnet
import cleftnet.training.loop
from cleftnet.cli import main
from cleftnet.errors import InputError, TrainingInterrupted
from cleftnet.files import holding, replacing
from cleftnet.models.checkpoint import BEST, LAST
from cleftnet.training import runs
from cleftnet.training.distributed import make_fabric
from cleftnet.training.log import LOSSES, METRICS, RunLog
from cleftnet.training.runs import LOCK
from cleftnet.training.state import STATES

STEPS, SAVED, VALIDATED = 12, 3, 4  # the training, and how often it saves and validates
CLOCK = ("seconds", "patches_per_second", "data_wait")

CHILD = """
import os, signal, sys, torch
from pathlib import Path
torch.set_num_threads(int(sys.argv[1]))
import cleftnet, cleftnet.training.log

die_at = int(sys.argv[5])
if sys.argv[6] == "between":
    honest = cleftnet.training.log.RunLog.step
    def step(self, *values):
        honest(self, *values)
        if self.state.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    cleftnet.training.log.RunLog.step = step
else:
    honest = Path.replace
    def replace(self, target):
        if f"step-{die_at:09d}" in str(target):
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, target)
    Path.replace = replace
cleftnet.train(sys.argv[2], sys.argv[3], changes=[sys.argv[4]], resume=True)
"""


@pytest.fixture(scope="module")
def tissue(cremi_file, tmp_path_factory):
    """The synthetic volume with classes of tissue beside it: two, with unlabeled voxels between them."""
    path = tmp_path_factory.mktemp("tissue") / "tissue.hdf"
    shutil.copy(cremi_file, path)
    with h5py.File(path, "a") as file:
        raw = file["volumes/raw"]
        classes = np.digitize(raw[:], np.quantile(raw[:], [0.4, 0.6])).astype(np.uint8)
        file["volumes/tissue"] = np.choose(classes, [0, 255, 1]).astype(np.uint8)
        file["volumes/tissue"].attrs.update(raw.attrs)
    return f"{path}/volumes/tissue"


@pytest.fixture(scope="module")
def recipe(cremi_file, tissue, tmp_path_factory):
    content = {
        "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [4, 8], "max_keys": 64, "tissue_classes": 2},
        "loss": {"tissue_weight": 0.1},
        "data": {
            "train": [{"raw": str(cremi_file), "tissue": tissue, "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": str(cremi_file), "roi": "0:16,64:96,0:96"}],
        },
        "training": {
            "steps": STEPS,
            "batch": 2,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "warmup_steps": 3,
            "schedule": "cosine",
            "ema": 0.9,
            "clip_norm": 1.0,
            "validate_every": VALIDATED,
            "validation_overlap": 0,
            "save_every": SAVED,
        },
    }
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The run directory of the training that nobody interrupted."""
    return cleftnet.train(recipe, tmp_path_factory.mktemp("whole") / "run").directory


def table(directory, name):
    with (directory / name).open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def assert_same(one, other):
    """The same lines, none of them twice, and the same bits in every checkpoint and in the last state."""
    assert [int(row["step"]) for row in table(other, LOSSES)] == list(range(1, STEPS + 1))
    for name in (LOSSES, METRICS):
        assert table(one, name) == table(other, name)
    for name in (BEST, LAST, f"{STATES}/step-{STEPS:09d}.safetensors"):
        mine, theirs = (safetensors.torch.load_file(run / name) for run in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize(
    ("loaders", "where"),
    [(0, "between"), (2, "between"), (0, "saving")],
    ids=["no loader", "two loaders", "while saving"],
)
def test_a_training_killed_and_resumed_is_bit_identical_to_one_never_interrupted(
    loaders, where, recipe, whole, tmp_path
):
    die_at = random.randrange(1, STEPS) if where == "between" else 2 * SAVED
    change, out = f"training.loaders={loaders}", tmp_path / "run"
    arguments = [str(torch.get_num_threads()), str(recipe), str(out), change, str(die_at), where]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    reached = len(table(out, LOSSES))
    assert reached == die_at
    cleftnet.train(recipe, out, changes=[change], resume=True)
    assert_same(whole, out)


@pytest.fixture
def interrupted(recipe, tmp_path, monkeypatch):
    """Train until a step, at which a signal arrives; return the run directory."""

    def _interrupt(step, name=signal.SIGTERM):
        honest = RunLog.step

        def log(self, *values):
            honest(self, *values)
            if self.state.step == step:
                os.kill(os.getpid(), name)

        with monkeypatch.context() as patched:
            patched.setattr(RunLog, "step", log)
            with pytest.raises(TrainingInterrupted, match="SIGTERM ended the training"):
                cleftnet.train(recipe, tmp_path / "run")
        return tmp_path / "run"

    return _interrupt


def test_a_sigterm_saves_the_step_it_came_at_and_says_how_to_go_on(interrupted, recipe, whole, messages):
    out = interrupted(7)
    assert "SIGTERM: step 7 is saved in" in messages.text
    assert (out / STATES / "step-000000007.safetensors").is_file()
    cleftnet.train(recipe, out, resume=True)
    assert "continuing from" in messages.text
    assert_same(whole, out)


@pytest.mark.parametrize("again", [{"resume": True}, {"overwrite": True}], ids=["resume", "overwrite"])
def test_a_run_that_another_process_is_training_is_left_alone(again, recipe, whole):
    before = (whole / "run.json").read_bytes()
    with holding(whole / LOCK), pytest.raises(InputError, match="another process is training in"):
        cleftnet.train(recipe, whole, **again)
    assert (whole / "run.json").read_bytes() == before
    assert (whole / BEST).exists()


def test_only_the_newest_states_are_kept(whole):
    assert sorted(p.name for p in (whole / STATES).iterdir()) == [
        "step-000000009.safetensors",
        "step-000000012.safetensors",
    ]


def test_the_scale_of_the_loss_is_loaded_where_a_training_is_resumed_and_only_there(recipe, tmp_path, monkeypatch):
    """As with 16-mixed, which CPUs refuse: its scaler raises an error for a state that is empty."""
    scaler, loaded = torch.amp.GradScaler("cpu"), []

    def load(state):
        scaler.load_state_dict(state)
        loaded.append(state["scale"])

    def with_scaler(*arguments):
        fabric = make_fabric(*arguments)
        fabric.strategy.precision.state_dict = lambda: (
            {"scale": 512.0}
            | {key: value for key, value in torch.amp.GradScaler("cpu").state_dict().items() if key != "scale"}
        )
        fabric.strategy.precision.load_state_dict = load
        return fabric

    monkeypatch.setattr(runs, "make_fabric", with_scaler)
    shortened = yaml.safe_load(recipe.read_text())
    shortened["training"] |= {"steps": 2, "save_every": 1, "schedule": "constant"}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(shortened))
    cleftnet.train(tmp_path / "two.yaml", tmp_path / "run")
    assert loaded == []
    shortened["training"]["steps"] = 3
    (tmp_path / "three.yaml").write_text(yaml.safe_dump(shortened))
    cleftnet.train(tmp_path / "three.yaml", tmp_path / "run", resume=True)
    assert loaded == [512.0]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_state_is_told_and_the_one_before_is_used(damage, interrupted, recipe, whole, messages):
    out = interrupted(7)
    damage(out / STATES / "step-000000007.safetensors")
    cleftnet.train(recipe, out, resume=True)
    said = messages.text
    assert "step-000000007.safetensors is damaged" in said
    assert "continuing from" in said.split("is damaged")[1]
    assert "step-000000006.safetensors" in said
    assert_same(whole, out)


def test_states_that_are_all_damaged_are_refused(interrupted, recipe):
    out = interrupted(7)
    for path in (out / STATES).iterdir():
        truncate(path)
    with pytest.raises(InputError, match=r"no training state in .* is intact"):
        cleftnet.train(recipe, out, resume=True)


def test_a_state_that_pickles_is_damaged_and_never_executed(interrupted, recipe, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    out = interrupted(7)
    for path in (out / STATES).iterdir():
        torch.save({"net": Bomb()}, path)
    with pytest.raises(InputError, match="intact"):
        cleftnet.train(recipe, out, resume=True)
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_the_state_before_and_says_so(recipe, whole, tmp_path):
    """A limit on the size of files stands in for the full disk: small enough for a state of 100 KB, not for the logs."""
    import resource

    out, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    honest = RunLog.step

    def log(self, *values):
        honest(self, *values)
        if self.state.step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(RunLog, "step", log)
            with pytest.raises(InputError, match=r"cannot write .*step-000000006.*(space|disk)"):
                cleftnet.train(recipe, out, changes=["training.validate_every=100"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in (out / STATES).iterdir()] == ["step-000000003.safetensors"]
    cleftnet.train(recipe, out, changes=["training.validate_every=100"], resume=True)
    assert table(out, LOSSES) == table(whole, LOSSES)


def test_a_finished_training_has_nothing_left_to_resume(recipe, whole):
    before = {name: (whole / name).read_bytes() for name in (LOSSES, METRICS, BEST, LAST)}
    run = cleftnet.train(recipe, whole, resume=True)
    assert run.scores.f1 == max(float(row["f1"]) for row in table(whole, METRICS))
    assert {name: (whole / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("change", ["training.batch=4", "net.max_keys=32", "seed=1", "training.steps=24"])
def test_another_recipe_than_the_runs_own_is_refused_by_the_name_of_its_key(change, recipe, whole):
    """Steps too: the cosine ends at the last one, so that all learning rates before would be others."""
    with pytest.raises(InputError, match=f"trained with another {change.split('=')[0]}; resume with its own recipe"):
        cleftnet.train(recipe, whole, changes=[change], resume=True)


def test_more_steps_continue_a_constant_learning_rate(recipe, whole, tmp_path):
    changes = ["training.schedule=constant", "training.validate_every=2"]
    cleftnet.train(recipe, tmp_path / "run", changes=[*changes, "training.steps=2"])
    cleftnet.train(recipe, tmp_path / "run", changes=[*changes, "training.steps=4"], resume=True)
    cleftnet.train(recipe, tmp_path / "once", changes=[*changes, "training.steps=4"])
    assert table(tmp_path / "run", LOSSES) == table(tmp_path / "once", LOSSES)


def test_data_that_has_changed_is_refused(recipe, whole):
    about = json.loads((whole / "run.json").read_text())
    changed = json.loads((whole / "run.json").read_text())
    changed["data"]["train"][0]["labels_sha256"] = "0"
    try:
        (whole / "run.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match="the data has changed since"):
            cleftnet.train(recipe, whole, resume=True)
    finally:
        (whole / "run.json").write_text(json.dumps(about))


def test_where_there_is_nothing_to_resume_a_training_begins(recipe, tmp_path, messages):
    cleftnet.train(recipe, tmp_path / "run", changes=["training.steps=1"], resume=True)
    assert "nothing to resume" in messages.text
    assert len(table(tmp_path / "run", LOSSES)) == 1


@pytest.mark.parametrize("name", [LOCK, ".recipe.yaml.0f3a9c21.part"])
def test_what_a_start_without_room_on_the_disk_left_is_no_training(name, recipe, tmp_path):
    (tmp_path / name).touch()
    cleftnet.train(recipe, tmp_path, changes=["training.steps=1"])
    assert len(table(tmp_path, LOSSES)) == 1


def test_a_start_that_failed_after_its_recipe_was_written_is_resumed_at_the_first_step(
    recipe, tmp_path, monkeypatch, messages
):
    @contextmanager
    def fail(path, **settings):
        with replacing(path, **settings) as temporary:
            yield temporary
            if path.name == "run.json":
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "replacing", fail)
        with pytest.raises(InputError, match=r"cannot write .*run\.json \(No space"):
            cleftnet.train(recipe, tmp_path, changes=["training.steps=1"])
    assert (tmp_path / "recipe.yaml").exists()
    with pytest.raises(InputError, match="is not empty"):
        cleftnet.train(recipe, tmp_path, changes=["training.steps=1", "seed=9"])
    cleftnet.train(recipe, tmp_path, changes=["training.steps=1"], resume=True)
    assert "nothing to resume" in messages.text
    assert len(table(tmp_path, LOSSES)) == 1


def test_a_folder_that_is_no_run_is_not_resumed(recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds no recipe\.yaml"):
        cleftnet.train(recipe, tmp_path, resume=True)


def test_earlier_legs_are_told_in_run_json(interrupted, recipe):
    out = interrupted(2)
    first = json.loads((out / "run.json").read_text())["started"]
    cleftnet.train(recipe, out, resume=True)
    about = json.loads((out / "run.json").read_text())
    assert [leg["started"] for leg in about["earlier_legs"]] == [first]


def test_to_replace_and_to_resume_at_once_is_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="choose one"):
        cleftnet.train(recipe, tmp_path / "run", resume=True, overwrite=True)


def test_training_anew_leaves_nothing_of_the_old_training(recipe, tmp_path):
    for steps in (4, 1):
        cleftnet.train(recipe, tmp_path / "run", changes=[f"training.steps={steps}"], overwrite=True)
    assert len(table(tmp_path / "run", LOSSES)) == 1
    assert [p.name for p in (tmp_path / "run" / STATES).iterdir()] == ["step-000000001.safetensors"]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_a_training_leaves_the_global_random_state_as_it_was(recipe, tmp_path):
    before = torch.get_rng_state()
    cleftnet.train(recipe, tmp_path / "run", changes=["training.steps=1"])
    assert torch.equal(torch.get_rng_state(), before)


def test_sigterm_in_a_validation_saves_at_once_and_the_resumed_training_validates(
    recipe, whole, tmp_path, monkeypatch, messages
):
    def wait(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(cleftnet.training.loop, "validate", wait)
        began = time.monotonic()
        with pytest.raises(TrainingInterrupted):
            cleftnet.train(recipe, out)
    assert time.monotonic() - began < 30
    assert f"SIGTERM: step {VALIDATED} is saved in" in messages.text
    assert not (out / BEST).exists()
    cleftnet.train(recipe, out, resume=True)
    assert_same(whole, out)


def test_sigterm_ends_the_command_line_with_143_and_says_how_to_continue(recipe, tmp_path, monkeypatch, capsys):
    honest = RunLog.step

    def log(self, *values):
        honest(self, *values)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "step", log)
    with pytest.raises(SystemExit, match="143"):
        main(["train", str(recipe), "--out", str(tmp_path / "run")])
    assert "continue it with --resume" in capsys.readouterr().err
