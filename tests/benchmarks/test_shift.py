"""The benchmark of changed gray values, on a comparison of two small folds."""

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
    shift.main([str(finished)])
    plain, narrow = np.concatenate(seen[:2], 2), np.concatenate(seen[2:], 2)
    assert narrow.std() == pytest.approx(0.6 * plain.std(), rel=0.05)
    shift.main([str(finished), "--match", "5", "95"])
    matched = np.concatenate(seen[6:], 2)
    assert matched.std() == pytest.approx(plain.std(), rel=0.05)
    assert np.abs(np.concatenate(seen[4:6], 2).astype(int) - plain).max() <= 1

    predictions, said = len(seen), capsys.readouterr().out
    shift.main([str(finished)])
    assert len(seen) == predictions
    again = capsys.readouterr().out
    assert again in said
    assert "best of unchanged: threshold " in again
    assert again.splitlines()[-1].startswith("contrast 0.6 ")
