"""From the folders that verbs leave behind to a page."""

import json
import re

import numpy as np
import pytest
import yaml

from cleftnet.cli import main
from cleftnet.comparison import RESULTS, CellFolder, Comparison, Results
from cleftnet.comparison.cells import Cell, Effort, SynapseScores, VoxelScores
from cleftnet.comparison.differences import Difference
from cleftnet.comparison.tables import SCORES, ScoreTable, Spread, TableLine
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import BEST, save_model
from cleftnet.reporting import report
from cleftnet.reporting.sources import comparison_contents, demo_contents
from cleftnet.training.recipe import dump
from cleftnet.volumes import LABELS, PREDICTION, Volume, open_volume, write_cremi, write_volume

SIZE_NM = (40.0, 4.0, 4.0)
ROI = "0:8,32:96,0:96"


@pytest.fixture
def recipe(cremi_file):
    """A recipe as a run directory keeps it, validating on y 32-96 of the first eight sections."""
    return {
        "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [4, 8], "max_keys": 64},
        "data": {
            "train": [{"raw": str(cremi_file)}],
            "validate": [{"raw": str(cremi_file), "roi": ROI}],
        },
        "training": {"steps": 2, "batch": 1, "validate_every": 1, "validation_overlap": 0},
    }


def write_run(folder, model, recipe):
    folder.mkdir(parents=True)
    save_model(folder / BEST, model)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "run.json").write_text(json.dumps({"git": "0123abc", "recipe": recipe}))
    (folder / "metrics.csv").write_text("step,f1,cremi_score\n1,0.25,\n2,0.5,80\n")


def sections(page):
    slices = json.loads(re.search(r'id="slices">(.*?)</script>', page.read_text(), re.S)[1])
    return slices["scenes"][0]["sections"], [key for key, _ in slices["entries"]]


def test_a_run_is_reported_on_its_validation_region(model, recipe, tmp_path, capsys):
    write_run(tmp_path / "run", model, recipe)
    with pytest.raises(SystemExit, match="0"):
        main(["report", str(tmp_path / "run")])
    page = tmp_path / "run" / "report.html"
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert sections(page) == ([0, 1, 2, 3, 4, 5, 6, 7], ["run"])
    assert f"volume, {ROI}" in text
    assert "F1 while training" in text
    assert "git: 0123abc" in text
    assert re.search(r"<pre[^>]*>data:\n", text)


def test_a_page_that_exists_is_refused_before_anything_is_predicted(model, recipe, tmp_path):
    write_run(tmp_path / "run", model, recipe)
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        report(tmp_path / "run", tmp_path / "page.html")


def test_a_page_never_takes_the_name_of_a_volume(model, recipe, tmp_path, capsys):
    write_run(tmp_path / "run", model, recipe)
    (tmp_path / "raw.hdf").write_text("a volume")
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "raw.hdf"), "--overwrite"])
    assert "--out" in capsys.readouterr().err
    assert (tmp_path / "raw.hdf").read_text() == "a volume"


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_with_nothing_to_report_on_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected"):
        report(tmp_path / name)


def test_a_demo_is_reported_on_the_part_that_it_predicted(cremi_file, model, recipe, tmp_path):
    """The prediction's offset says where it lies: y 64-96 of the volume."""
    raw, truth = open_volume(cremi_file), open_volume(cremi_file, default=LABELS)
    write_cremi(tmp_path / "volume.hdf", raw=raw, clefts=truth)
    probability = Volume(np.full((16, 32, 96), 10, np.uint8), raw.voxel_size, (0.0, 64 * 4.0, 0.0), threshold=0.25)
    write_volume(probability, tmp_path / "prediction.hdf", default=PREDICTION[0])
    write_run(tmp_path / "run", model, recipe)
    contents = demo_contents(tmp_path)
    (scene,) = contents.scenes
    assert (scene.origin, scene.raw.shape) == ((0, 64, 0), (16, 32, 96))
    assert contents.entries[0].threshold == 0.25
    assert report(tmp_path) == tmp_path / "report.html"


def write_comparison(out, recipe):
    """Two rows, one of them with two seeds, of three; no scores in them that a page would show."""
    comparison = Comparison.model_validate(
        {
            "base": recipe,
            "seeds": [0, 1],
            "rows": {"unet3d": {"label": "3D U-Net", "set": {"net.name": "unet3d"}}, "cleftnet": {"label": "CleftNet"}},
            "reference": "cleftnet",
        }
    )
    cells = []
    for row, seed in [("unet3d", 0), ("cleftnet", 0), ("cleftnet", 1)]:
        folder = CellFolder.of(out, row, seed)
        folder.run.mkdir(parents=True)
        (folder.run / "metrics.csv").write_text("step,f1,cremi_score\n1,0.25,90\n2,0.5,80\n")
        probability = Volume(np.full((8, 64, 96), 50 + seed, np.uint8), SIZE_NM, (0.0, 32 * 4.0, 0.0))
        write_volume(probability, folder.prediction(0), default=PREDICTION[0])
        cells.append(
            Cell.model_construct(
                row=row,
                label=comparison.rows[row].label,
                seed=seed,
                threshold=0.5 + seed / 10,
                scores=VoxelScores.model_construct(**dict.fromkeys(VoxelScores.model_fields)),
                objects=SynapseScores.model_construct(
                    **{
                        name: None if "None" in str(f.annotation) else 0
                        for name, f in SynapseScores.model_fields.items()
                    }
                ),
                territories=(),
                effort=Effort(parameters=1, steps=2, minutes=1, seconds_per_step=None),
                recipe=comparison.described(row, seed),
                synapse_grid=dump(comparison.synapses),
                provenance={"git": f"git-of-{row}-{seed}"},
            )
        )
    scores = dict.fromkeys(SCORES, Spread(mean=0.612, sd=0.01, seeds=1))
    line = TableLine(row="unet3d", label="3D U-Net", ours=scores, paper={})
    difference = Difference(
        row="unet3d",
        reference="cleftnet",
        score="f1",
        value=0.1,
        low=-0.1,
        high=0.2,
        verdict="noise",
        runs=(1, 1),
        synapses=7,
    )
    results = Results(
        recipe=dump(comparison),
        cells=tuple(cells),
        failed=(),
        missing=1,
        tables=(ScoreTable(title="Table II", reference="cleftnet", lines=(line,)),),
        differences=(difference,),
        provenance={},
    )
    (out / RESULTS).write_text(results.model_dump_json())


def test_a_comparison_is_reported_with_its_reference_first_and_all_its_seeds(recipe, tmp_path):
    write_comparison(tmp_path, recipe)
    contents = comparison_contents(tmp_path)
    assert [(e.key, e.label, e.threshold, len(e.histories)) for e in contents.entries] == [
        ("cleftnet", "CleftNet", 0.5, 2),
        ("unet3d", "3D U-Net", 0.5, 1),
    ]
    assert contents.about.startswith("3 of 4 cells are finished. Validation.")
    table, differences = contents.tables
    assert table.title == "Table II"
    assert (
        dict(zip(table.columns, table.rows[0], strict=True)).items()
        >= {"": "3D U-Net", "F1 ↑": "0.612 ± 0.010"}.items()
    )
    assert (
        differences.title
        == "CleftNet − others: difference [95 % interval over 7 synapses and the trainings, bootstrap]"
    )
    assert differences.rows == (("3D U-Net", "+0.100 [-0.100, +0.200] noise"),)
    page = report(tmp_path)
    assert sections(page) == ([0, 1, 2, 3, 4, 5, 6, 7], ["cleftnet", "unet3d"])
    assert "git-of-unet3d-0" in page.read_text()


def test_a_comparison_whose_prediction_is_gone_says_how_to_get_it_back(recipe, tmp_path):
    write_comparison(tmp_path, recipe)
    CellFolder.of(tmp_path, "unet3d", 0).prediction(0).unlink()
    with pytest.raises(InputError, match=r"prediction-0\.hdf is missing; remove .*cell\.json"):
        report(tmp_path)


def test_results_of_another_version_are_refused_in_one_line(tmp_path):
    (tmp_path / RESULTS).write_text('{"cells": []}')
    with pytest.raises(InputError, match="not of this version"):
        report(tmp_path)


def test_a_comparison_without_a_finished_cell_is_refused(recipe, tmp_path):
    write_comparison(tmp_path, recipe)
    results = Results.model_validate_json((tmp_path / RESULTS).read_bytes())
    (tmp_path / RESULTS).write_text(results.model_copy(update={"cells": ()}).model_dump_json())
    with pytest.raises(InputError, match="no finished cell yet"):
        report(tmp_path)
