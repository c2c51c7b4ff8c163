"""The verb `review`: makes a set, takes decisions, applies them, all without a viewer."""

import json

import numpy as np
import pytest

from cleftnet.cli import main
from cleftnet.synapses import find_synapses
from cleftnet.volumes import Volume, write_volume


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.zeros((4, 40, 60), np.uint8)
    values[1:3, 2:12, 2:22], values[1:3, 20:30, 30:50] = 200, 220
    write_volume(Volume(values, (50, 10, 10), threshold=0.5), "prediction.zarr/volumes/probability")
    find_synapses("prediction.zarr", "synapses")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["review", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_an_evening_without_a_viewer(workspace, capsys):
    code, out, _ = run(capsys, "synapses", "looks")
    assert code == 0
    assert "0 of 2 decided" in out
    assert run(capsys, "looks", "--by", "ada", "--accept", "1", "--reject", "2")[0] == 0
    code, out, _ = run(capsys, "looks", "--json")
    assert [row["verdict"] for row in json.loads(out)["candidates"]] == ["accept", "reject"]
    code, out, err = run(capsys, "looks", "--apply", "corrected", "--json")
    assert code == 0
    assert json.loads(out)["precision"]["value"] == 0.5
    assert "recall assumes" in err


def test_wrong_input_is_explained_and_decides_nothing(workspace, capsys):
    run(capsys, "synapses", "looks")
    for arguments, message in (
        (("--accept", "1"), "add --by NAME"),
        (("--by", "ada", "--accept", "1,9"), "there is no candidate 9"),
        (("--by", "ada", "--accept", "1", "--reject", "1"), "decided twice"),
        (("--by", "ada", "--redraw", "1"), "try --redraw 4=fixed.hdf"),
        (("--seed", "3"), "need an output"),
        (("other", "--by", "ada", "--accept", "1"), "decide with"),
    ):
        code, _, err = run(capsys, "looks", *arguments)
        assert (code, message in err) == (2, True), err
    assert "0 of 2 decided" in run(capsys, "looks")[1]
