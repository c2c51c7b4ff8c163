import copy

import numpy as np
import pytest
import torch

from cleftnet.blockwise import ExecutionSettings
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, predict, predict_in_memory, whole_logits
from cleftnet.volumes import Volume, open_volume


@pytest.fixture(scope="module")
def raw():
    voxels = np.random.default_rng(0).integers(0, 256, (11, 45, 33), np.uint8)
    return Volume(voxels, (40, 4, 4), (80.0, 8.0, 12.0))


def test_a_prediction_file_carries_geometry_threshold_and_both_outputs(model, raw, tmp_path):
    probability = predict(model, raw, tmp_path / "p.hdf")
    distance = open_volume(tmp_path / "p.hdf/volumes/distance")
    for volume in (probability, distance):
        assert (volume.shape, volume.dtype) == (raw.shape, np.uint8)
        assert (volume.voxel_size_nm, volume.offset_nm) == (raw.voxel_size_nm, raw.offset_nm)
    assert probability.threshold == 0.25


def test_a_file_holds_the_probabilities_of_the_logits(model, raw, tmp_path):
    predict(model, raw, tmp_path / "p.hdf")
    logits = whole_logits(model.net, raw)
    probability = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    assert (
        np.abs(open_volume(tmp_path / "p.hdf/volumes/probability").read() / 255 - probability).max() <= 0.5 / 255 + 1e-5
    )


def test_the_prediction_of_a_region_has_its_shape_and_offset(model, raw, tmp_path):
    box = Box((2, 4, 1), (11, 40, 33))
    part = predict(model, raw, tmp_path / "p.hdf", roi=box)
    assert part.shape == box.shape
    assert part.offset_nm == (160.0, 24.0, 16.0)  # 80 + 2·40, 8 + 4·4, 12 + 1·4


def test_a_network_without_boundary_head_leaves_no_distance(raw, tmp_path):
    net = build("resunet", widths=(2, 4), patch=(8, 32, 32))
    predict(Model(net, ModelCard(spec=net.spec)), raw, tmp_path / "p.hdf")
    with pytest.raises(InputError, match="no array 'volumes/distance'"):
        open_volume(tmp_path / "p.hdf/volumes/distance")


@pytest.mark.filterwarnings("ignore:this model was trained on patches")
def test_another_patch_equals_the_network_with_interpolated_queries(model, raw, tmp_path):
    predict(model, raw, tmp_path / "p.hdf", settings=PredictionSettings(overlap=0.25, patch=(4, 24, 20)))
    logits = whole_logits(resize_network(model.net, (4, 24, 20)), raw, overlap=0.25)
    probability = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    assert (
        np.abs(open_volume(tmp_path / "p.hdf/volumes/probability").read() / 255 - probability).max() <= 0.5 / 255 + 1e-5
    )


def test_another_patch_brings_a_warning_and_the_trained_one_none(model, raw, tmp_path):
    with pytest.warns(
        UserWarning, match="trained on patches of 8×32×32, not 8×24×24; its queries are interpolated, and"
    ):
        predict(model, raw, tmp_path / "p.hdf", settings=PredictionSettings(patch=(8, 24, 24)))
    predict(
        model, raw, tmp_path / "q.hdf", settings=PredictionSettings(patch=(8, 32, 32))
    )  # a warning would be an error here


def test_the_warning_about_a_patch_mentions_queries_only_where_there_are_some(raw, tmp_path):
    net = build("resunet", widths=(2, 4), patch=(8, 32, 32))
    with pytest.warns(UserWarning, match="not 8×24×24; its threshold may no longer fit"):
        predict(
            Model(net, ModelCard(spec=net.spec)),
            raw,
            tmp_path / "p.hdf",
            settings=PredictionSettings(patch=(8, 24, 24)),
        )


def test_a_patch_that_the_learned_kernels_do_not_fit_is_refused_and_nothing_is_left_behind(raw, tmp_path):
    net = build("resunet", widths=(2, 4, 4, 4), patch=(4, 32, 32))  # z: 4 -> 2 -> 1 -> 1, halved twice
    with pytest.raises(InputError, match="z = 8 is halved 3 times"):
        predict(
            Model(net, ModelCard(spec=net.spec)),
            raw,
            tmp_path / "p.hdf",
            settings=PredictionSettings(patch=(8, 32, 32)),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overlap", [-0.1, 0.95])
def test_an_overlap_outside_0_to_0_9_is_refused_and_nothing_is_left_behind(model, raw, tmp_path, overlap):
    with pytest.raises(InputError, match=r"overlap: Input should be (greater|less) than or equal to"):
        predict(model, raw, tmp_path / "p.hdf", settings=PredictionSettings(overlap=overlap))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_give_no_numbers_are_refused_and_nothing_is_left_behind(model, raw, tmp_path):
    damaged = copy.deepcopy(model)
    next(damaged.net.parameters()).data.fill_(float("nan"))
    with pytest.raises(InputError, match="the weights of the model are damaged"):
        predict(damaged, raw, tmp_path / "p.hdf")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_not_touched_without_overwrite(model, raw, tmp_path):
    (tmp_path / "p.hdf").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        predict(model, raw, tmp_path / "p.hdf")
    assert (tmp_path / "p.hdf").read_text() == "mine"


def test_a_volume_smaller_than_the_patch_is_refused_and_nothing_is_left_behind(model, tmp_path):
    small = Volume(np.zeros((4, 64, 64), np.uint8), (40, 4, 4))
    with pytest.raises(InputError, match="patch 8×32×32 is larger than the region 4×64×64"):
        predict(model, small, tmp_path / "p.hdf")
    assert list(tmp_path.iterdir()) == []


def test_raw_without_voxel_size_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="voxel_size_nm="):
        predict(model, Volume(np.zeros((8, 32, 32), np.uint8)), tmp_path / "p.hdf")


def test_an_output_of_unknown_ending_is_refused(model, raw, tmp_path):
    with pytest.raises(InputError, match=r"p\.xyz"):
        predict(model, raw, tmp_path / "p.xyz")


def test_float32_holds_the_probabilities_of_the_logits(model, raw, tmp_path):
    found = predict(model, raw, tmp_path / "p.hdf", settings=PredictionSettings(dtype="float32"))
    probability = 1 / (1 + np.exp(-whole_logits(model.net, raw)[0].astype(np.float64)))
    assert found.dtype == np.float32
    assert found.read() == pytest.approx(probability, abs=1e-6)


def test_zarr_and_hdf5_hold_the_same_voxels_geometry_and_threshold(model, raw, tmp_path):
    one, two = (predict(model, raw, tmp_path / name) for name in ("p.hdf", "p.zarr"))
    assert (one.read() == two.read()).all()
    assert (one.voxel_size_nm, one.offset_nm, one.threshold) == (two.voxel_size_nm, two.offset_nm, two.threshold)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.hdf", "p.zarr"]


@pytest.mark.parametrize("name", ["p.tif", "p.hdf/volumes/probability"])
def test_an_output_that_cannot_be_written_block_by_block_is_refused(model, raw, tmp_path, name):
    with pytest.raises(InputError, match=r"ending in \.hdf or \.zarr"):
        predict(model, raw, tmp_path / name)


@pytest.mark.parametrize("change", [{"dtype": "uint16"}, {"precision": "fp8"}])
def test_unknown_settings_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        PredictionSettings(**change)


def test_bf16_gives_almost_what_float32_gives(model, raw, tmp_path):
    exact, rough = (
        predict(model, raw, tmp_path / f"{p}.zarr", settings=PredictionSettings(dtype="float32", precision=p)).read()
        for p in ("float32", "bf16")
    )
    assert rough == pytest.approx(exact, abs=0.02)
    assert (rough != exact).any()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_array_in_memory_gives_the_voxels_of_the_file(model, raw, tmp_path, monkeypatch, dtype):
    settings = PredictionSettings(dtype=dtype)
    probability = predict(model, raw, tmp_path / "p.hdf", settings=settings)
    distance = open_volume(tmp_path / "p.hdf/volumes/distance")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    found = predict(model, raw.read(), voxel_size_nm=(40, 4, 4), settings=settings)
    assert isinstance(found.store, np.ndarray)
    assert (found.dtype, found.voxel_size_nm, found.threshold) == (probability.dtype, (40, 4, 4), probability.threshold)
    assert (found.read() == probability.read()).all()
    blocks = ExecutionSettings(block=(5, 20, 33))
    heads = predict_in_memory(model, raw, settings=settings, execution=blocks)
    assert list(heads) == ["probability", "distance"]
    assert (heads["probability"].read() == probability.read()).all()
    assert (heads["distance"].read() == distance.read()).all()
    assert heads["distance"].offset_nm == raw.offset_nm
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_region_and_a_mask_work_in_memory(model, raw, tmp_path):
    box, mask = Box((2, 4, 1), (11, 40, 33)), np.zeros(raw.shape, np.uint8)
    mask[4:6, 10:20, 5:9] = 1
    settings = PredictionSettings(mask=mask)
    found = predict(model, raw, roi=box, settings=settings)
    assert (found.read() == predict(model, raw, tmp_path / "p.zarr", roi=box, settings=settings).read()).all()
    assert found.offset_nm == (160.0, 24.0, 16.0)
    assert found.read()[mask[box.slices] == 0].max() == 0


def test_workers_need_an_output(model, raw):
    with pytest.raises(InputError, match=r"name a file, such as out='prediction.zarr'"):
        predict(model, raw, execution=ExecutionSettings(workers=2))


def test_a_block_that_cannot_be_read_ends_a_prediction_in_memory(model):
    class Damaged:
        shape, dtype = (8, 32, 200), np.dtype("uint8")

        def __getitem__(self, index):
            raise InputError("a chunk is damaged")

    execution = ExecutionSettings(block=(8, 32, 32), tries=1)
    with pytest.raises(InputError, match=r"^a chunk is damaged$"):
        predict(model, Volume(Damaged(), (40, 4, 4)), execution=execution)


def test_predict_prints_nothing_and_leaves_the_threads_as_they_were(model, raw, capfd):
    threads = torch.get_num_threads()
    predict(model, raw)
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_library_calls_leave_the_allocator_alone(model, raw, monkeypatch):
    def refuse():
        raise AssertionError("the allocator belongs to the caller")

    monkeypatch.setattr("cleftnet.prediction.job.keep_freed_memory", refuse)
    predict(model, raw)
