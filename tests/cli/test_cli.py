"""The program as people meet it: a subprocess, its output, its exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from cleftnet.cli.demo import HELD_OUT, SHAPE
from cleftnet.cli.options import block_size, chunk_size, patch_size
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import load_card, save_model
from cleftnet.models.released import list_models
from cleftnet.nets.zoo import ZOO
from cleftnet.volumes import LABELS, PREDICTION, open_volume, write_volume

PROGRAM = [sys.executable, "-c", "from cleftnet.cli import main; main()"]


def cleftnet(*arguments, code=0, cwd=None):
    """Run the program; return what it printed to stdout, or to stderr where it should fail."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_results_for_a_full_disk_are_one_line():
    with FULL.open("w") as full:
        done = subprocess.run([*PROGRAM, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    advice = "free some space or choose another disk, and try again"
    assert done.stderr == f"error: cannot write (No space left on device); {advice}\n"
    assert done.returncode == 2


def test_results_that_nobody_reads_end_the_program_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PROGRAM, "models"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def checkpoint(model, tmp_path):
    save_model(tmp_path / "m.safetensors", model)
    return tmp_path / "m.safetensors"


def test_the_way_from_recipe_to_scores(cremi_file, tmp_path):
    """train, predict, evaluate: each verb takes what the one before it left."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [4, 8], "max_keys": 64},
                "data": {
                    "train": [{"raw": str(cremi_file), "roi": "0:16,0:64,0:96"}],
                    "validate": [{"raw": str(cremi_file), "roi": "0:16,64:96,0:96"}],
                },
                "training": {"steps": 2, "batch": 1, "validate_every": 1},
            }
        )
    )
    assert "best.safetensors" in cleftnet("train", recipe, "--out", tmp_path / "run", "--set", "training.steps=1")
    cleftnet("predict", tmp_path / "run", cremi_file, tmp_path / "p.hdf", "--roi", "0:16,64:96,0:96")
    scores = json.loads(cleftnet("evaluate", tmp_path / "p.hdf", cremi_file, "--roi", "0:16,64:96,0:96", "--json"))
    keys = "cremi_score adgt adf f1 precision recall auc fp_far fn_far threshold voxels_scored objects"
    assert set(keys.split()) <= set(scores)
    keys = "precision recall f1 true predicted matched splits merges by_size average_precision"
    assert set(scores["objects"]) == set(keys.split())
    assert scores["voxels_scored"] == 16 * 32 * 96


def test_truth_against_itself_is_perfect(cremi_file):
    scores = json.loads(cleftnet("evaluate", f"{cremi_file}/volumes/labels/clefts", cremi_file, "--json"))
    assert (scores["f1"], scores["cremi_score"], scores["objects"]["f1"]) == (1.0, 0.0, 1.0)


def test_several_pairs_get_a_table_each_and_the_mean_of_the_challenge(cremi_file, tmp_path):
    """One perfect volume, and one whose labels are a section (40 nm) off: the mean CREMI score is half the second's."""
    from cleftnet.volumes import Volume

    truth = open_volume(cremi_file, default=LABELS)
    write_volume(Volume(np.roll(truth.read(), 1, axis=0), truth.voxel_size), tmp_path / "off.hdf", default=LABELS[0])
    pairs = (cremi_file, cremi_file, tmp_path / "off.hdf", cremi_file)
    labels = [f"{address}/volumes/labels/clefts" for address in pairs]
    scores = json.loads(cleftnet("evaluate", *labels, "--json"))
    first, second = scores["volumes"]
    assert first["cremi_score"] == 0 < second["cremi_score"] <= 40
    assert scores["cremi_score"] == second["cremi_score"] / 2
    assert scores["voxels_scored"] == 2 * truth.box.voxels
    assert second["prediction"] == labels[2]
    assert {"f1", "auc", "fp_far", "threshold", "objects"} <= set(scores)
    said = cleftnet("evaluate", *labels)
    assert f"{labels[2]} against {labels[3]}" in said
    assert "mean over 2 volumes" in said
    assert re.search(r"^mean f1 .*\n(.*\n)*pooled f1 ", said, flags=re.MULTILINE)


def test_one_pair_has_no_mean_and_sections_only_when_asked_for(cremi_file):
    labels = f"{cremi_file}/volumes/labels/clefts"
    said = cleftnet("evaluate", labels, cremi_file)
    assert "mean" not in said
    sections = open_volume(cremi_file).shape[0]
    added = cleftnet("evaluate", labels, cremi_file, "--sections").removeprefix(said).splitlines()
    assert added[0] == ""  # sets the sections apart
    assert added[1].split()[:1] == ["z"]
    assert [row.split()[0] for row in added[2:]] == [str(z) for z in range(sections)]


def test_a_submission_is_written_and_its_verdict_told(cremi_file, tmp_path):
    said = cleftnet("submit", f"{cremi_file}/volumes/labels/clefts", tmp_path / "s.hdf", "--raw", cremi_file)
    assert said.startswith(f"{tmp_path / 's.hdf'}: warning\n")
    assert "warning: the volume is 16×96×96 voxels; the challenge's are 125×1250×1250" in said
    assert "in voxels of" in said
    assert cleftnet("check", tmp_path / "s.hdf", "--submission").startswith(f"{tmp_path / 's.hdf'}: ok\n")


def test_a_broken_file_is_told_and_ends_with_code_2(cremi_file, tmp_path):
    import h5py

    with h5py.File(tmp_path / "zeros.hdf", "w") as file:
        file["volumes/labels/clefts"] = np.zeros((2, 3, 4), np.uint64)
    assert "not sound: " in cleftnet("check", cremi_file, tmp_path / "zeros.hdf", code=2)
    assert cleftnet("check", cremi_file).startswith(f"{cremi_file}: ok\n")
    (entry,) = json.loads(cleftnet("check", cremi_file, "--json"))
    assert (entry["verdict"], {finding["verdict"] for finding in entry["findings"]}) == ("ok", {"ok"})


def test_any_array_is_converted(cremi_file, tmp_path):
    assert cleftnet("convert", cremi_file, tmp_path / "l.tif", "--labels") == f"{tmp_path / 'l.tif'}\n"
    cleftnet("convert", tmp_path / "l.tif", tmp_path / "l.hdf", "--voxel-size", "40,4,4")
    assert cleftnet("check", tmp_path / "l.hdf", "--submission").startswith(f"{tmp_path / 'l.hdf'}: ok\n")


def test_a_sweep_names_the_best_thresholds(cremi_file, checkpoint, tmp_path):
    cleftnet("predict", checkpoint, cremi_file, tmp_path / "p.hdf", "--overlap", "0")
    assert "best F1" in cleftnet("evaluate", tmp_path / "p.hdf", cremi_file, "--sweep")


def test_info_tells_geometry_and_labels(cremi_file, synthetic):
    found = {d["address"].rsplit("/", 1)[1]: d for d in json.loads(cleftnet("info", cremi_file, "--json"))}
    assert found["raw"]["shape"] == [16, 96, 96]
    assert found["raw"]["voxel_size_nm"] == [40, 4, 4]
    assert found["clefts"]["clefts"] == len(np.unique(synthetic.labels.read())) - 1


def test_info_does_not_take_sixteen_bit_gray_values_for_labels(tmp_path, synthetic):
    from cleftnet.volumes import Volume

    write_volume(Volume(synthetic.raw.read().astype(np.uint16)), tmp_path / "a.tif")
    assert json.loads(cleftnet("info", tmp_path / "a.tif", "--json"))[0]["clefts"] is None


def test_models_lists_every_network_with_its_parameters():
    """The numbers are those worked out by hand in docs/method.md, "Parameters at the paper's size, by hand"."""
    rows = {line.split()[0]: line.split()[1:3] for line in cleftnet("models").splitlines() if line}
    assert rows["segnet"] == ["4,330,817", "0"]
    assert rows["unet3d"] == ["5,735,873", "0"]
    assert rows["resunet"] == ["8,087,553", "0"]
    assert rows["cleftnet"] == ["51,936,578", "43,851,776"]
    assert ZOO.keys() <= rows.keys()


def test_models_as_json_has_every_network_and_every_released_model():
    found = json.loads(cleftnet("models", "--json"))
    assert found.keys() == {*ZOO, *list_models()}
    assert {name for name, one in found.items() if one["kind"] == "released"} == set(list_models())
    assert found["resunet"]["parameters"] == 8_087_553
    for name in list_models():
        card = load_card(name)
        assert found[name]["networks"] == card.members
        assert found[name]["trees"] == (card.trees is not None)
        assert found[name]["voxel_size_nm"] == list(card.voxel_size_nm)
        assert found[name]["scores"]["f1"] == card.scores["f1"]


def test_models_as_json_of_one_network_is_that_network_alone():
    assert json.loads(cleftnet("models", "unet3d", "--json")).keys() == {"unet3d"}


def test_doctor_finds_the_installation_sound():
    assert "failed" not in cleftnet("doctor")


def test_doctor_prints_one_json_object_for_an_issue():
    report = json.loads(cleftnet("doctor", "--json"))
    assert report["healthy"]
    assert {"python", "cleftnet", "torch", "device"} <= set(report["facts"])
    assert report["checks"]
    assert not any(report["checks"].values())


def test_a_tiff_series_is_predicted_with_a_voxel_size_given(checkpoint, synthetic, tmp_path):
    from cleftnet.volumes import Volume

    write_volume(Volume(synthetic.raw.read()), tmp_path / "stack" / "*.tif")
    stack = tmp_path / "stack" / "*.tif"
    assert "--voxel-size" in cleftnet("predict", checkpoint, stack, tmp_path / "p.hdf", code=2)
    cleftnet("predict", checkpoint, stack, tmp_path / "p.hdf", "--voxel-size", "40,4,4", "--overlap", "0")
    assert open_volume(tmp_path / "p.hdf/volumes/probability").voxel_size_nm == (40, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nothing.hdf"], "nothing.hdf does not exist"),
        (["info", "{file}/volumes/rawr"], "volumes/raw"),
        (["predict", "nothing", "{file}", "out.hdf"], "no model at nothing"),
        (["predict", "{model}", "{file}", "out.hdf", "--roi", "1:2"], "z0:z1,y0:y1,x0:x1"),
        (
            ["predict", "{model}", "{file}", "out.hdf", "--roi", "0:4,0:96,0:96"],
            "patch 8×32×32 is larger than the region",
        ),
        (["predict", "{model}", "{file}", "out.hdf", "--roi", "0:16,0:96,0:200"], "reaches outside"),
        (
            ["predict", "{model}", "{file}", "out.hdf", "--overlap", "1"],
            "overlap: Input should be less than or equal to 0.9",
        ),
        (["predict", "{model}", "{file}", "{file}"], "exists already"),
        (["evaluate", "{file}/volumes/labels/clefts", "{file}", "--threshold", "0.5"], "takes no threshold"),
        (["evaluate", "a.hdf", "b.hdf", "c.hdf"], "3 addresses are no pairs"),
        (["submit", "{file}", "out.hdf", "--threshold", "0.5"], "takes no threshold"),
        (["submit", "{file}/volumes/labels/clefts", "{file}"], "exists already"),
        (["convert", "{file}", "out.xyz"], "format '.xyz' is unknown"),
        (["convert", "{file}", "{file}"], "exists already"),
        (["download", "cremi", "--sample", "Z"], "CREMI has no sample 'Z'"),
        (["check", "nothing.hdf"], "nothing.hdf does not exist"),
        (["train", "nothing.yaml"], "no recipe 'nothing.yaml'"),
        (["models", "clefnet"], "did you mean 'cleftnet'"),
        (["info", "{file}", "--voxel-size", "4"], "try --voxel-size 40,4,4"),
        (["info"], "VOLUME"),
        (["flap"], "flap"),
        (["info", "{file}", "--jason"], "--jason"),
    ],
)
def test_wrong_input_gets_one_line_and_exit_code_2(arguments, message, cremi_file, checkpoint, tmp_path):
    said = cleftnet(*[a.format(file=cremi_file, model=checkpoint) for a in arguments], code=2, cwd=tmp_path)
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out.hdf").exists()


def test_debug_shows_where_it_happened():
    assert "Traceback" in cleftnet("--debug", "info", "nothing.hdf", code=1)


@pytest.mark.slow
def test_the_demo_learns_and_leaves_what_it_promises(tmp_path):
    said = cleftnet("demo", tmp_path / "demo")
    for name in (
        "volume.hdf",
        "run/best.safetensors",
        "prediction.hdf",
        "scores.json",
        "synapses/synapses.csv",
        "report.html",
    ):
        assert (tmp_path / "demo" / name).is_file()
    assert json.loads((tmp_path / "demo" / "scores.json").read_text())["f1"] >= 0.6
    assert "cremi_score" in said
    predicted, held_out = open_volume(tmp_path / "demo/prediction.hdf", default=PREDICTION), HELD_OUT[1] - HELD_OUT[0]
    assert predicted.shape == (SHAPE[0], held_out, SHAPE[2])
    assert predicted.offset_nm == (0, HELD_OUT[0] * 4, 0)
    synapses = (tmp_path / "demo/synapses/synapses.csv").read_text().splitlines()[1:]
    truth = open_volume(tmp_path / "demo/volume.hdf", default=LABELS).read()[:, HELD_OUT[0] : HELD_OUT[1]]
    true = len(np.unique(truth)) - 1
    assert true / 2 <= len(synapses) <= 2 * true


@pytest.mark.parametrize(("parse", "option"), [(patch_size, "patch"), (block_size, "block"), (chunk_size, "chunk")])
@pytest.mark.parametrize("text", ["8,256", "8,x,256", ""])
def test_sides_that_are_not_three_whole_numbers_name_their_option(parse, option, text):
    with pytest.raises(InputError, match=f"--{option} '{text}' is not three sides in voxels, z,y,x; try --{option} "):
        parse(text)
