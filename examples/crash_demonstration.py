"""Kills a prediction again and again, lets it finish, and compares the result: `python examples/crash_demonstration.py`.

A synthetic volume is predicted once without disturbance. Then the same command is started, killed with SIGKILL at a random
moment after some blocks, started again, and so on until it is done. Two workers run at a time, and the killed process takes
its workers with it. At the end the two outputs are compared byte for byte. This takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.zoo import build
from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import write_cremi


def predict(out: str, folder: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start the prediction; the command is the same every time."""
    options = ["--block", "16,128,128", "--workers", str(workers)]
    command = [sys.executable, "-m", "cleftnet", "predict", "model.safetensors", "volume.hdf", out, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a Zarr."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(folder: Path) -> int:
    """Return the number of blocks in the journal of an unfinished output."""
    journal = folder / "killed.zarr.unfinished" / "blocks.txt"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def main() -> int:
    """Run the demonstration; return 0 when the outputs are equal, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="worker processes; 0: the process itself (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments at which it is killed (default: 0)")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        net = build("cleftnet", widths=(4, 8), patch=(8, 64, 64), max_keys=128)
        save_model(folder / "model.safetensors", Model(net, ModelCard(spec=net.spec)))
        write_cremi(folder / "volume.hdf", raw=synthetic_volume((32, 256, 256), seed=0).raw)
        start = time.monotonic()
        assert predict("undisturbed.zarr", folder, given.workers).wait() == 0
        print(f"undisturbed: {time.monotonic() - start:.0f} s", flush=True)
        kills = 0
        while True:
            process, more = predict("killed.zarr", folder, given.workers), finished(folder) + moments.randint(1, 2)
            while process.poll() is None and finished(folder) < more:
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 1))
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
            print(f"killed, {finished(folder)} of 8 blocks finished", flush=True)
        assert process.returncode == 0, "the last command failed"
        same = contents(folder / "killed.zarr") == contents(folder / "undisturbed.zarr")
        print(
            f"killed {kills} times; {'not a byte differs' if same else 'THE OUTPUTS DIFFER'} from the undisturbed run"
        )
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
