"""Verbs that use a network: predict a volume, find the synapses of a prediction, and export a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cleftnet.cli.options import (
    AcceptChangedInput,
    BlockSize,
    Json,
    Kind,
    Overwrite,
    PredictionArgument,
    Scheduler,
    Threshold,
    VoxelSize,
    Workers,
    block_size,
    gray_values,
    patch_size,
    voxel_size_nm,
)
from cleftnet.cli.printing import print_json, print_table, text
from cleftnet.errors import InputError
from cleftnet.geometry import OVERLAP

MASKS = ("volumes/mask", "volumes/labels/mask", "volumes/raw")  # tried where --mask names only a file


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run directory, a checkpoint file or the name of a released model.")
    ],
    volume: Annotated[
        str,
        typer.Argument(metavar="VOLUME", help="Raw volume: A.hdf, vol.zarr/raw, precomputed://URL or 'stack/*.tif'."),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Prediction to write (.hdf, .zarr or .n5).")],
    roi: Annotated[
        str | None,
        typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Only this region, in voxels, or in nm as in 0nm:800nm."),
    ] = None,
    voxel_size: VoxelSize = None,
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighboring tiles as a share of the patch, 0 to 0.9; the paper's is 0.")
    ] = OVERLAP,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over flips and rotations, which takes 16 times as long.")
    ] = False,
    patch: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Patch size, if not the model's; its queries are interpolated.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="uint8 (probability × 255) or float32.")] = "uint8",
    mask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Volume that is 0 where the prediction is to be 0.")
    ] = None,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Skip tiles whose raw is 0 everywhere; their prediction is 0.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the network, float32 or bf16; default bf16 on a GPU, else float32.")
    ] = None,
    no_rescale: Annotated[
        bool, typer.Option("--no-rescale", help="Do not resample voxels of another size to the model's, and back.")
    ] = False,
    gray_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Gray values to show to the model as black and white; 255,0 inverts."),
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    block: BlockSize = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print blocks, memory and time; write nothing.")] = False,
    accept_changed_input: AcceptChangedInput = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict the cleft probability of every voxel of a volume.

    Models with a distance head also predict the distance. OUT.unfinished keeps finished blocks: after an interruption,
    the same command computes the missing ones. Exit code 1: blocks failed, or the cluster was lost; run it again.
    """
    from cleftnet.blockwise import ExecutionSettings
    from cleftnet.geometry import parse_region
    from cleftnet.prediction import PredictionSettings, estimate_prediction
    from cleftnet.prediction import predict as predict_volume
    from cleftnet.volumes import open_volume

    raw = open_volume(volume, voxel_size_nm=voxel_size_nm(voxel_size))
    part = None if roi is None else parse_region(roi, raw.voxel_size, raw.offset_nm)
    how = PredictionSettings(
        overlap=overlap,
        tta=tta,
        patch=patch_size(patch),
        dtype=cast(Any, dtype),  # unknown names are refused there
        mask=None if mask is None else open_volume(mask, default=MASKS),
        skip_empty=skip_empty,
        precision=cast(Any, precision),
        rescale=not no_rescale,
        gray_range=gray_values(gray_range),
    )
    execution = ExecutionSettings(
        block=block_size(block), workers=workers, scheduler=scheduler, accept_changed_input=accept_changed_input
    )
    if dry_run:
        print_table(estimate_prediction(model, raw, roi=part, settings=how, execution=execution).rows())
        return
    predict_volume(model, raw, out, roi=part, settings=how, execution=execution, overwrite=overwrite)
    print(out)


def synapses(
    prediction: PredictionArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder, for labels.zarr and synapses.csv.")],
    threshold: Threshold = None,
    seed_threshold: Annotated[
        float | None,
        typer.Option(help="Keep synapses with at least one voxel of this probability (hysteresis); 0 keeps all."),
    ] = None,
    min_size: Annotated[
        float | None, typer.Option(metavar="NM3", help="Leave out synapses of a smaller volume, in nm³.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="P", help="Leave out synapses of a lower score; 0 lists all candidates.")
    ] = None,
    gap: Annotated[
        int | None, typer.Option(help="Join parts of a synapse across this many sections without cleft.")
    ] = None,
    holes: Annotated[
        float | None,
        typer.Option(metavar="NM", help="Fill holes in a section up to this width in nm; 0 fills none."),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            "--tune",
            metavar="TRUTH",
            help="Choose threshold, seeds, gap, and smallest size or a classifier on these labels; see OUT/tuning.json.",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="With --tune: store the result in this model, for its later predictions."),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Use a tuning.json that --tune wrote; options given beside it take precedence."
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Raw volume, if it has moved since the prediction was made."),
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Volume of neuron ids; the table then lists the neurons at each synapse."),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(metavar="NM", help="Count neurons up to this distance from a synapse, in nm; default 60."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="zarr or hdf (labels), csv or parquet (table), annotations (for neuroglancer), cave, catmaid; repeatable.",
        ),
    ] = None,
    kind: Kind = None,
    voxel_size: VoxelSize = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    block: BlockSize = None,
    accept_changed_input: AcceptChangedInput = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find synapses in a prediction: a label volume and a table.

    OUT/labels.zarr holds the synapse ids, OUT/synapses.csv one row for each synapse. Options that are left out are
    taken from the operating point that the model stored with the prediction. After an interruption, the same command
    computes the missing blocks. Exit code 1: blocks failed, or the cluster was lost; run it again.
    """
    from cleftnet.blockwise import ExecutionSettings
    from cleftnet.synapses import SynapseSettings, Tuning, find_synapses, tune_once
    from cleftnet.volumes import PREDICTION, open_volume

    chosen_by_tuning = (tuned, threshold, min_size, min_score)
    if truth is not None and any(value is not None for value in chosen_by_tuning):
        raise InputError(
            "--tune chooses threshold, size and score; leave out --tuned, --threshold, --min-size and --min-score"
        )
    if into is not None and truth is None:
        raise InputError("--into MODEL stores what --tune chose; add --tune TRUTH")
    if reach is not None and segmentation is None:
        raise InputError("--reach is the distance at which neurons are counted; add --segmentation ADDRESS")
    size = voxel_size_nm(voxel_size)
    given = {
        "threshold": threshold,
        "seed_threshold": seed_threshold,
        "gap": gap,
        "hole_nm": holes,
        "min_size_nm3": min_size,
        "min_score": min_score,
        "kind": kind,
        "raw": None if raw is None else open_volume(raw),
        "segmentation": None if segmentation is None else open_volume(segmentation, voxel_size_nm=size),
        "reach_nm": reach,
    }
    base = SynapseSettings() if tuned is None else Tuning.load(tuned).settings
    settings = base.changed(**{name: value for name, value in given.items() if value is not None})
    volume = open_volume(prediction, default=PREDICTION, voxel_size_nm=size)
    execution = ExecutionSettings(
        block=block_size(block), workers=workers, scheduler=scheduler, accept_changed_input=accept_changed_input
    )
    chosen: dict[str, Any] | None = None
    if truth is not None:
        tuning = tune_once(out / "tuning.json", volume, truth, settings, raw=settings.raw, overwrite=overwrite)
        others = {"raw": settings.raw, "segmentation": settings.segmentation, "reach_nm": settings.reach_nm}
        settings = tuning.settings.changed(**others)
        chosen = tuning.chosen.model_dump()
        if into is not None:
            from cleftnet.models.checkpoint import store_operating_point

            store_operating_point(into, tuning.point)
    found = find_synapses(
        volume, out, settings=settings, formats=formats or (), execution=execution, overwrite=overwrite
    )
    if as_json:
        print_json({**found.summary(), **({} if chosen is None else {"tuning": chosen})})
    else:
        rows = {**found.summary(), **(chosen or {})}
        print_table([(name, text(value)) for name, value in rows.items()])


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run directory, a checkpoint file or the name of a released model.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .pt2 (torch.export), .onnx or .zip (bioimage.io).")
    ],
    patch: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Patch size, if not the model's; its queries are interpolated.")
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="SPDX", help="License of the weights, such as CC-BY-4.0; default: as released, if known."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as a file that other programs run.

    The graph takes gray values in 0-1 and returns the calibrated probability, and the distance if the model has it. The
    file appears once it has been read back and has reproduced the model on one patch.
    """
    from cleftnet.exporting import export as export_model

    print(export_model(model, out, patch=patch_size(patch), license=license, overwrite=overwrite))
