"""The notebooks of the documentation run from top to bottom, and their stored outputs are those of a clean run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs/notebooks").glob("*.ipynb"))
pytest.importorskip("nbclient", reason="notebooks need the extra dev")
pytest.importorskip("ipykernel", reason="notebooks need the extra dev")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path):
    shutil.copy(notebook, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", notebook.name],
        cwd=tmp_path,
        env=os.environ | {"CLEFTNET_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [notebook.name]  # it leaves nothing behind


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_the_outputs_of_one_run(notebook):
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
