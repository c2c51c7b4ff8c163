"""The voxels of a prediction do not depend on the blocks: any part equals the same part of the whole, bit for bit."""

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.blockwise.work import ignore_progress
from cleftnet.geometry import Block, Box, TileGrid
from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings
from cleftnet.prediction.job import PredictionJob, block_sides
from cleftnet.volumes import DISTANCE_NAME, PROBABILITY_NAME, Volume

SHAPE, PATCH = (9, 26, 21), (4, 12, 10)
CASES = {
    "half overlap": PredictionSettings(),
    "float32": PredictionSettings(overlap=0.4, dtype="float32"),
    "float32, empty tiles left out": PredictionSettings(dtype="float32", skip_empty=True),
    "empty tiles left out": PredictionSettings(overlap=0.25, skip_empty=True),
    "turned": PredictionSettings(tta=True, overlap=0.0, dtype="float32"),
}


@functools.cache
def voxels():
    values = np.random.default_rng(3).integers(0, 256, SHAPE, np.uint8)
    values[:, :14, :12] = 0  # so that some tiles are empty
    return values


def prepare(way, mask=None):
    torch.manual_seed(0)
    net = build("cleftnet", widths=(2, 4), patch=PATCH, max_keys=32).eval()
    chosen = CASES[way] if mask is None else CASES[way].model_copy(update={"mask": mask})
    model, raw = Model(net, ModelCard(spec=net.spec)), Volume(voxels(), (40, 4, 4))
    job = PredictionJob.prepare(model, raw, settings=chosen)
    return job.writing_to(dict.fromkeys((PROBABILITY_NAME, DISTANCE_NAME)))


prediction = functools.cache(prepare)


def compute(work, write):
    block = Block(work.reads(write), write)
    found = work.compute(block, work.read(block), ignore_progress)
    return found or {name: np.zeros(write.shape, work.settings.dtype) for name in work.targets}


@functools.cache
def whole(way):
    return compute(prediction(way), Box.of(SHAPE))


@st.composite
def parts(draw):
    start = [draw(st.integers(0, n - 1)) for n in SHAPE]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, SHAPE, strict=True)]
    return Box(tuple(start), tuple(stop))


@pytest.mark.parametrize("way", CASES)
def test_any_part_equals_the_same_part_of_the_whole_bit_for_bit(way):
    @settings(deadline=None, max_examples=3 if CASES[way].tta else 6, derandomize=True)
    @given(parts())
    def holds(box):
        found = compute(prediction(way), box)
        for name, array in found.items():
            assert array.dtype == CASES[way].dtype
            assert np.array_equal(array, whole(way)[name][box.slices])

    holds()


def test_a_prediction_is_the_weighted_mean_of_all_tiles_logits():
    """Restated with whole-volume sums of weights and weighted logits, a weight being the product of three triangles."""
    work = prediction("half overlap")
    total, weights = np.zeros((2, *SHAPE)), np.zeros(SHAPE)
    hats = [np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in PATCH]
    weight = np.einsum("z,y,x->zyx", *hats)
    for tile in work.tiles:
        x = torch.from_numpy(voxels()[tile.read.slices].astype(np.float32) / 255)[None, None]
        with torch.no_grad():
            logits = work.model.net(x)[0].numpy()
        total[(slice(None), *tile.read.slices)] += weight * logits
        weights[tile.read.slices] += weight
    logits = total / weights
    assert whole("half overlap")[PROBABILITY_NAME] / 255 == pytest.approx(
        1 / (1 + np.exp(-logits[0])), abs=0.5 / 255 + 1e-4
    )
    assert whole("half overlap")[DISTANCE_NAME] / 255 == pytest.approx(np.tanh(logits[1]).clip(0), abs=0.5 / 255 + 1e-4)


def test_a_tile_of_zeros_is_predicted_zero_with_skip_empty():
    found, all_tiles = whole("empty tiles left out"), prediction("empty tiles left out").tiles
    empty = [tile for tile in all_tiles if not voxels()[tile.read.slices].any()]
    assert empty
    seen = np.zeros(SHAPE, bool)
    for tile in all_tiles:
        seen[tile.read.slices] |= tile not in empty
    assert not seen.all()
    assert (found[PROBABILITY_NAME][~seen] == 0).all()
    assert found[PROBABILITY_NAME][seen].any()


def test_outside_the_mask_all_is_zero_and_inside_nothing_changes():
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:7, 3:20, 5:9] = 1
    for way in ("half overlap", "float32"):
        masked = prepare(way, Volume(mask))
        for box in (Box.of(SHAPE), Box((0, 9, 4), (8, 26, 21))):
            found = compute(masked, box)
            for name in (PROBABILITY_NAME, DISTANCE_NAME):
                expected = np.where(mask == 1, whole(way)[name], 0)[box.slices]
                assert np.array_equal(found[name], expected)


def test_a_block_without_wanted_tiles_has_nothing_to_write():
    mask = Volume(np.zeros(SHAPE, np.uint8))
    masked = prepare("half overlap", mask)
    block = Block(masked.reads(Box.of(SHAPE)), Box.of(SHAPE))
    assert masked.compute(block, masked.read(block), ignore_progress) is None


def test_the_finished_share_of_a_block_is_reported():
    work, reported = prediction("half overlap"), []
    block = Block(Box.of(SHAPE), Box.of(SHAPE))
    work.compute(block, work.read(block), reported.append)
    assert len(reported) == len(work.tiles)
    assert reported[-1] == 1
    assert reported == sorted(reported)


def test_a_worker_process_gets_its_threads_and_keeps_freed_memory(monkeypatch):
    calls = []
    monkeypatch.setattr("cleftnet.prediction.job.keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    prepare("half overlap").start(3)
    assert calls == [3, "kept"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 256, 256), (20, 256, 256)),  # smaller than a block
        ((20, 4096, 4096), (20, 1408, 2048)),  # z is short: 3×2 blocks, of at most 2^26 voxels
        ((512, 1024, 1024), (64, 1024, 1024)),
    ],
)
def test_block_sides_cut_few_tiles(shape, expected):
    assert block_sides(TileGrid(Box.of(shape), (8, 96, 96), (4, 48, 48)), (16, 128, 128), 2**26) == expected


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.tuples(st.integers(8, 100), st.integers(32, 700), st.integers(32, 700)), st.integers(14, 23))
def test_no_allowed_block_computes_far_fewer_tiles(shape, bits):
    tiles, chunk, voxels = TileGrid(Box.of(shape), (8, 32, 32), (4, 16, 16)), (16, 128, 128), 2**bits

    def along(axis, side):
        pieces = [[0, 0, 0] for _ in range(0, shape[axis], side)]
        for n, piece in enumerate(pieces):
            piece[axis] = n * side
        boxes = [
            Box.at(start, [min(side, shape[axis] - start[axis]) if a == axis else 1 for a in range(3)])
            for start in pieces
        ]
        return sum(tiles.counts(box)[axis] for box in boxes)

    def computed(sides):
        return np.prod([along(axis, side) for axis, side in enumerate(sides)])

    found = block_sides(tiles, chunk, voxels)
    assert all(side == n or side % unit == 0 for side, n, unit in zip(found, shape, chunk, strict=True))
    allowed = max(voxels, np.prod([min(n, unit) for n, unit in zip(shape, chunk, strict=True)]))
    assert np.prod(found) <= allowed
    choices = ([min(n, k * unit) for k in range(1, -(-n // unit) + 1)] for n, unit in zip(shape, chunk, strict=True))
    assert computed(found) <= 1.15 * min(
        computed(sides) for sides in itertools.product(*choices) if np.prod(sides) <= allowed
    )
