"""Volumes of other voxels: predicted as they are, resampled to the model's pixels and back, and with its sections as well."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import write_rows
from cleftnet.geometry import Box, FloatZYX
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.models.checkpoint import Model, load_model
from cleftnet.prediction import PredictionSettings, best_device, predict
from cleftnet.volumes import LABELS, Volume, VoxelGrid, is_cleft, is_labelled, open_volume, resampled

SIZES = ("50,8,8", "40,4,4", "60,6,6")
VOLUME, ROI = "$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf", "0:20,768:1024,0:768"


def ways(model: Model, given: Volume, overlap: float) -> Iterator[tuple[str, Volume]]:
    """Yield the name of each way to predict a volume, and the probability on its own grid."""
    plain = PredictionSettings(overlap=overlap, rescale=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that voxels differ
        yield "as they are", predict(model, given, settings=plain)
        yield "rescaled", predict(model, given, settings=plain.changed(rescale=True))
        trained = model.card.voxel_size_nm
        if trained is not None and trained[0] != given.voxel_size_nm[0]:
            found = predict(model, in_memory(resampled(given, trained)), settings=plain)
            yield "rescaled, sections too", resampled(found, VoxelGrid.of(given))


def in_memory(volume: Volume) -> Volume:
    """Return a volume whose voxels lie in memory."""
    return replace(volume, store=volume.read())


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks rescaling", description=__doc__)
    parser.add_argument(
        "sizes", nargs="*", default=SIZES, help="voxel sizes in nm, z,y,x, to resample the volume to first"
    )
    parser.add_argument("--model", default="vnc-l3")
    parser.add_argument("--volume", default=VOLUME, help="CREMI file with raw and labels")
    parser.add_argument("--roi", default=ROI, help="part to score, in voxels")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--json", type=Path, help="file for the rows, for tools.check_results")
    chosen = parser.parse_args(arguments)
    rows = []
    model, roi = load_model(chosen.model, best_device()), Box.parse(chosen.roi)
    raw, labels = open_volume(chosen.volume).crop(roi), open_volume(chosen.volume, default=LABELS).crop(roi)
    print(f"{'nm':12s} {'':24s} {'AUC':>8s} {'F1':>7s} {'best F1':>8s}")
    for text in chosen.sizes:
        z, y, x = map(float, text.split(","))
        size: FloatZYX = (z, y, x)
        given, truth = in_memory(resampled(raw, size)), resampled(labels, size, labels=True).read()
        for name, probability in ways(model, given, chosen.overlap):
            scores = ScoreHistogram.of(probability.read(), is_cleft(truth), is_labelled(truth))
            best = scores.best_f1()
            f1 = scores.counts(model.card.threshold).f1
            print(f"{text:12s} {name:24s} {scores.auc:8.5f} {f1:7.4f} {best[1] if best else 0:8.4f}", flush=True)
            size_name = "×".join(f"{side:g}" for side in size)
            rows.append({"name": f"{size_name}, {name}", "auc": scores.auc, "best_f1": best and best[1]})
    write_rows(chosen.json, rows)
