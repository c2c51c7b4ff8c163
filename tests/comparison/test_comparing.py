"""A whole comparison, killed and gone on with, shared, failing in parts, and refused before anything is trained."""

import copy
import errno
import importlib.util
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from cleftnet.cli import main
from cleftnet.comparison import RESULTS, TABLES, CellFolder, Comparison, Plan, Results, cell_making, compare, comparing
from cleftnet.comparison.recipe import with_defaults
from cleftnet.errors import InputError
from cleftnet.files import holding, replacing
from cleftnet.metrics.calibration import Calibration
from cleftnet.prediction import to_uint8
from cleftnet.training.recipe import load_recipe
from cleftnet.training.runs import train
from cleftnet.volumes import open_volume

TIMES = ("minutes", "seconds_per_step", "provenance")
CHILD = """
import os, signal, sys, torch
torch.set_num_threads(int(sys.argv[1]))
import cleftnet.training.log
from cleftnet.comparison import compare

honest = cleftnet.training.log.RunLog.step
def step(self, *values):
    honest(self, *values)
    if "resunet" in str(self.losses) and self.state.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
cleftnet.training.log.RunLog.step = step
compare(sys.argv[2], sys.argv[3])
"""


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """The folder of the comparison that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    compare(Comparison.model_validate(tiny), out)
    return out


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def results(out):
    return json.loads((out / RESULTS).read_text())


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code


@pytest.fixture
def quick(whole, monkeypatch):
    """Make cells by copying those of the whole comparison; returns the list of those that were made."""
    made = []

    def make(comparison, row, seed, folder):
        made.append((row, seed))
        cell = CellFolder.of(whole, row, 0).load()
        return cell.model_copy(update={"seed": seed, "recipe": comparison.described(row, seed)})

    monkeypatch.setattr(comparing, "make_cell", make)
    return made


def test_a_comparison_killed_and_interrupted_ends_as_if_it_never_had_been(tiny, write, whole, tmp_path, monkeypatch):
    path, out = write(tiny), tmp_path / "out"
    child = [sys.executable, "-c", CHILD, str(torch.get_num_threads()), str(path), str(out)]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [len(results(out)["cells"]), results(out)["missing"]] == [1, 1]

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cell_making, "score_regions", interrupt)  # the training has ended, its regions are predicted
        assert run("compare", path, "--out", out) == 130
    assert compare(path, out).missing == 0
    assert without_times(results(out)) == without_times(results(whole))


def test_a_finished_comparison_holds_every_cell_with_its_scores_tables_and_differences(whole):
    found = results(whole)
    assert [(cell["row"], cell["seed"]) for cell in found["cells"]] == [("cleftnet", 0), ("resunet", 0)]
    for cell in found["cells"]:
        assert cell["recipe"]["training"]["steps"] == cell["effort"]["steps"] == 4
        assert cell["provenance"]["data"]["validate"][0]["labels_sha256"]
        hits, misses = (sum(t[name] for t in cell["territories"][0]) for name in ("true_positives", "false_negatives"))
        assert cell["scores"]["recall"] == pytest.approx(hits / (hits + misses))
        assert cell["objects"]["matched"] == sum(t["matched"] for t in cell["territories"][0])
    assert [line["row"] for line in found["tables"][0]["lines"]] == ["resunet", "cleftnet"]
    assert {(d["reference"], d["row"]) for d in found["differences"]} == {("cleftnet", "resunet")}
    text = (whole / TABLES).read_text()
    assert "| ResUnet | 1 |" in text
    assert "| 0.874 |" in text
    assert "CREMI, paper: F1" in text


def test_results_give_the_scores_of_every_cell_as_plain_values(whole):
    scores = Results.model_validate_json((whole / RESULTS).read_text()).scores
    cells = results(whole)["cells"]
    assert [(cell["row"], cell["seed"]) for cell in scores] == [("cleftnet", 0), ("resunet", 0)]
    assert [cell["f1"] for cell in scores] == [cell["scores"]["f1"] for cell in cells]
    assert [cell["object_f1"] for cell in scores] == [cell["objects"]["f1"] for cell in cells]


def test_what_is_finished_is_never_made_again_and_rows_run_seed_by_seed(tiny, quick, tmp_path):
    comparison = Comparison.model_validate({**tiny, "seeds": [0, 1]})
    compare(comparison, tmp_path, rows=["resunet"], seeds=[1])
    assert quick == [("resunet", 1)]
    assert len(compare(comparison, tmp_path).cells) == 4
    assert quick == [("resunet", 1), ("cleftnet", 0), ("resunet", 0), ("cleftnet", 1)]
    compare(comparison, tmp_path)
    assert len(quick) == 4


def test_a_cell_that_fails_is_told_and_the_others_are_made(tiny, write, quick, tmp_path, monkeypatch, capsys):
    honest, out = comparing.make_cell, tmp_path / "out"

    def failing(comparison, row, seed, folder):
        if row == "cleftnet":
            raise RuntimeError("no memory left")
        return honest(comparison, row, seed, folder)

    with monkeypatch.context() as patched:
        patched.setattr(comparing, "make_cell", failing)
        assert run("compare", write(tiny), "--out", out) == 1
    assert "cleftnet, seed 0: RuntimeError: no memory left" in capsys.readouterr().err
    found = results(out)
    assert [failure["row"] for failure in found["failed"]] == ["cleftnet"]
    assert [cell["row"] for cell in found["cells"]] == ["resunet"]
    assert run("compare", write(tiny), "--out", out) == 0
    assert (results(out)["failed"], len(results(out)["cells"])) == ([], 2)


def test_cells_that_fail_because_of_the_data_are_one_line_and_code_2(tiny, write, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise InputError("a.hdf cannot be read")

    monkeypatch.setattr(comparing, "make_cell", failing)
    out = tmp_path / "out"
    assert run("compare", write(tiny), "--out", out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"error: cleftnet, seed 0: a.hdf cannot be read (1 more failed: {out / RESULTS} lists all)"


def test_a_full_disk_ends_a_comparison_which_goes_on_when_there_is_room(
    tiny, write, quick, tmp_path, monkeypatch, capsys
):
    def failing(comparison, row, seed, folder):
        with replacing(folder.file):
            raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(comparing, "make_cell", failing)
        assert run("compare", write(tiny), "--out", out) == 2
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1
    assert not list(out.rglob("failed.txt"))
    assert run("compare", write(tiny), "--out", out) == 0


def test_what_a_killed_start_left_in_the_folder_is_no_other_file(tiny, quick, tmp_path):
    (tmp_path / ".recipe.yaml.0f3a9c21.part").touch()
    assert len(compare(Comparison.model_validate(tiny), tmp_path, rows=["resunet"], seeds=[0]).cells) == 1


def test_a_cell_that_another_process_is_at_is_left_to_it(tiny, quick, tmp_path):
    with holding(CellFolder.of(tmp_path, "cleftnet", 0).lock):
        (tmp_path / "recipe.yaml").write_text("")  # that process wrote it
        found = compare(Comparison.model_validate(tiny), tmp_path)
    assert (quick, found.missing) == ([("resunet", 0)], 1)


def test_a_dry_run_lists_the_cells_and_writes_nothing(tiny, write, whole, tmp_path, capsys):
    assert run("compare", write(tiny), "--out", tmp_path / "out", "--dry-run") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["row", "cleftnet", "resunet"]
    assert lines[1][-1] == "missing"
    assert not (tmp_path / "out").exists()
    assert run("compare", write(tiny), "--out", whole, "--dry-run", "--rows", "resunet") == 0
    assert capsys.readouterr().out.split()[-1] == "done"


def test_the_json_on_stdout_is_what_the_file_holds(tiny, write, whole, capsys):
    assert run("compare", write(tiny), "--out", whole, "--json") == 0
    assert without_times(json.loads(capsys.readouterr().out)) == without_times(results(whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["base"]["training"].update(steps=5), "made with another training.steps"),
        (lambda c: c["synapses"].update(sizes_nm3=[0]), "made with another sizes_nm3"),
    ],
)
def test_cells_that_another_recipe_made_are_not_mixed_in(tiny, whole, quick, change, message):
    content = copy.deepcopy(tiny)
    change(content)
    with pytest.raises(InputError, match=message):
        compare(Comparison.model_validate(content), whole)
    assert quick == []


def test_a_row_that_cannot_be_trained_is_refused_before_any_is(tiny, quick, tmp_path):
    content = copy.deepcopy(tiny)
    content["rows"]["resunet"]["set"]["net.patch"] = [2, 64, 64]
    with pytest.raises(InputError, match="row resunet: patch 2×64×64 is larger"):
        compare(Comparison.model_validate(content), tmp_path)
    assert quick == []


def test_a_training_that_another_recipe_began_is_not_gone_on_with(tiny, quick, tmp_path):
    comparison = Comparison.model_validate(tiny)
    (tmp_path / "recipe.yaml").write_text("")
    begun = CellFolder.of(tmp_path, "resunet", 0).run / "recipe.yaml"
    begun.parent.mkdir(parents=True)
    begun.write_text(yaml.safe_dump(comparison.described("resunet", 0) | {"seed": 5}))
    with pytest.raises(InputError, match="was made with another seed"):
        compare(comparison, tmp_path)
    assert quick == []


def test_hardware_may_change_between_cells(tiny, whole, quick):
    content = copy.deepcopy(tiny)
    content["base"]["hardware"] = {"accelerator": "cpu"}
    assert len(compare(Comparison.model_validate(content), whole).cells) == 2


def test_a_validation_region_without_a_cleft_is_refused(tiny, tmp_path, cremi_file, synthetic):
    from cleftnet.volumes import BACKGROUND, Volume, write_cremi

    empty = synthetic.labels.read() * BACKGROUND
    write_cremi(tmp_path / "empty.hdf", raw=synthetic.raw, clefts=Volume(empty, synthetic.labels.voxel_size))
    content = copy.deepcopy(tiny)
    content["base"]["data"]["validate"] = [{"raw": str(tmp_path / "empty.hdf")}]
    with pytest.raises(InputError, match="holds no cleft"):
        compare(Comparison.model_validate(content), tmp_path / "out")


def test_a_folder_that_holds_something_else_is_left_alone(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no comparison"):
        compare(Comparison.model_validate(tiny), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rows": ["resnet"]}, "no row 'resnet' .* did you mean 'resunet'"), ({"seeds": [7]}, r"no seed 7 .* \[0\]")],
)
def test_an_unknown_row_or_seed_is_refused(tiny, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        compare(Comparison.model_validate(tiny), tmp_path, **options)


def test_seeds_that_are_no_numbers_are_refused(tiny, write, capsys):
    assert run("compare", write(tiny), "--seeds", "a") == 2
    assert "try --seeds 0,1" in capsys.readouterr().err


def test_filters_and_a_random_forest_are_a_row_like_the_others(tiny, tmp_path):
    pytest.importorskip("sklearn")
    content = copy.deepcopy(tiny)
    content["rows"]["forest"] = {"label": "Forest", "classical": {"trees": 5, "voxels": 500, "sigmas_nm": [8]}}
    found = compare(Comparison.model_validate(content), tmp_path, rows=["forest"])
    (cell,) = found.cells
    assert cell.scores.auc > 0.6
    assert (cell.effort.parameters, cell.recipe["classical"]["trees"]) == (None, 5)
    assert "net" not in cell.recipe
    assert compare(Comparison.model_validate(content), tmp_path, rows=["forest"]).cells == found.cells


def test_a_row_of_trees_without_scikit_learn_is_refused_before_anything_is_trained(
    tiny, write, tmp_path, monkeypatch, capsys
):
    content = copy.deepcopy(tiny)
    content["rows"]["forest"] = {"label": "Forest", "classical": {"trees": 5, "voxels": 500, "sigmas_nm": [8]}}
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "sklearn" else found(name, *_))
    assert run("compare", write(content), "--out", str(tmp_path / "out")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'cleftnet[trees]', or choose other --rows" in line
    assert not (tmp_path / "out").exists()
    assert len(Plan.of(Comparison.model_validate(content), tmp_path / "out", rows=["resunet"]).wanted) == 1


@pytest.fixture
def folded(tiny):
    """The tiny comparison with two folds along x, each with one cleft; a network and a forest."""
    content = copy.deepcopy(tiny)
    content["base"]["data"] = {"train": [{**tiny["base"]["data"]["train"][0], "roi": "0:16,0:96,0:96"}]}
    content["folds"] = {"axis": "x", "borders_vox": [57]}
    content["rows"] = {
        "resunet": {"label": "ResUnet", "set": {"net.name": "resunet"}},
        "forest": {"label": "Forest", "classical": {"trees": 3, "voxels": 500, "sigmas_nm": [5.0, 20.0]}},
    }
    return content | {"tables": [{"title": "Two", "rows": ["resunet", "forest"]}], "reference": "resunet"}


def test_folds_score_the_whole_volume_by_models_that_never_saw_it(folded, write, tmp_path):
    found = compare(write(folded), tmp_path / "out")
    assert {(cell.row, len(cell.folds)) for cell in found.cells} == {("resunet", 2), ("forest", 2)}
    assert found.failed == ()
    for cell in found.cells:
        assert [choice.scored for choice in cell.folds] == ["0:16,0:96,0:57", "0:16,0:96,57:96"]
        assert {territory.fold for territory in cell.territories[0]} == {0, 1}
    for number, learned in enumerate(("0:16,0:96,73:96", "0:16,0:96,0:41")):  # a patch of 16 away
        recipe = load_recipe(tmp_path / f"out/cells/resunet/seed-0/fold-{number}/run/recipe.yaml")
        assert [volume.roi for volume in recipe.data.train] == [learned]
        assert recipe.data.validate_on == ()
    assert open_volume(tmp_path / "out/cells/resunet/seed-0/prediction-0.hdf/volumes/probability").shape == (16, 96, 96)
    assert "Out of fold" in (tmp_path / "out" / TABLES).read_text()


def test_folds_that_an_earlier_process_finished_are_kept(folded, write, tmp_path, monkeypatch):
    folded["rows"] = {"resunet": folded["rows"]["resunet"]}
    folded["tables"] = []
    whole = compare(write(folded), tmp_path / "whole")
    calls = []

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(cell_making, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(write(folded), tmp_path / "out")
    longer = copy.deepcopy(folded)
    longer["base"]["training"]["learning_rate"] = 0.5
    with pytest.raises(InputError, match=r"was made with another training\.learning_rate"):
        compare(write(longer), tmp_path / "out")
    assert [cell.state for cell in Plan.of(write(folded), tmp_path / "out").cells()] == ["begun"]
    first = tmp_path / "out/cells/resunet/seed-0/fold-0/logits.npy"
    written = first.stat().st_mtime_ns
    resumed = compare(write(folded), tmp_path / "out")
    assert first.stat().st_mtime_ns == written
    assert resumed.cells[0].scores == whole.cells[0].scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": {"axis": "y", "borders_vox": [200]}}, "do not lie inside"),
        ({"folds": None}, "no data to score on"),
        ({"folds": {"axis": "w", "borders_vox": [48]}}, "folds.axis"),
    ],
)
def test_folds_that_cannot_be_cut_are_refused_before_anything_is_trained(folded, write, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        compare(write(folded | change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_patch_decides_what_a_forest_learns_in_a_fold_and_is_part_of_its_cell(folded):
    folded["rows"] = {"forest": folded["rows"]["forest"]}
    larger = copy.deepcopy(folded)
    folded["tables"], larger["tables"], folded["reference"], larger["reference"] = [], [], "forest", "forest"
    larger["base"]["net"]["patch"] = [8, 24, 24]
    one, other = (Comparison(**content).described("forest", 0) for content in (folded, larger))
    assert one != other
    assert with_defaults(one) == one


def test_a_mean_of_rows_averages_their_logits_out_of_fold(folded, write, tmp_path):
    folded["rows"]["both"] = {"label": "Both", "mean_of": ["resunet", "forest"]}
    (failure,) = compare(write(folded), tmp_path / "out", rows=["both"]).failed
    assert "averages row resunet, which is not finished with seed 0" in failure.error
    found = compare(write(folded), tmp_path / "out")
    cells = {cell.row: cell for cell in found.cells}
    assert set(cells) == {"resunet", "forest", "both"}
    logits = [np.load(tmp_path / f"out/cells/{row}/seed-0/fold-1/logits.npy") for row in ("resunet", "forest")]
    stored = open_volume(tmp_path / "out/cells/both/seed-0/prediction-0.hdf/volumes/probability").read()[:, :, 57:]
    calibration = Calibration(scale=cells["both"].folds[1].scale, shift=cells["both"].folds[1].shift)
    assert np.array_equal(stored, to_uint8(calibration.probability((logits[0] + logits[1]) / 2)))
    assert compare(write(folded), tmp_path / "out").cells == found.cells


def test_a_mean_needs_folds_and_rows_that_are_no_means(folded, tiny):
    mean = {"label": "Both", "mean_of": ["resunet"]}
    with pytest.raises(InputError, match="expected folds"):
        Comparison(**(tiny | {"rows": tiny["rows"] | {"both": {**mean, "mean_of": [next(iter(tiny["rows"]))]}}}))
    folded["rows"] |= {"both": mean, "again": {"label": "Again", "mean_of": ["both"]}}
    with pytest.raises(InputError, match="no means themselves"):
        Comparison(**folded)
