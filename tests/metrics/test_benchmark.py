import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_finds_the_same_scores_as_the_plain_ways():
    command = [sys.executable, "-m", "benchmarks", "metrics", "--shape", "10,120,150"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ratios = [line for line in done.stdout.splitlines() if ", against " in line]
    assert len(ratios) == 5
    assert all(line.endswith(", the same result") for line in ratios)


def test_an_unknown_benchmark_lists_those_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "metric"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "metrics" in done.stderr
