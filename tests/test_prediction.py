import numpy as np
import pytest
import torch

from cleftnet.checkpoint import Model, ModelCard
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.zoo import build
from cleftnet.prediction import Inference, logit_tiles, predict, to_uint8
from cleftnet.volumes import Volume, open_volume


@pytest.fixture(scope="module")
def raw():
    voxels = np.random.default_rng(0).integers(0, 256, (11, 45, 33), np.uint8)
    return Volume(voxels, (40, 4, 4), (80.0, 8.0, 12.0))


def assembled(net, raw, **options):
    out = np.full((len(net.spec.heads), *raw.shape), np.nan, np.float32)
    for done in logit_tiles(net, raw, **options):
        assert np.isnan(out[(slice(None), *done.box.slices)]).all(), "a voxel was written twice"
        out[(slice(None), *done.box.slices)] = done.logits
    assert not np.isnan(out).any(), "a voxel was never written"
    return out


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_every_voxel_is_predicted_once(model, raw, overlap):
    assembled(model.net, raw, overlap=overlap)


def test_a_tile_says_what_the_network_says_about_that_patch(model, raw):
    box = Box((3, 13, 1), (11, 45, 33))  # the last tile, shifted inwards on all axes
    x = torch.from_numpy(raw[box].astype(np.float32) / 255)[None, None]
    with torch.no_grad():
        expected = model.net(x)[0].numpy()
    out = assembled(model.net, raw, overlap=0.0)
    assert out[:, 8:, 32:, 32:] == pytest.approx(expected[:, 5:, 19:, 31:], abs=1e-5)


def test_prediction_leaves_the_network_in_the_mode_it_was_in(model, raw):
    model.net.train()
    assembled(model.net, raw, overlap=0.0)
    assert model.net.training


def test_averaging_over_flips_and_turns_makes_a_prediction_that_turns_with_its_input(model):
    """The mean over the whole group of flips and in-plane turns is equivariant; a single pass is not."""
    voxels = np.random.default_rng(1).integers(0, 256, (8, 32, 32), np.uint8)
    turned = np.ascontiguousarray(np.rot90(voxels[::-1], axes=(1, 2)))
    for tta, same in ((True, True), (False, False)):
        one = assembled(model.net, Volume(voxels), tta=tta)
        two = assembled(model.net, Volume(turned), tta=tta)
        assert np.allclose(np.rot90(one[:, ::-1], axes=(2, 3)), two, atol=1e-4) is same


def test_a_prediction_file_carries_geometry_threshold_and_both_outputs(model, raw, tmp_path):
    probability = predict(model, raw, tmp_path / "p.hdf")
    distance = open_volume(tmp_path / "p.hdf/volumes/distance")
    for volume in (probability, distance):
        assert (volume.shape, volume.dtype) == (raw.shape, np.uint8)
        assert (volume.voxel_size_nm, volume.offset_nm) == (raw.voxel_size_nm, raw.offset_nm)
    assert probability.threshold == 0.25


def test_a_file_says_what_the_logits_say(model, raw, tmp_path):
    predict(model, raw, tmp_path / "p.hdf")
    logits = assembled(model.net, raw)
    probability = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    assert (
        np.abs(open_volume(tmp_path / "p.hdf/volumes/probability").read() / 255 - probability).max() <= 0.5 / 255 + 1e-5
    )


def test_a_region_is_predicted_as_a_volume_of_its_own_placed_by_its_offset(model, raw, tmp_path):
    box = Box((2, 4, 1), (11, 40, 33))
    part = predict(model, raw, tmp_path / "p.hdf", roi=box)
    assert part.shape == box.shape
    assert part.offset_nm == (160.0, 24.0, 16.0)  # 80 + 2·40, 8 + 4·4, 12 + 1·4


def test_a_network_without_boundary_head_leaves_no_distance(raw, tmp_path):
    net = build("resunet", widths=(2, 4), patch=(8, 32, 32))
    predict(Model(net, ModelCard(spec=net.spec)), raw, tmp_path / "p.hdf")
    with pytest.raises(InputError, match="no dataset 'volumes/distance'"):
        open_volume(tmp_path / "p.hdf/volumes/distance")


@pytest.mark.filterwarnings("ignore:this model was trained on patches")
def test_another_patch_predicts_what_the_network_with_interpolated_queries_says(model, raw, tmp_path):
    predict(model, raw, tmp_path / "p.hdf", inference=Inference(overlap=0.25, patch=(4, 24, 20)))
    logits = assembled(resize_network(model.net, (4, 24, 20)), raw, overlap=0.25)
    probability = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    assert (
        np.abs(open_volume(tmp_path / "p.hdf/volumes/probability").read() / 255 - probability).max() <= 0.5 / 255 + 1e-5
    )


def test_another_patch_brings_a_warning_and_the_trained_one_none(model, raw, tmp_path):
    with pytest.warns(UserWarning, match="trained on patches of 8×32×32; its queries are interpolated to 8×24×24"):
        predict(model, raw, tmp_path / "p.hdf", inference=Inference(patch=(8, 24, 24)))
    predict(model, raw, tmp_path / "q.hdf", inference=Inference(patch=(8, 32, 32)))  # a warning would be an error here


def test_a_patch_that_the_learned_kernels_do_not_fit_is_refused_and_nothing_is_left_behind(raw, tmp_path):
    net = build("resunet", widths=(2, 4, 4, 4), patch=(4, 32, 32))  # z: 4 -> 2 -> 1 -> 1, halved twice
    with (
        pytest.warns(UserWarning, match="interpolated"),
        pytest.raises(InputError, match="z = 8 is halved 3 times"),
    ):
        predict(Model(net, ModelCard(spec=net.spec)), raw, tmp_path / "p.hdf", inference=Inference(patch=(8, 32, 32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overlap", [-0.1, 0.95])
def test_an_overlap_outside_0_to_0_9_is_refused_and_nothing_is_left_behind(model, raw, tmp_path, overlap):
    with pytest.raises(InputError, match="share of the patch between"):
        predict(model, raw, tmp_path / "p.hdf", inference=Inference(overlap=overlap))
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
    with pytest.raises(InputError, match="--voxel-size"):
        predict(model, Volume(np.zeros((8, 32, 32), np.uint8)), tmp_path / "p.hdf")


def test_other_voxels_than_in_training_bring_a_warning(model, tmp_path):
    fibsem = Volume(np.zeros((8, 32, 32), np.uint8), (10, 10, 10))
    with pytest.warns(UserWarning, match="trained on voxels"):
        predict(model, fibsem, tmp_path / "p.hdf")


def test_an_output_of_unknown_ending_is_refused(model, raw, tmp_path):
    with pytest.raises(InputError, match=r"p\.xyz"):
        predict(model, raw, tmp_path / "p.xyz")


def test_uint8_rounds_to_the_nearest():
    """0.5 · 255 = 127.5, which rounds to even, 128; 0.2 · 255 = 51."""
    assert to_uint8(np.array([0, 0.2, 0.5, 1], np.float32)).tolist() == [0, 51, 128, 255]
