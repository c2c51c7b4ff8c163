"""Predictions that are interrupted in every way, and completed by the same call, byte for byte like an uninterrupted one."""

import errno
import os
import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from cleftnet.blockwise import ExecutionSettings, UnfinishedError
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, predict
from cleftnet.prediction.job import PredictionJob
from cleftnet.volumes import Volume, open_volume, write_volume

SHAPE = (40, 40, 200)  # in chunks of 16×40×128: blocks of 16×40×128 are six
SMALL = ExecutionSettings(block=(16, 40, 128), tries=1)
SETTINGS = PredictionSettings(overlap=0.0)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    net = build("cleftnet", widths=(2, 4), patch=(8, 20, 40), max_keys=32).eval()
    return Model(net, ModelCard(spec=net.spec, voxel_size_nm=(40, 4, 4)))


@pytest.fixture(scope="module")
def volume():
    return Volume(np.random.default_rng(1).integers(1, 256, SHAPE, np.uint8), (40.0, 4.0, 4.0))


@pytest.fixture(scope="module")
def uninterrupted(tiny, volume, tmp_path_factory):
    """The files of a prediction in one block, by name, as bytes."""
    out = tmp_path_factory.mktemp("uninterrupted") / "p.zarr"
    predict(tiny, volume, out, settings=SETTINGS)
    return contents(out)


def contents(folder):
    """Return the bytes of all files, without the address of raw, which an array in memory does not have."""
    raw = re.compile(rb',\s*"raw": "[^"]*"')
    return {
        str(path.relative_to(folder)): raw.sub(b"", path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def left_over(tmp_path):
    return [path.name for path in tmp_path.iterdir()]


class Stop:
    """Lets some blocks be written, then raises."""

    def __init__(self, monkeypatch, error, after):
        self.written, original = [], PredictionJob.write

        def write(work, block, arrays):
            if len(self.written) >= after:
                raise error
            original(work, block, arrays)
            self.written.append(block.write)

        monkeypatch.setattr(PredictionJob, "write", write)


def finish(tiny, volume, tmp_path, monkeypatch, **options):
    """Predict again, without interruption; return the blocks that were computed."""
    monkeypatch.undo()
    counter = Stop(monkeypatch, None, after=10**9)
    predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, **({"execution": SMALL} | options))
    return counter.written


@pytest.mark.parametrize("block", [(16, 40, 128), (32, 40, 128), (16, 40, 200)])
def test_the_block_size_changes_no_byte(tiny, volume, uninterrupted, tmp_path, block):
    predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, execution=ExecutionSettings(block=block))
    assert contents(tmp_path / "p.zarr") == uninterrupted
    assert left_over(tmp_path) == ["p.zarr"]


def test_two_worker_processes_change_no_byte(tiny, volume, uninterrupted, tmp_path):
    predict(
        tiny,
        volume,
        tmp_path / "p.zarr",
        settings=SETTINGS,
        execution=ExecutionSettings(block=(16, 40, 128), workers=2),
    )
    assert contents(tmp_path / "p.zarr") == uninterrupted


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_an_interruption_or_a_full_disk_loses_no_block(tiny, volume, uninterrupted, tmp_path, monkeypatch, error):
    stop = Stop(monkeypatch, error, after=2)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError
    with pytest.raises(expected):
        predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, execution=SMALL)
    assert left_over(tmp_path) == ["p.zarr.unfinished"]
    done = finish(tiny, volume, tmp_path, monkeypatch)
    assert len(done) == 4
    assert not set(done) & set(stop.written)
    assert contents(tmp_path / "p.zarr") == uninterrupted
    assert left_over(tmp_path) == ["p.zarr"]


def test_a_run_that_finished_no_block_leaves_nothing(tiny, volume, tmp_path, monkeypatch):
    Stop(monkeypatch, KeyboardInterrupt(), after=0)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, execution=SMALL)
    assert left_over(tmp_path) == []


def test_a_run_with_another_block_size_completes_the_blocks_of_the_first(
    tiny, volume, uninterrupted, tmp_path, monkeypatch
):
    Stop(monkeypatch, KeyboardInterrupt(), after=2)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, execution=SMALL)
    assert len(finish(tiny, volume, tmp_path, monkeypatch, execution=ExecutionSettings(block=(32, 40, 200)))) == 4
    assert contents(tmp_path / "p.zarr") == uninterrupted


def test_an_unreadable_chunk_fails_only_the_blocks_that_read_it_until_it_is_repaired(
    tiny, volume, uninterrupted, tmp_path, monkeypatch, messages
):
    write_volume(volume, tmp_path / "raw.zarr/raw")
    chunk = next(path for path in sorted((tmp_path / "raw.zarr").rglob("*")) if path.is_file() and "." not in path.name)
    good = chunk.read_bytes()
    chunk.write_bytes(good[: len(good) // 2])
    raw = open_volume(tmp_path / "raw.zarr/raw")
    with pytest.raises(InputError, match=r"2 of 6 blocks failed, the first at 0:16,0:40,0:128: .*raw\.zarr"):
        predict(tiny, raw, tmp_path / "p.zarr", settings=SETTINGS, execution=SMALL)
    assert "block 0:16,0:40,0:128 failed" in messages.text
    chunk.write_bytes(good)
    done = finish(tiny, raw, tmp_path, monkeypatch)
    assert [str(box) for box in done] == ["0:16,0:40,0:128", "0:16,0:40,128:200"]  # a tile at x 120:160 reads the chunk
    assert contents(tmp_path / "p.zarr") == uninterrupted


def test_a_failure_for_another_reason_than_the_input_has_a_type_of_its_own(tiny, volume, tmp_path, monkeypatch):
    Stop(monkeypatch, ValueError("a bug"), after=2)
    with pytest.raises(UnfinishedError, match="4 of 6 blocks failed"):
        predict(tiny, volume, tmp_path / "p.zarr", settings=SETTINGS, execution=SMALL)


@pytest.mark.parametrize("name", ["p.zarr", "p.hdf"])
def test_two_models_or_settings_are_not_mixed_in_one_output(tiny, volume, tmp_path, monkeypatch, name):
    Stop(monkeypatch, KeyboardInterrupt(), after=2)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny, volume, tmp_path / name, settings=SETTINGS, execution=SMALL)
    monkeypatch.undo()
    torch.manual_seed(1)
    other = Model(build("cleftnet", widths=(2, 4), patch=(8, 20, 40), max_keys=32).eval(), tiny.card)
    changed = Volume(volume.read() // 2, (40, 4, 4))
    for model, raw, how, what in (
        (other, volume, SETTINGS, "model"),
        (tiny, changed, SETTINGS, "volume"),
        (tiny, volume, PredictionSettings(overlap=0.25), "overlap"),
    ):
        with pytest.raises(InputError, match=f"begun with {what} .* use overwrite=True to begin anew"):
            predict(model, raw, tmp_path / name, settings=how, execution=SMALL)
    assert left_over(tmp_path) == [f"{name}.unfinished"]
    anew = predict(other, volume, tmp_path / name, settings=SETTINGS, execution=SMALL, overwrite=True)
    assert (anew.read() == predict(other, volume, tmp_path / "other.zarr", settings=SETTINGS).read()).all()


def test_one_process_can_predict_volumes_of_other_shapes_to_the_same_output(tiny, volume, tmp_path):
    for shape in (SHAPE, (8, 20, 40)):
        part = volume.crop(Box.of(shape))
        assert predict(tiny, part, tmp_path / "p.zarr", settings=SETTINGS, overwrite=True).shape == shape


def test_raw_rewritten_in_place_is_refused_unless_it_is_accepted(tiny, volume, tmp_path, monkeypatch):
    raw, out = tmp_path / "raw.hdf", tmp_path / "p.zarr"
    write_volume(volume, raw)
    stopped = Stop(monkeypatch, KeyboardInterrupt(), after=2)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny, raw, out, settings=SETTINGS, execution=SMALL)
    monkeypatch.undo()
    write_volume(Volume(volume.read() // 2, volume.voxel_size), raw, overwrite=True)
    with pytest.raises(InputError, match=r"the voxels of the volume have changed since .* use overwrite=True to begin"):
        predict(tiny, raw, out, settings=SETTINGS, execution=SMALL)
    accepting = SMALL.model_copy(update={"accept_changed_input": True})
    mixed = predict(tiny, raw, out, settings=SETTINGS, execution=accepting).read()
    old, new = (predict(tiny, source, settings=SETTINGS).read() for source in (volume, raw))
    of_old = np.zeros(SHAPE, bool)
    for box in stopped.written:
        of_old[box.slices] = True
    assert np.array_equal(mixed, np.where(of_old, old, new))


def test_overwrite_replaces_a_finished_output_only_when_the_new_one_is_complete(tiny, volume, tmp_path, monkeypatch):
    out = tmp_path / "p.zarr"
    predict(tiny, volume.crop(Box((0, 0, 0), (16, 40, 128))), out, settings=SETTINGS)
    before = contents(out)
    Stop(monkeypatch, KeyboardInterrupt(), after=2)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny, volume, out, settings=SETTINGS, execution=SMALL, overwrite=True)
    assert contents(out) == before
    assert len(finish(tiny, volume, tmp_path, monkeypatch, overwrite=True)) == 4
    assert open_volume(out, default=["volumes/probability"]).shape == SHAPE


def test_a_killed_command_is_finished_by_the_same_command(tiny, volume, uninterrupted, tmp_path):
    """SIGKILL to `cleftnet predict` in mid-volume; what is left to do is done by the command itself, from a new process."""
    save_model(tmp_path / "model.safetensors", tiny)
    write_volume(volume, tmp_path / "raw.hdf/volumes/raw")
    command = ["predict", "model.safetensors", "raw.hdf", "p.zarr", "--overlap", "0", "--block", "16,40,128"]
    slowly = f"""
        import pathlib, time
        from cleftnet.cli import main
        from cleftnet.prediction.job import PredictionJob
        compute, calls = PredictionJob.compute, []
        def slow(*arguments):
            calls.append(1)
            if len(calls) > 3:
                pathlib.Path("under way").touch()
                time.sleep(60)
            return compute(*arguments)
        PredictionJob.compute = slow
        main({command})
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(slowly)], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "under way").exists():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        first.kill()
        first.wait()
    assert not (tmp_path / "p.zarr").exists()
    again = [sys.executable, "-c", f"from cleftnet.cli import main; main({command})"]
    done = subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "3 of 6 blocks were finished before" in done.stderr or "2 of 6 blocks were finished before" in done.stderr
    assert contents(tmp_path / "p.zarr") == uninterrupted


MEMORY = """
import resource, sys
import numpy as np, torch
from cleftnet.blockwise import ExecutionSettings
from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, predict
from cleftnet.volumes import ArraySpec, create_volumes, open_volume
sides = int(sys.argv[1])
shape = (16 * sides, 128 * sides, 128 * sides)
with create_volumes("raw.zarr") as new:
    raw = new.create(ArraySpec("raw", shape, "uint8", voxel_size_nm=(40, 4, 4)))
    for z in range(0, shape[0], 16):
        raw[z : z + 16, 0 : shape[1], 0 : shape[2]] = np.full((16, *shape[1:]), 100, np.uint8)
net = build("resunet", widths=(1, 1), patch=(16, 128, 128)).eval()
how, execution = PredictionSettings(overlap=0.0), ExecutionSettings(block=(16, 128, 128))
predict(Model(net, ModelCard(spec=net.spec)), open_volume("raw.zarr/raw"), "p.zarr", settings=how, execution=execution)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_volume_64_times_larger_takes_less_than_a_tenth_more_memory(tmp_path):
    """16×128×128 against 64×512×512, in blocks of 16×128×128."""
    peaks = []
    for sides in (1, 4):
        folder = tmp_path / str(sides)
        folder.mkdir()
        command = [sys.executable, "-c", MEMORY, str(sides)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
