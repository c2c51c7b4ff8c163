"""Exported files reproduce `predict`, and say what a program must know to use them."""

import gc
import json
import logging
import tomllib
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.export import blended_from_tiles, opened
from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.exporting import export, forms, onnx_graph
from cleftnet.exporting.bioimage import CARD, run_bioimage
from cleftnet.exporting.description import known_license, released_name
from cleftnet.exporting.forms import FORMS, TOLERANCE, export_source, write_export
from cleftnet.exporting.onnx_graph import run_onnx
from cleftnet.exporting.pt2 import EXTRA_FILE, run_pt2
from cleftnet.geometry import Box
from cleftnet.metrics.calibration import Calibration
from cleftnet.models.checkpoint import Model, ModelCard, load_card, load_model, save_model
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.models.released import LICENSE, list_models
from cleftnet.nets.zoo import ZOO, build
from cleftnet.prediction import PredictionSettings, predict, predict_in_memory
from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import NormalizationSettings, Volume, intensity, normalized, open_volume

ROOT = Path(__file__).parents[2]
PATCH = (8, 32, 32)
SIZE_NM = (50, 4.6, 4.6)
EXACT = PredictionSettings(dtype="float32")
RUN = {".pt2": run_pt2, ".onnx": run_onnx, ".zip": run_bioimage}
pytestmark = pytest.mark.filterwarnings(  # bioimageio.core leaves the package that it tests open
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
every_form = pytest.mark.parametrize("ending", [".pt2", pytest.param(".onnx", marks=pytest.mark.timeout(600)), ".zip"])


def small_model(name="resunet", **card):
    """An untrained model with fixed weights, and a calibration far from the identity."""
    torch.manual_seed(0)
    net = build(name, widths=(2, 4), patch=PATCH, max_keys=60).eval()
    return Model(net, ModelCard(spec=net.spec, calibration=Calibration(3.0, 0.7), **card))


@pytest.fixture(scope="module", autouse=True)
def _no_trace():
    """Keep the structured trace of torch, thousands of records, from pytest's log capture, which takes most of the time."""
    trace = logging.getLogger("torch.__trace")
    before, trace.propagate = trace.propagate, False
    handlers, trace.handlers = trace.handlers, []
    yield
    trace.propagate, trace.handlers = before, handlers


def close_packages():
    """Close what bioimageio.core leaves open, before a test of another module is blamed for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def model():
    """A ResUnet; its file is the fastest to make."""
    point = OperatingPoint(threshold=0.3, gap=1)
    return small_model(threshold=0.25, voxel_size_nm=SIZE_NM, synapses=point)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model in all three forms, by ending."""
    folder = tmp_path_factory.mktemp("exports")
    source = export_source(model, license="CC-BY-4.0")  # traced and translated once
    for ending in FORMS:
        write_export(folder / f"net{ending}", source)
    close_packages()
    return {ending: folder / f"net{ending}" for ending in FORMS}


@pytest.fixture(scope="module")
def raw():
    """Synthetic tissue of two patches along each axis, uint8."""
    return Volume(synthetic_volume((16, 64, 64), seed=1).raw.read(), SIZE_NM)


def description(path):
    """What a file says about itself, by name."""
    if path.suffix == ".pt2":
        extra = {EXTRA_FILE: ""}
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.load(file, extra_files=extra)
        return json.loads(extra[EXTRA_FILE])
    if path.suffix == ".zip":
        return json.loads(zipfile.ZipFile(path).read(CARD))
    import onnxruntime

    found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    texts = ("format", "cleftnet_version", "model_sha256")
    return {name: value if name in texts else json.loads(value) for name, value in found.items()}


@every_form
def test_an_exported_file_reproduces_predict(ending, files, model, raw):
    patch = raw.crop(Box.of(PATCH))
    expected = predict(model, patch, settings=EXACT).read()
    (found,) = RUN[ending](files[ending], intensity(patch.read())[None, None])
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


@every_form
def test_it_takes_any_number_of_patches(ending, files, raw):
    patches = intensity(np.stack([raw[Box.at((0, y, 0), PATCH)] for y in (0, 16, 32)])[:, None])
    together = RUN[ending](files[ending], patches)[0]
    for n in range(3):
        np.testing.assert_allclose(together[n : n + 1], RUN[ending](files[ending], patches[n : n + 1])[0], atol=1e-6)


@every_form
def test_it_says_what_a_program_must_know(ending, files, model):
    said = description(files[ending])
    assert said["calibration"] == {"scale": 3.0, "shift": 0.7, "applied": True}
    assert said["threshold"] == 0.25
    assert said["synapses"] == model.card.synapses.model_dump(mode="json")
    assert said["voxel_size_nm"] == [50.0, 4.6, 4.6]
    assert (said["patch_vox"], said["overlap_vox"]) == ([8, 32, 32], [4, 16, 16])
    assert said["normalize"] is None
    assert said["licenses"] == {"code": "MIT", "weights": "CC-BY-4.0"}
    assert ModelCard.model_validate(said["card"]) == model.card


@every_form
def test_it_names_no_file_of_this_machine(ending, files):
    held = files[ending].read_bytes()
    if ending == ".zip":
        package = zipfile.ZipFile(files[ending])
        held = b"".join(package.read(name) for name in package.namelist())
    assert str(ROOT / "src").encode() not in held
    assert b"site-packages" not in held


@pytest.mark.parametrize("overlap", [0, 0.5])
def test_overlapping_tiles_blended_as_log_odds_are_what_predict_writes(overlap, files, model, raw):
    expected = predict(model, raw, settings=EXACT.changed(overlap=overlap)).read()
    found = blended_from_tiles(opened(files[".onnx"]), raw, PATCH, overlap)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_cleftnet_returns_probability_and_distance(raw, tmp_path):
    model = small_model("cleftnet")
    patch = raw.crop(Box.of(PATCH))
    expected = predict_in_memory(model, patch, settings=EXACT)
    found = run_pt2(export(model, tmp_path / "net.pt2"), intensity(patch.read())[None, None])
    for head, name in zip(found, ("probability", "distance"), strict=True):
        np.testing.assert_allclose(head[0, 0], expected[name].read(), atol=1e-5)


def test_a_package_passes_the_tests_of_bioimageio_core_and_has_a_halo_of_half_the_overlap(files):
    from bioimageio.core import test_model
    from bioimageio.spec import load_model_description

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert test_model(files[".zip"], weight_format="onnx").status == "passed"
        found = load_model_description(files[".zip"])
    close_packages()
    assert found.license == "CC-BY-4.0"
    (output,) = found.outputs
    assert [getattr(axis, "halo", None) for axis in output.axes] == [None, None, 2, 8, 8]
    assert [axis.scale for axis in output.axes[2:]] == list(SIZE_NM)


@pytest.mark.slow  # half a minute: another translation
@pytest.mark.parametrize(("sections", "axes"), [(False, ["channel", "z", "y", "x"]), (True, ["channel", "y", "x"])])
def test_a_package_of_a_model_that_normalizes_does_so_itself(tmp_path, raw, sections, axes):
    from bioimageio.spec import load_model_description

    normalize = NormalizationSettings(percentiles=(1, 99), levels=(51, 204), sections=sections)
    model = small_model(normalize=normalize, voxel_size_nm=SIZE_NM)
    path = export(model, tmp_path / "net.zip")  # refused, had bioimageio.core not reproduced its outputs
    steps = load_model_description(path, perform_io_checks=False).inputs[0].preprocessing
    assert [step.id for step in steps] == ["ensure_dtype", "scale_range", "scale_linear", "clip", "ensure_dtype"]
    assert (steps[1].kwargs.min_percentile, steps[1].kwargs.max_percentile) == (1, 99)
    assert list(map(str, steps[1].kwargs.axes)) == axes
    assert (steps[2].kwargs.gain, steps[2].kwargs.offset) == pytest.approx((0.6, 0.2))


CASES = [(name, {}) for name in ZOO]
CASES += [
    ("cleftnet", {"max_keys": 20}),
    ("cleftnet", {"max_keys": 20, "patch": (3, 20, 12)}),  # cells of different sizes
    ("cleftnet", {"query_grid": (1, 1, 1), "pixel_unshuffle": 2, "tissue_classes": 3}),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "change"), CASES)
def test_every_network_is_translated_to_onnx(name, change, tmp_path):
    torch.manual_seed(0)
    net = build(name, widths=(2, 4), **{"patch": (4, 16, 16)} | change).eval()
    export(Model(net, ModelCard(spec=net.spec)), tmp_path / "net.onnx")  # refused, had it not reproduced the network


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_released_model_exported_predicts_real_tissue_as_predict_does(real_data, tmp_path):
    raw = open_volume(real_data / "vnc-l3/vnc-l3.hdf").crop(Box((0, 384, 256), (12, 384 + 192, 256 + 192)))
    card = load_card("vnc-l3-cleftnet")
    expected = predict("vnc-l3-cleftnet", raw, settings=EXACT).read()
    assert expected.max() > 0.9
    for ending in (".onnx", ".pt2"):
        run = opened(export("vnc-l3-cleftnet", tmp_path / f"net{ending}"))
        found = blended_from_tiles(run, normalized(raw, card.normalize), card.spec.patch, EXACT.overlap)
        print(f"{ending}: largest difference {np.abs(found - expected).max():.1e}")
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_another_patch_is_said_and_taken(model, tmp_path):
    with pytest.warns(UserWarning, match="trained on patches of 8×32×32, not 8×16×16"):
        path = export(model, tmp_path / "net.pt2", patch=(8, 16, 16))
    assert description(path)["patch_vox"] == [8, 16, 16]
    assert run_pt2(path, np.zeros((1, 1, 8, 16, 16), np.float32))[0].shape == (1, 1, 8, 16, 16)


def test_released_weights_keep_their_license_also_when_fine_tuned():
    card = ModelCard(spec=build("resunet", widths=(2, 4), patch=PATCH).spec)
    tuned = card.model_copy(update={"provenance": {"recipe": {"init": "vnc-l3"}}})
    assert [known_license(name, card) for name in (*list_models(), None)] == [*[LICENSE] * len(list_models()), None]
    assert known_license(None, tuned) == LICENSE
    terms = {"terms": "licensed **CC BY-NC-SA 3.0**: attribution, no commercial use"}
    assert known_license(None, card.model_copy(update={"provenance": terms})) == LICENSE
    assert LICENSE in (ROOT / "LICENSE-WEIGHTS").read_text()
    assert LICENSE in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]


def test_a_checkpoint_is_no_released_model(tmp_path, model):
    save_model(tmp_path / "net.safetensors", model)
    assert released_name(str(tmp_path / "net.safetensors")) is None
    assert load_model(tmp_path / "net.safetensors").card == model.card


@pytest.mark.parametrize("name", ["net.pth", "net", "net.onnx.gz"])
def test_an_unknown_ending_is_one_line_and_exit_code_2(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "vnc-l3-cleftnet", str(tmp_path / name)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a name ending in .pt2, .onnx, .zip" in line


@pytest.mark.parametrize("ending", [".onnx", ".zip"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(ending, model, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "_is_installed", lambda module: module != "onnxscript")
    with pytest.raises(InputError, match=r"needs onnxscript, not installed; pip install 'cleftnet\[export\]'"):
        export(model, tmp_path / f"net{ending}")


def test_a_file_that_exists_is_not_replaced_and_the_command_line_names_its_option(tmp_path, capsys):
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["export", "vnc-l3-cleftnet", str(tmp_path / "net.pt2")])
    assert ended.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "net.pt2").read_text() == "mine"


def test_a_file_that_differs_from_the_network_does_not_appear(model, tmp_path, monkeypatch):
    wrong = FORMS[".pt2"]._replace(run=lambda path, raw: [raw * 0])
    monkeypatch.setitem(forms.FORMS, ".pt2", wrong)
    with pytest.raises(RuntimeError, match="differs from the network"):
        export(model, tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_an_attention_map_that_fills_the_memory_is_refused_before_it_is_formed(tmp_path, monkeypatch):
    model = small_model("cleftnet")
    monkeypatch.setattr(onnx_graph, "LARGEST_MAP_BYTES", 1000)
    with pytest.raises(InputError, match=r"ONNX forms it; choose a smaller patch=.* or an output ending in \.pt2"):
        export(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_trees_is_refused_since_a_graph_holds_networks_only(model, tmp_path):
    with pytest.raises(InputError, match="boosted trees"):
        export(replace(model, trees=object()), tmp_path / "net.pt2")


def test_an_unknown_license_of_a_package_is_refused_before_anything_is_translated(model, tmp_path, messages):
    with pytest.raises(InputError, match="unknown license 'free'; expected an SPDX identifier"):
        export(model, tmp_path / "net.zip", license="free")
    assert "translating" not in messages.text
