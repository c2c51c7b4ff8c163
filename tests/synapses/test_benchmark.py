import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_finds_the_same_table_as_scipy():
    command = [sys.executable, "-m", "benchmarks", "synapses", "--shape", "20,150,150"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("the same table")
