"""Volumes of other voxels: the network sees its own voxel size, and the prediction lies on the volume's own grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cleftnet.blockwise import ExecutionSettings
from cleftnet.blockwise.work import ignore_progress
from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box
from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, estimate_prediction, predict, predict_in_memory
from cleftnet.prediction.job import PredictionJob
from cleftnet.prediction.view import voxel_size_to_see
from cleftnet.volumes import DISTANCE_NAME, PROBABILITY_NAME, NormalizationSettings, Volume, open_volume

TRAINED_NM = (40, 4, 4)


def volume_at(size, shape=(8, 60, 70), seed=0):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0, 2, 2))
    span = np.ptp(smooth)
    return Volume(np.round(255 * (smooth - smooth.min()) / span).astype(np.uint8), size, (80.0, 12.0, -8.0))


def computed(job, write):
    block = Block(job.reads(write).intersect(job.raw.box), write)
    found = job.compute(block, job.read(block), ignore_progress)
    return found or {name: np.zeros(write.shape, job.settings.dtype) for name in job.targets}


def centroids_nm(mask, volume):
    labels, number = ndimage.label(mask)
    voxels = np.array(ndimage.center_of_mass(mask, labels, range(1, number + 1)))
    return voxels * volume.voxel_size_nm + volume.offset_nm


@pytest.mark.parametrize("size", [(40, 8, 8), (40, 3, 3), (80, 8, 8), (10, 10, 10), (40, 5, 3.4)])
def test_clefts_lie_at_their_places_within_a_voxel(model, size, monkeypatch):
    shape = [round(n * t / s) for n, t, s in zip((16, 120, 120), TRAINED_NM, size, strict=True)]
    corners = [(80, 60, 100), (200, 240, 300), (420, 330, 90)]
    raw = np.full(shape, 255, np.uint8)
    for corner in corners:
        part = tuple(
            slice(round(c / s), round((c + w) / s)) for c, w, s in zip(corner, (160, 64, 64), size, strict=True)
        )
        raw[part] = 0
    volume = Volume(raw, size, (80.0, 12.0, -8.0))

    def logits(self, tiles, fetch):
        for tile in tiles:
            dark = (0.5 - fetch(tile.read).astype(np.float32) / 255) * 40
            yield tile, np.stack([dark, dark / 40])

    monkeypatch.setattr("cleftnet.prediction.tiles.TileNetwork.logits", logits)
    found = predict(model, volume)
    assert found.shape == volume.shape
    assert (found.voxel_size_nm, found.offset_nm) == (volume.voxel_size_nm, volume.offset_nm)
    true, predicted = centroids_nm(raw == 0, volume), centroids_nm(found.read() >= 128, volume)
    assert len(predicted) == len(true) == 3
    assert (np.abs(predicted - true) <= np.array(size)).all()


def test_a_volume_of_the_models_voxels_is_seen_as_it_is(model):
    raw = volume_at(TRAINED_NM)
    job = PredictionJob.prepare(model, raw, settings=PredictionSettings())
    assert job.view.seen is job.view.raw
    one, other = (
        predict(model, raw, settings=PredictionSettings(rescale=rescale, dtype="float32")).read()
        for rescale in (True, False)
    )
    assert (one == other).all()


def test_voxels_a_few_percent_off_are_not_resampled(model):
    job = PredictionJob.prepare(model, volume_at((40, 4.1, 3.9)), settings=PredictionSettings())
    assert job.view.seen is job.view.raw


@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("size", [(40, 8, 8), (40, 3, 3.3), (20, 5, 5), (100, 4, 3)])
def test_any_block_equals_the_same_part_of_the_whole_bit_for_bit(size, data):
    job, expected = whole_at(size)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in job.raw.shape]
    write = Box(tuple(a for a, _ in bounds), tuple(max(b, a + 1) for a, b in bounds))
    found = computed(job, write)
    for name, values in expected.items():
        assert (found[name] == values[write.slices]).all()


WHOLE = {}


def whole_at(size):
    """Return a job at a voxel size and the arrays of the whole volume, computed once."""
    if size not in WHOLE:
        torch.manual_seed(0)
        net = build("cleftnet", widths=(2, 4), patch=(4, 12, 10), max_keys=32).eval()
        model = Model(net, ModelCard(spec=net.spec, voxel_size_nm=TRAINED_NM))
        shape = [max(6, round(n * t / s)) for n, t, s in zip((8, 26, 24), TRAINED_NM, size, strict=True)]
        raw = volume_at(size, shape)
        mask = np.zeros(shape, np.uint8)
        mask[:, : shape[1] // 2, shape[2] // 3 :] = 1
        chosen = PredictionSettings(dtype="float32", mask=mask)
        job = PredictionJob.prepare(model, raw, settings=chosen)
        job = job.writing_to(dict.fromkeys((PROBABILITY_NAME, DISTANCE_NAME)))
        WHOLE[size] = job, computed(job, job.raw.box)
    return WHOLE[size]


@pytest.mark.parametrize("size", [(40, 8, 8), (20, 3, 3.3)])
def test_a_mask_of_every_voxel_changes_nothing_and_one_of_a_single_voxel_leaves_that_alone(size):
    job, _ = whole_at(size)

    def probability(mask):
        masked = PredictionJob.prepare(job.model, job.volume, settings=job.settings.changed(mask=mask))
        return computed(masked.writing_to(job.targets), job.raw.box)[PROBABILITY_NAME]

    assert (probability(np.ones(job.raw.shape, np.uint8)) == probability(None)).all()
    for place in [(0, 0, 0), (3, 7, 4), tuple(n - 1 for n in job.raw.shape)]:
        single = np.zeros(job.raw.shape, np.uint8)
        single[place] = 1
        assert ((probability(single) > 0) == (single > 0)).all()


@pytest.mark.parametrize("out", ["p.hdf", "p.zarr"])
def test_a_file_holds_what_memory_does_and_says_what_was_done(model, tmp_path, out, messages):
    raw = volume_at((40, 8, 8), (9, 40, 45))
    found = predict(model, raw, tmp_path / out, execution=ExecutionSettings(block=(16, 128, 128)))
    assert "voxels of 40×8×8 nm are resampled to 40×4×4 nm for the model, and back" in messages.text
    memory = predict_in_memory(model, raw, execution=ExecutionSettings(block=(9, 20, 45)))
    distance = open_volume(tmp_path / out / "volumes/distance")
    assert (found.read() == memory["probability"].read()).all()
    assert (distance.read() == memory["distance"].read()).all()
    for volume in (found, distance, memory["probability"]):
        assert volume.provenance["rescaled"] is True
        assert volume.provenance["predicted_at_nm"] == [40, 4, 4]
        assert (volume.voxel_size_nm, volume.offset_nm, volume.shape) == (raw.voxel_size_nm, raw.offset_nm, raw.shape)


def test_without_rescaling_a_warning_says_what_to_expect(model):
    raw = volume_at((40, 8, 8))
    with pytest.warns(UserWarning, match=r"trained on voxels of 40×4×4 nm.*rescale=False"):
        found = predict(model, raw, settings=PredictionSettings(rescale=False))
    assert found.provenance["rescaled"] is False


def interrupt_second_block(monkeypatch):
    """Raise KeyboardInterrupt in the second block that is computed; return the list of blocks computed so far."""
    compute, calls = PredictionJob.compute, []

    def interrupted(self, block, data, tick):
        calls.append(block)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(self, block, data, tick)

    monkeypatch.setattr(PredictionJob, "compute", interrupted)
    return calls


def test_an_interrupted_prediction_is_completed_to_the_same_bytes(model, tmp_path, monkeypatch):
    raw, execution = volume_at((40, 8, 8), (34, 30, 30)), ExecutionSettings(block=(16, 128, 128))
    predict(model, raw, tmp_path / "whole.zarr", execution=execution)
    calls = interrupt_second_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        predict(model, raw, tmp_path / "resumed.zarr", execution=execution)
    before = len(calls)
    predict(model, raw, tmp_path / "resumed.zarr", execution=execution)
    assert len(calls) - before < 3  # blocks in all
    files = {p.relative_to(tmp_path / "whole.zarr") for p in (tmp_path / "whole.zarr").rglob("*") if p.is_file()}
    assert files == {
        p.relative_to(tmp_path / "resumed.zarr") for p in (tmp_path / "resumed.zarr").rglob("*") if p.is_file()
    }
    for file in files:
        assert (tmp_path / "whole.zarr" / file).read_bytes() == (tmp_path / "resumed.zarr" / file).read_bytes()


def test_another_choice_does_not_complete_a_prediction(model, tmp_path, monkeypatch):
    raw = volume_at((40, 8, 8), (34, 40, 40))
    with monkeypatch.context() as patched:
        interrupt_second_block(patched)
        with pytest.raises(KeyboardInterrupt):
            predict(model, raw, tmp_path / "p.zarr", execution=ExecutionSettings(block=(16, 128, 128)))
    with (
        pytest.raises(InputError, match="rescaled true, not false"),
        pytest.warns(UserWarning, match="trained on voxels"),
    ):
        predict(model, raw, tmp_path / "p.zarr", settings=PredictionSettings(rescale=False))


def test_an_estimate_counts_the_tiles_that_the_network_will_see(model):
    raw = volume_at((40, 8, 8), (34, 30, 30))
    found = estimate_prediction(model, raw, execution=ExecutionSettings(block=(16, 128, 128)))
    assert (found.shape, found.seen_shape, found.blocks) == ((34, 30, 30), (34, 60, 60), 3)
    job = PredictionJob.prepare(model, raw, settings=PredictionSettings())
    assert found.tiles == len(job.tiles) == 8 * 3 * 3
    assert dict(found.rows())["resampled to"] == "34×60×60 voxels"


def test_memory_of_a_rescaled_block_is_bounded(model):
    """A volume of 2 nm voxels is seen at 4 nm: blocks are larger in its voxels, and no larger in memory."""
    fine, own = (
        PredictionJob.prepare(model, Volume(Zeros((64, n, n)), (40, s, s)), settings=PredictionSettings())
        for n, s in ((65536, 1), (16384, 4))
    )
    a, b = (np.prod(job.block_shape(ExecutionSettings())) * job.bytes_per_voxel for job in (fine, own))
    assert a < 2 * b


class Zeros:
    """A large volume of zeros that takes no memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape):
        self.shape = shape

    def __getitem__(self, index):
        return np.zeros([s.stop - s.start for s in index], np.uint8)


def test_sections_are_interpolated_only_where_their_thickness_differs_a_lot():
    trained = (50, 4.6, 4.6)
    assert voxel_size_to_see((40, 4, 4), trained) == (40, 4.6, 4.6)
    assert voxel_size_to_see((60, 4.6, 4.6), trained) == (60, 4.6, 4.6)
    assert voxel_size_to_see((8, 8, 8), trained) == trained
    assert voxel_size_to_see((100, 4.6, 4.6), trained) == trained


def test_a_gray_range_of_all_values_changes_nothing_and_an_inverted_one_inverts(model):
    raw = volume_at(TRAINED_NM)
    raw = Volume(np.maximum(raw.read(), 1), raw.voxel_size)  # 0 is padding
    plain = predict(model, raw).read()
    assert (predict(model, raw, settings=PredictionSettings(gray_range=(0, 255))).read() == plain).all()
    inverted = Volume(255 - raw.read(), raw.voxel_size)
    inverted = Volume(np.maximum(inverted.read(), 1), raw.voxel_size)
    back = predict(model, inverted, settings=PredictionSettings(gray_range=(255, 0)))
    assert np.abs(back.read().astype(int) - plain).max() <= 2
    assert back.provenance["gray_range"] == [255, 0]


def test_a_model_with_normalization_sees_the_same_whatever_the_bit_depth_and_contrast(model, tmp_path):
    card = model.card.model_copy(update={"normalize": NormalizationSettings()})
    learned = Model(model.net, card)
    raw = Volume(np.maximum(volume_at(TRAINED_NM).read(), 1), TRAINED_NM)
    narrow = Volume((20000 + raw.read().astype(np.uint16) * 8), TRAINED_NM)  # 3 % of the range of uint16
    one, other = predict(learned, raw, tmp_path / "a.hdf"), predict(learned, narrow, tmp_path / "b.hdf")
    assert np.abs(one.read().astype(int) - other.read()).max() <= 1
    low, high = one.provenance["gray_range"]
    assert other.provenance["gray_range"] == pytest.approx([20000 + 8 * low, 20000 + 8 * high])
    assert other.provenance["gray_percentiles"] == [0.5, 99.5]
    given = predict(learned, narrow, settings=PredictionSettings(gray_range=(20000 + 8 * low, 20000 + 8 * high)))
    assert (given.read() == other.read()).all()
    assert given.provenance["gray_percentiles"] is None


def test_a_volume_without_contrast_is_refused_by_a_model_with_normalization(model):
    card = model.card.model_copy(update={"normalize": NormalizationSettings()})
    with pytest.raises(InputError, match="has no contrast"):
        predict(Model(model.net, card), Volume(np.full((8, 40, 40), 7, np.uint8), TRAINED_NM))


def test_an_empty_gray_range_is_refused():
    with pytest.raises(InputError, match="two different gray values"):
        PredictionSettings(gray_range=(3, 3))
