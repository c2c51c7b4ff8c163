"""What an install brings: computed from the metadata of what is installed here."""

import subprocess
import sys

from packaging.requirements import Requirement

from tools.installed import brought_by, link_into, megabytes, requirements_of


def test_an_install_brings_what_its_requirements_need_in_turn_and_nothing_else():
    found = brought_by([Requirement("typer")])
    assert {"typer", "rich", "markdown-it-py", "mdurl"} <= set(found)
    assert "numpy" not in found


def test_the_size_is_that_of_the_files(tmp_path):
    one = brought_by([Requirement("mdurl")])["mdurl"]
    files = [file.locate() for file in one.files if file.suffix != ".pyc"]
    assert megabytes([one]) == sum(path.stat().st_size for path in files) / 1e6 > 0


def test_the_base_brings_no_extra():
    assert not {"scikit-learn", "tensorboard", "imagecodecs", "onnx", "pytest"} & set(brought_by(requirements_of()))
    assert "scikit-learn" in brought_by(requirements_of("trees"))


def test_linked_packages_are_imported_from_the_folder_and_others_are_not_found(tmp_path):
    link_into(tmp_path, brought_by([Requirement("typer")]).values())
    only = f"sys.path[:] = [path for path in sys.path if 'packages' not in path] + [{str(tmp_path)!r}]"
    code = f"import sys; {only}; import typer; import numpy"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'numpy'" in done.stderr
