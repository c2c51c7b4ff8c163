"""A network as a bioimage.io model package (`.zip`, specification 0.5), for ilastik, deepImageJ and `bioimageio.core`.

The package holds the ONNX graph, test inputs and outputs, a README, the model card, and `rdf.yaml`, which tells how gray values
become the network's input, and which part of a tile's output to keep. It needs the extra `export`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.exporting.graph import INPUT
from cleftnet.exporting.onnx_graph import OPSET, run_onnx, write_onnx
from cleftnet.exporting.readme import readme
from cleftnet.exporting.source import ExportSource
from cleftnet.models.checkpoint import Float32
from cleftnet.volumes import NormalizationSettings

WEIGHTS, README, CARD = "weights.onnx", "README.md", "cleftnet.json"
PAPER = ("Liu and Ji: CleftNet, IEEE Transactions on Medical Imaging 2021", "10.1109/TMI.2021.3089547")
DATA = ("Gerhard et al.: Segmented anisotropic ssTEM dataset of neural tissue, 2013", "10.6084/m9.figshare.856713")
TAGS = [
    "electron-microscopy",
    "3d",
    "brain",
    "pytorch",
    "unet",
    "semantic-segmentation",
    "synapse",
    "connectomics",
]
WHITE = 255
EPS = 1e-6  # of the specification's `scale_range`


def write_bioimage(path: Path, source: ExportSource) -> None:
    """Write the package, once `bioimageio.core` has reproduced its test outputs.

    Raises:
        InputError: when the license is none that bioimage.io knows.
    """
    _license(source.weights_license)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        package = Path(folder, "model.zip")
        _pack(package, Path(folder), source)
        _check_reproduced(package)
        shutil.copyfile(package, path)


def run_bioimage(path: Path, raw: Float32) -> list[Float32]:
    """Run the graph of a package by ONNX Runtime on the CPU, and return its outputs `b 1 z y x`.

    Args:
        path: The package.
        raw: Gray values `b 1 z y x` in 0-1, as the preprocessing of the package makes them.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as package:
        return run_onnx(Path(package.extract(WEIGHTS, folder)), raw)


def preprocessed(gray: npt.NDArray[np.uint8], source: ExportSource) -> Float32:
    """Return gray values as the preprocessing in `rdf.yaml` makes them: float32 in 0-1.

    Args:
        gray: Gray values 0-255.
        source: The model, which may normalize by percentiles.
    """
    normalize = source.card.normalize
    if normalize is None:
        return (gray * np.float32(1 / WHITE)).astype(np.float32)
    low, high = np.percentile(gray, normalize.percentiles, axis=_measured(normalize), keepdims=True)
    black, white = (level / WHITE for level in normalize.levels)
    return np.asarray(((gray - low) / (high - low + EPS) * (white - black) + black).clip(0, 1), np.float32)


def _measured(normalize: NormalizationSettings) -> tuple[int, ...]:
    """Return the axes of `b 1 z y x` that are normalized together: those of a section, or of a sample of the batch."""
    return (1, 3, 4) if normalize.sections else (1, 2, 3, 4)


def _pack(package: Path, folder: Path, source: ExportSource) -> None:
    """Write the files of the package into a folder and pack them."""
    from bioimageio.spec import save_bioimageio_package

    write_onnx(folder / WEIGHTS, source)
    np.save(folder / f"{INPUT}.npy", source.test_gray)
    outputs = source.network.run(preprocessed(source.test_gray, source))
    for name, values in zip(source.network.outputs, outputs, strict=True):
        np.save(folder / f"{name}.npy", values)
    (folder / README).write_text(readme(source))
    (folder / CARD).write_text(json.dumps(source.description, indent=2))
    save_bioimageio_package(_model(folder, source), output_path=package)


def _model(folder: Path, source: ExportSource) -> Any:
    """Return the content of `rdf.yaml`."""
    from bioimageio.spec.model import v0_5 as spec

    found, released = source.description, source.released
    outside = {name: value for name, value in found.items() if name != "card"}
    return spec.ModelDescr(
        name=f"cleftnet {released}" if released else "cleftnet model",
        description="Finds synaptic clefts in volume electron microscopy: the probability of every voxel.",
        authors=[spec.Author(name="The cleftnet developers")] if released else [],
        cite=[spec.CiteEntry(text=text, doi=spec.Doi(doi)) for text, doi in ([PAPER, DATA] if released else [PAPER])],
        license=_license(source.weights_license),
        documentation=spec.FileDescr(source=folder / README),
        attachments=[spec.FileDescr(source=folder / CARD)],
        tags=TAGS,
        inputs=[_input(folder, source)],
        outputs=[_output(folder, name, source) for name in source.network.outputs],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=folder / WEIGHTS, opset_version=OPSET, comment="calibration included")
        ),
        config=spec.Config(cleftnet=outside),
    )


def _license(name: str | None) -> Any:
    """Return the license as the specification wants it; None where it is not known."""
    from bioimageio.spec.model import v0_5 as spec
    from pydantic import ValidationError

    try:
        return None if name is None else spec.LicenseId(name)
    except ValidationError:
        raise InputError(
            f"unknown license '{name}'; expected an SPDX identifier that is in use, such as license='CC-BY-4.0'"
        ) from None


def _axes(source: ExportSource) -> list[dict[str, Any]]:
    """Return name, voxel size and unit of the axes z y x."""
    size = source.card.voxel_size_nm
    if size is None:
        return [{"id": name} for name in "zyx"]
    return [{"id": name, "scale": side, "unit": "nanometer"} for name, side in zip("zyx", size, strict=True)]


def _input(folder: Path, source: ExportSource) -> Any:
    from bioimageio.spec.model import v0_5 as spec

    steps: list[Any] = [spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=1 / WHITE, offset=0))]
    if source.card.normalize is not None:
        low, high = source.card.normalize.percentiles
        black, white = (level / WHITE for level in source.card.normalize.levels)
        names = ("batch", "channel", *"zyx")
        together = [spec.AxisId(names[axis]) for axis in _measured(source.card.normalize)]
        steps = [
            spec.ScaleRangeDescr(
                kwargs=spec.ScaleRangeKwargs(axes=together, min_percentile=low, max_percentile=high, eps=EPS)
            ),
            spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=white - black, offset=black)),
            spec.ClipDescr(kwargs=spec.ClipKwargs(min=0, max=1)),
        ]
    steps.append(spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="float32")))
    space = [
        spec.SpaceInputAxis(size=side, concatenable=True, **axis)
        for side, axis in zip(source.network.patch, _axes(source), strict=True)
    ]
    return spec.InputTensorDescr(
        id=spec.TensorId(INPUT),
        description="Gray values 0-255, dark membranes; 0 is padding.",
        axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=[spec.Identifier("gray")]), *space],
        test_tensor=spec.FileDescr(source=folder / f"{INPUT}.npy"),
        data=spec.IntervalOrRatioDataDescr(type="uint8", range=(0, WHITE)),
        preprocessing=steps,
    )


def _output(folder: Path, name: str, source: ExportSource) -> Any:
    """Describe one output; the halo, which a consumer cuts off each side of a tile, is half the overlap of `predict`."""
    from bioimageio.spec.model import v0_5 as spec

    space = []
    for shared, axis in zip(source.overlap_vox, _axes(source), strict=True):
        side = spec.SizeReference(tensor_id=spec.TensorId(INPUT), axis_id=spec.AxisId(axis["id"]))
        halo = shared // 2
        kind = spec.SpaceOutputAxisWithHalo if halo else spec.SpaceOutputAxis
        space.append(kind(size=side, **axis, **({"halo": halo} if halo else {})))
    return spec.OutputTensorDescr(
        id=spec.TensorId(name),
        axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=[spec.Identifier(name)]), *space],
        test_tensor=spec.FileDescr(source=folder / f"{name}.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0, 1)),
    )


def _check_reproduced(package: Path) -> None:
    """Run the package on its test inputs by `bioimageio.core`.

    Raises:
        RuntimeError: when its outputs are not the test outputs.
    """
    from bioimageio.core import test_model

    summary = test_model(package, weight_format="onnx")
    if summary.status != "passed":
        errors = [error.msg for detail in summary.details for error in detail.errors]
        raise RuntimeError(f"bioimageio.core refuses the exported package: {'; '.join(errors)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the libraries of bioimage.io report on standard error, and their deprecation warnings."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("bioimageio")
