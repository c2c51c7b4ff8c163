"""The benchmark of changed gray values, on a comparison of two small folds."""

import json

import numpy as np
import pytest
import yaml

import cleftnet
from benchmarks import shift


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cremi_file):
    """The folder of a comparison whose only cell is finished."""
    folder = tmp_path_factory.mktemp("shift")
    content = {
        "base": {
            "net": {"name": "resunet", "patch": [8, 16, 16], "widths": [2, 4]},
            "data": {"train": [{"raw": str(cremi_file), "roi": "0:16,0:96,0:96"}]},
            "sampling": {"min_cleft_voxels": 20},
            "training": {"steps": 2, "batch": 2, "validation_overlap": 0},
        },
        "folds": {"axis": "x", "borders_vox": [57]},
        "synapses": {"thresholds": [0.1, 0.5], "seed_thresholds": [0], "sizes_nm3": [0], "gaps": [1], "scores": []},
        "seeds": [0],
        "rows": {"coarse": {"label": "ResUnet", "set": {}}},
    }
    (folder / "tables.yaml").write_text(yaml.safe_dump(content))
    assert not cleftnet.compare(folder / "tables.yaml", folder / "out").failed
    return folder / "out"


def test_changed_volumes_are_scored_and_what_is_known_is_read_again(finished, monkeypatch, capsys):
    seen = []
    predicted = shift.whole_logits

    def watched(net, raw, **settings):
        seen.append(raw.read())
        return predicted(net, raw, **settings)

    monkeypatch.setattr(shift, "whole_logits", watched)
    monkeypatch.setattr(
        shift, "SHIFTS", {"unchanged": shift.SHIFTS["unchanged"], "contrast 0.6": shift.SHIFTS["contrast 0.6"]}
    )
    shift.main([str(finished), "--json", str(finished / "f1.json")])
    plain, *others = [np.concatenate(seen[first : first + 2], 2) for first in range(0, 12, 2)]
    same = [np.abs(values.astype(int) - plain).max() for values in others[:2]]
    assert same[0] <= 1  # matched with itself
    assert [values.std() / plain.std() for values in others] == pytest.approx([1, 1, 0.6, 1, 1], rel=0.1)
    rows = json.loads((finished / "f1.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["unchanged", "contrast 0.6"]
    assert all(0 <= row[matched] <= 1 for row in rows for matched in shift.MATCHED)

    predictions, said = len(seen), capsys.readouterr().out
    assert said.startswith("threshold ")
    shift.main([str(finished)])
    assert len(seen) == predictions == 12
    assert capsys.readouterr().out == said
