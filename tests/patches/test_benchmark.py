import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_sampling_runs_and_tells_each_stage_and_rate():
    command = [sys.executable, "-m", "benchmarks", "sampling", "--small", "--patch", "8,64,64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for line in (
        "targets computed and kept",
        "index of clefts",
        "draw a place",
        "elastic, always",
        "the paper's and EM",
    ):
        assert line in done.stdout
