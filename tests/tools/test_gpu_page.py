"""The tables of docs/gpu.md are what the finished measurements in docs/results/gpu say."""

import json
from pathlib import Path

import pytest

from tools.check_results import NUMBER, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gpu.md").read_text()
STEPS = {  # how a step is called on the page: in speed.json
    "SegNet": "segnet",
    "3D U-Net": "unet3d",
    "V-Net": "vnet",
    "ResUnet": "resunet",
    "CleftNet w/o FA": "cleftnet-no-fa",
    "AttnUnet": "attnunet",
    "CleftNet, one query": "cleftnet, one query",
    "CleftNet, 4\u00d74 queries": "cleftnet, 4\u00d74 queries",
    "CleftNet w/o LA": "cleftnet-no-la",
    "CleftNet": "cleftnet",
    "CleftNet w SelfAttn": "cleftnet-selfattn",
    "CleftNet, all keys and queries, batch 1": "cleftnet, all keys and queries, one patch",
}
PREDICTIONS = {
    "tiles side by side, bf16": "prediction, overlap 0",
    "tiles side by side, float32 without TF32": "prediction, overlap 0, float32",
    "overlap 0.5, bf16": "prediction, overlap 0.5",
    "overlap 0.5, MONAI's sliding windows, same network, autocast, all on the GPU": "MONAI, overlap 0.5",
}
ROWS = {
    "ResUnet": "resunet",
    "CleftNet w/o FA": "cleftnet-no-fa",
    "CleftNet w/o LA": "cleftnet-no-la",
    "CleftNet": "cleftnet",
    "CleftNet, one query, \u03b1\u2082 = 0": "coarse",
    "CleftNet w/o LA, one query": "coarse-fa",
}


def measured(name):
    """The measured values of a part, by their names."""
    found = json.loads((ROOT / f"docs/results/gpu/{name}.json").read_text())
    return {name: one["values"] for name, one in found.items()}


def shown(cell, value):
    """Whether a cell of the page shows a value, rounded to the digits that it has."""
    number = NUMBER.match(cell)[0]
    digits = len(number.partition(".")[2])
    return float(number) == round(value, digits)


def rows(heading, number=1):
    """The rows of a table of the page: name and cells."""
    return {next(iter(row.values())): list(row.values())[1:] for row in table(PAGE, heading, number)}


def test_every_step_is_on_the_page_as_measured():
    speed, page = measured("speed"), rows("Measured")
    assert page.keys() == STEPS.keys()
    assert len(page) == sum(name.startswith("step, ") for name in speed)
    for name, (ms, against, rate, gib) in page.items():
        found = speed[f"step, {STEPS[name]}"]
        assert shown(ms, found["seconds"] * 1000), name
        assert shown(against, 1 if name == "ResUnet" else found["against_resunet"]), name
        assert shown(rate, found["patches_per_second"]), name
        assert shown(gib, found["peak_gib"]), name


def test_every_prediction_is_on_the_page_as_measured():
    speed, page = measured("speed"), rows("Measured", 2)
    assert page.keys() == PREDICTIONS.keys()
    for name, cells in page.items():
        found = speed[PREDICTIONS[name]]
        values = (found[key] for key in ("mvoxel", "seconds", "mvoxel_per_second"))
        assert all(shown(cell, value) for cell, value in zip(cells, values, strict=True)), name


def test_the_trained_rows_are_on_the_page_as_scored():
    cells = {one["row"]: one["cell"] for one in measured("table").values()}
    page = rows("Table IV at the paper's widths and patch")
    assert page.keys() == ROWS.keys()
    assert set(ROWS.values()) == cells.keys()
    for name, (steps, auc, f1, cremi_score, best, synapse_f1) in page.items():
        cell = cells[ROWS[name]]
        scores = cell["scores"]
        assert shown(steps, cell["effort"]["steps"]), name
        assert shown(auc, scores["auc"]), name
        assert shown(f1, scores["f1"]), name
        assert shown(cremi_score, scores["cremi_score"]), name
        assert shown(best, scores["best_cremi_score"]), name
        assert shown(synapse_f1, cell["objects"]["f1"]), name


def test_the_page_says_how_many_checks_passed_and_names_the_failed_ones():
    outcomes = {name: one["outcome"] for name, one in measured("checks").items()}
    passed = list(outcomes.values()).count("passed")
    assert f"{passed} of {len(outcomes)} passed" in PAGE
    failed = sorted(name.split("[")[1] for name, outcome in outcomes.items() if outcome != "passed")
    assert failed == ["16-mixed]", "segnet-16-mixed]", "segnet-bf16-mixed]"]  # described in the page's list


@pytest.mark.parametrize("part", ["speed", "table"])
def test_everything_was_measured_on_the_card_that_the_page_names(part):
    runs = [one["run"] for one in json.loads((ROOT / f"docs/results/gpu/{part}.json").read_text()).values()]
    assert {run["device"] for run in runs} == {"NVIDIA H200"}
    assert all(run["driver"] in PAGE and run["git"] in PAGE for run in runs)
