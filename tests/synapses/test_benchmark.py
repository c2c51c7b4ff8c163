import subprocess
import sys
from pathlib import Path

from tools.check_results import PAGE, measured_rows, published_rows

ROOT = Path(__file__).parents[2]


def test_the_benchmark_finds_the_same_synapses_as_scipy_and_its_rows_are_those_of_the_page(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks", "synapses", "--shape", "20,150,150", "--json", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ", the same result" in done.stdout
    page = published_rows(PAGE.read_text(), "Synapses of a large volume, and a crash")
    measured = measured_rows(out, "rows", "name")
    assert [name.split(",")[0] for name in page] == list(measured)
    assert all(scores.keys() <= measured[name.split(",")[0]].keys() for name, scores in page.items())
