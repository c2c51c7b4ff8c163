import csv
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cleftnet.errors import InputError
from cleftnet.metrics.calibration import Calibration
from cleftnet.nets.zoo import build
from cleftnet.training.log import RunLog, cut_back
from cleftnet.training.schedule import TrainingSettings, initial_state
from cleftnet.training.validation import Scores, Validation

SCORES = Scores(
    f1=0.5,
    precision=0.4,
    recall=0.6,
    auc=0.9,
    cremi_score=None,
    adgt=1.0,
    adf=2.0,
    threshold=0.5,
    calibration_error=0.1,
    uncalibrated_error=0.2,
)


@pytest.fixture
def state():
    return initial_state(build("unet3d", widths=(2, 4), patch=(2, 4, 4)), TrainingSettings(steps=4))


def take(state, log, *totals):
    """Pretend to take a step for each total loss, in half a second, a tenth of it waiting for data."""
    for total in totals:
        state.step += 1
        state.losses.append(torch.tensor([total, 1.0, 2.0, 3.0, 4.0]))
        log.step(0.01, 0.5, 0.1)


def validate(state, log):
    picture = np.zeros((4, 12), np.uint8)
    state.record(SCORES, "f1")
    log.validation(0.01, Validation(Calibration(), SCORES, picture), is_best=True)
    state.losses.clear()


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_step_and_each_validation_gets_its_line(state, tmp_path):
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 1.0, 3.0)
        validate(state, log)
    assert [(row["step"], row["loss_total"]) for row in rows(tmp_path / "losses.csv")] == [("1", "1.0"), ("2", "3.0")]
    (row,) = rows(tmp_path / "metrics.csv")
    assert (row["step"], row["loss_total"], row["f1"], row["cremi_score"]) == ("2", "2.0", "0.5", "")


def test_speed_and_waiting_are_those_since_the_last_validation(state, tmp_path):
    """Two steps of three patches in one second: 6 a second; a fifth of the time waiting."""
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 1.0, 1.0)
        validate(state, log)
    (row,) = rows(tmp_path / "metrics.csv")
    assert (row["patches_per_second"], row["data_wait"]) == ("6.0", "0.2")


def test_tensorboard_shows_losses_rate_scores_and_a_picture(state, tmp_path):
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 1.0, 3.0)
        validate(state, log)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 1.0), (2, 3.0)]
    assert [e.value for e in events.Scalars("validation/f1")] == [0.5]
    assert {"loss/segmentation", "loss/boundary", "loss/coherence", "learning_rate"} <= set(events.Tags()["scalars"])
    assert "validation/cremi_score" not in events.Tags()["scalars"]  # undefined
    assert len(events.Images("validation/raw, truth, probability")) == 1


def test_a_leg_that_begins_again_hides_what_went_beyond(state, tmp_path):
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 1.0, 2.0, 3.0)
    state.step = 1
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 20.0)
    assert [row["loss_total"] for row in rows(tmp_path / "losses.csv")] == ["1.0", "20.0"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 1.0), (2, 20.0)]


def test_a_table_cut_back_to_nothing_keeps_its_header(tmp_path):
    (tmp_path / "t.csv").write_text("step,loss\n1,0.5\n")
    cut_back(tmp_path / "t.csv", 0)
    assert (tmp_path / "t.csv").read_text() == "step,loss\n"


@pytest.mark.parametrize("line", [b"2,0.\xff4", b"two,0.4", b"\x002,0.4"])
def test_a_damaged_line_is_named_and_the_file_stays(tmp_path, line):
    table = tmp_path / "losses.csv"
    table.write_bytes(b"step,loss\n1,0.5\n" + line + b"\n3,0.3\n")
    before = table.read_bytes()
    with pytest.raises(InputError, match=r"line 3 of .*losses.csv is damaged; correct or delete the line"):
        cut_back(table, 3)
    assert table.read_bytes() == before


def test_without_tensorboard_the_tables_are_written_and_a_message_says_so(state, tmp_path, monkeypatch, messages):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, state, steps=4, patches=3) as log:
        take(state, log, 1.0)
        validate(state, log)
    assert "pip install 'cleftnet[tensorboard]'" in messages.text
    assert len(rows(tmp_path / "losses.csv")) == len(rows(tmp_path / "metrics.csv")) == 1
    assert not (tmp_path / "tensorboard").exists()
