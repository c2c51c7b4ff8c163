"""The script of continuous integration, with stand-ins for the programs that it calls."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/run"
TOOLS = ["bash", "cat", "dirname", "env", "grep", "id", "mktemp", "rm", "sort", "tee", "timeout"]
MAKE = """echo "make $1, data in ${CLEFTNET_DATA:-nowhere}"
if [ "$1" = test ]; then
    echo "SKIPPED [1] tests/a.py:7: there is no CUDA device"
    echo "= 5 passed, 1 skipped, 3 deselected in 1 s ="
    exit ${TEST_FAILS:-0}
fi
"""
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def run(tmp_path):
    """Run the script in a checkout of its own, with these programs beside the tools that it always needs."""
    bin_, checkout = tmp_path / "bin", tmp_path / "checkout"
    bin_.mkdir()
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / ".ci/run")
    for tool in TOOLS:
        (bin_ / tool).symlink_to(shutil.which(tool))

    def _run(data=None, **programs):
        for name, text in ({"make": MAKE} | programs).items():
            (bin_ / name).write_text(f"#!{bin_}/bash\n{text}")
            (bin_ / name).chmod(0o755)
        variables = {name: value for name, value in os.environ.items() if name not in ("CLEFTNET_DATA", "PATH")}
        variables |= {"PATH": str(bin_), "TMPDIR": str(tmp_path)} | ({"CLEFTNET_DATA": data} if data else {})
        return subprocess.run(
            [bin_ / "bash", checkout / ".ci/run"], capture_output=True, text=True, check=False, env=variables
        )

    return _run


def test_the_run_ends_by_listing_what_was_skipped_and_why(run):
    done = run(chromium="")
    assert done.returncode == 0, done.stderr
    tail = done.stdout.split("=== skipped tests, and why ===")[1]
    assert "SKIPPED [1] tests/a.py:7: there is no CUDA device" in tail
    assert "5 passed, 1 skipped, 3 deselected" in tail


def test_a_failing_test_fails_the_run_which_lists_what_was_skipped_all_the_same(run):
    done = run(chromium="", make=f"TEST_FAILS=1\n{MAKE}")
    assert done.returncode != 0
    assert "make test-avx2" not in done.stdout
    assert "SKIPPED [1] tests/a.py:7" in done.stdout.split("=== skipped tests, and why ===")[1]


def test_a_missing_browser_is_installed(run, tmp_path):
    done = run(
        **{"apt-get": f'echo "$@" >> {tmp_path}/asked', "sudo": 'while [[ "$1" == -* ]]; do shift; done; exec "$@"'}
    )
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.endswith("update")
    assert second.endswith("install --no-install-recommends chromium")


def test_a_browser_that_is_there_is_not_installed_again(run, tmp_path):
    done = run(chromium="", **{"apt-get": f"touch {tmp_path}/asked"})
    assert done.returncode == 0
    assert not (tmp_path / "asked").exists()


def test_where_the_browser_cannot_be_installed_the_run_says_why_and_goes_on(run):
    broken = 'echo "E: Unable to locate package chromium" >&2; exit 100'
    done = run(**{"apt-get": broken, "sudo": 'while [[ "$1" == -* ]]; do shift; done; exec "$@"'})
    assert done.returncode == 0
    assert "E: Unable to locate package chromium" in done.stderr
    assert "Chromium could not be installed" in done.stdout
    assert "make test," in done.stdout


def test_real_volumes_are_found_beside_the_checkout_or_where_the_variable_says(run, tmp_path):
    assert "data in nowhere" in run(chromium="").stdout
    default = re.search(r"CLEFTNET_DATA:-\.\./([^}]+)}", SCRIPT.read_text())[1]
    (tmp_path / default).mkdir(parents=True)
    assert f"data in {tmp_path}/{default}\n" in run(chromium="").stdout
    (tmp_path / "other").mkdir()
    assert f"data in {tmp_path}/other\n" in run(data=str(tmp_path / "other"), chromium="").stdout
