"""The rehearsal of the GPU script on a CPU: it runs to its end, and a run that is killed loses no finished result."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import checks, main
from benchmarks.gpu.packages import missing_packages
from benchmarks.gpu.session import ResultFile, Session, gpu_busy
from benchmarks.gpu.table import comparison_on, write_tables
from cleftnet.comparison.recipe import with_defaults
from cleftnet.training import loop
from cleftnet.training.recipe import first_difference

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rehearsal_that_is_killed_goes_on_where_it_was_and_writes_every_result(tmp_path, capsys):
    out, options = tmp_path / "out", ["--tiny", "--minutes", "60", "--work", str(tmp_path / "work")]
    command = [sys.executable, "-m", "benchmarks", "gpu", "table", *options, "--out", str(out)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    first = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    while not (out / "table.json").exists():
        assert first.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = json.loads((out / "table.json").read_text())
    assert finished

    main(["speed", "table", "candidate", *options, "--out", str(out)])
    table, speed = (json.loads((out / f"{part}.json").read_text()) for part in ("table", "speed"))
    assert {name: table[name] for name in finished} == finished
    assert len(table) == 8
    assert {result["values"]["row"] for result in table.values()} >= {"resunet", "cleftnet", "coarse"}
    assert speed["step, cleftnet"]["values"]["against_resunet"] > 0
    assert speed["prediction, overlap 0.5"]["values"]["mvoxel_per_second"] > 0
    assert all({"card", "driver", "versions", "git", "seed"} <= result["run"].keys() for result in speed.values())
    assert len(json.loads((out / "candidate.json").read_text())) == 1
    assert sorted(path.name for path in out.iterdir()) == [
        "candidate.json",
        "candidate.safetensors",
        "speed.json",
        "table.json",
        "tables.md",
    ]
    assert "no time is left" not in capsys.readouterr().out


def test_the_outcome_of_every_check_is_written_and_what_passed_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "TESTS", tmp_path / "tests" / "gpu")
    checks.TESTS.mkdir(parents=True)
    (checks.TESTS / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_good(record_property):\n    record_property('error', 0.25)\n"
        "def test_bad():\n    assert False\n"
    )
    results = tmp_path / "checks.json"
    for started in ("first", "second"):
        checks.main(str(results), json.dumps({"started": started}))
    found = ResultFile(results).results
    good, bad = found["test_some.py::test_good"], found["test_some.py::test_bad"]
    assert (good["values"]["outcome"], good["values"]["error"], good["run"]) == ("passed", 0.25, {"started": "first"})
    assert (bad["values"]["outcome"], bad["run"]) == ("failed", {"started": "second"})


def test_the_published_table_follows_from_the_published_results_and_their_recipe_is_that_of_the_script(tmp_path):
    published = ROOT / "docs" / "results" / "gpu"
    shutil.copy(published / "table.json", tmp_path)
    session = Session(tmp_path, tmp_path / "work", ends=0.0, tiny=False, about={})
    write_tables(session)
    assert (tmp_path / "tables.md").read_text() == (published / "tables.md").read_text()
    comparison = comparison_on(session, fold=4)
    for result in session.file("table").results.values():
        cell = result["values"]["cell"]
        expected = comparison.described(cell["row"], cell["seed"])
        assert first_difference(with_defaults(cell["recipe"]), expected, ("training.loaders",)) is None


def test_the_gpu_is_busy_between_the_first_and_the_last_step_only(tmp_path, monkeypatch):
    """With a stand-in for nvidia-smi that reports 50 % during the steps and 0 % before and after them."""
    steps = tmp_path / "steps"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f"#!{sys.executable}\nimport pathlib, time, datetime\nwhile True:\n"
        f"    share = 50 if pathlib.Path({str(steps)!r}).exists() else 0\n"
        "    print(datetime.datetime.now().strftime('%Y/%m/%d %H:%M:%S.%f')[:-3] + f', {share}', flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("benchmarks.gpu.session.learn", lambda: None)
    found = {}
    with gpu_busy(found):
        time.sleep(0.5)
        steps.touch()
        time.sleep(0.3)
        loop.learn()
        time.sleep(0.5)
        loop.learn()
        time.sleep(0.3)
        steps.unlink()
        time.sleep(0.2)
    assert found == {"gpu_busy": 0.5}


def test_without_a_gpu_only_a_rehearsal_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as done:
        main(["--out", str(tmp_path / "out")])
    assert done.value.code == 2
    assert "there is no CUDA device; --tiny rehearses" in capsys.readouterr().err


def test_results_of_a_rehearsal_are_not_mixed_with_real_ones(tmp_path, capsys):
    ResultFile(tmp_path / "speed.json").add("step, resunet", {}, {"tiny": False})
    with pytest.raises(SystemExit):
        main(["--tiny", "--out", str(tmp_path)])
    assert "holds step, resunet of a real run; choose another folder" in capsys.readouterr().err


def test_missing_packages_are_listed_before_anything_is_imported(tmp_path, monkeypatch):
    assert missing_packages() == []
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["numpy>=900", "not-there-at-all>=1"]\n')
    monkeypatch.setattr("benchmarks.gpu.packages.PROJECT", project)
    old, absent = missing_packages()
    assert old.startswith("numpy>=900 (it has ")
    assert absent == "not-there-at-all>=1"
