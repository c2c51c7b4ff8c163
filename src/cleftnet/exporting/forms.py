"""Writes a trained model as a file for other programs; the ending of the file decides its form."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleftnet.errors import InputError
from cleftnet.exporting.bioimage import run_bioimage, write_bioimage
from cleftnet.exporting.description import describe, known_license, released_name
from cleftnet.exporting.graph import calibrated_network
from cleftnet.exporting.onnx_graph import run_onnx, write_onnx
from cleftnet.exporting.pt2 import run_pt2, write_pt2
from cleftnet.exporting.source import ExportSource
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import OVERLAP, IntZYX
from cleftnet.models.checkpoint import Float32, Model, load_model
from cleftnet.prediction import overlap_in_voxels
from cleftnet.prediction.job import at_patch

TOLERANCE = 1e-4  # of probability and distance: an exported file against the network that it was made from

log = logging.getLogger(__name__)


class Form(NamedTuple):
    """A kind of exported file.

    Attributes:
        name: What it is called in messages.
        write: Writes the file.
        run: Reads the file and runs it on the test patch.
        needs: Modules of the extra `export` that it needs.
    """

    name: str
    write: Callable[[Path, ExportSource], None]
    run: Callable[[Path, Float32], list[Float32]]
    needs: tuple[str, ...] = ()


_ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMS = {
    ".pt2": Form("torch.export", write_pt2, run_pt2),
    ".onnx": Form("ONNX", write_onnx, run_onnx, _ONNX),
    ".zip": Form("bioimage.io", write_bioimage, run_bioimage, (*_ONNX, "bioimageio.spec", "bioimageio.core")),
}


def export(
    model: str | Path | Model,
    out: str | Path,
    *,
    patch: IntZYX | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a trained model as one file that other programs run, with everything they need to know about it.

    The graph takes gray values `b 1 z y x`, float32 in 0-1, and returns the calibrated probability and, where the model has
    that head, the distance, both `b 1 z y x` in 0-1; an ensemble is one graph. The number of patches is free, their size is
    not. The file is read back and run on one patch before it appears: it reproduces the network to 1e-4.

    Args:
        model: A run directory, a checkpoint file, the name of a released model, or a loaded model.
        out: File to write: `.pt2` (torch.export), `.onnx`, or `.zip` (a bioimage.io model package). All but `.pt2` need the
            extra `export`.
        patch: Patch size z y x other than the one trained with; the queries are interpolated. None keeps the trained size.
        license: SPDX identifier of the license of the weights, such as `CC-BY-4.0`; None takes that of the released model
            which the weights are or were fine-tuned from.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        InputError: when the ending is unknown, an extra is missing, there is no such model, the network cannot take the
            patch or be translated, or `out` exists.

    Example:
        >>> import tempfile
        >>> from cleftnet.models.checkpoint import ModelCard
        >>> from cleftnet.nets.zoo import build
        >>> net = build("resunet", widths=(2, 4), patch=(4, 16, 16))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(Model(net, ModelCard(spec=net.spec)), Path(folder, "net.pt2")).name
        'net.pt2'
    """
    path = Path(out)
    form_of(path)
    refuse_existing(path, overwrite)
    write_export(path, export_source(model, patch, license), overwrite=overwrite)
    return path


def export_source(model: str | Path | Model, patch: IntZYX | None = None, license: str | None = None) -> ExportSource:
    """Load a model and describe it; the arguments are those of `export`."""
    released = None if isinstance(model, Model) else released_name(str(model))
    loaded = model if isinstance(model, Model) else load_model(model)
    if loaded.trees is not None:
        raise InputError(
            "this model averages boosted trees with its networks, and a graph holds networks only; export a model without "
            "trees, such as vnc-l3-cleftnet or a checkpoint of its training"
        )
    network = calibrated_network(loaded, at_patch(loaded.net, patch))
    description = describe(loaded, network, license or known_license(released, loaded.card))
    overlap = overlap_in_voxels(network.patch, OVERLAP)
    return ExportSource(network, loaded.card, overlap, description, released)


def write_export(path: Path, source: ExportSource, *, overwrite: bool = False) -> None:
    """Write a file in the form of its ending, and check it before it appears."""
    form = form_of(path)
    with replacing(path, overwrite) as temporary:
        form.write(temporary, source)
        _check(temporary, form, source)


def form_of(path: Path) -> Form:
    """Return the form of a file's ending.

    Raises:
        InputError: when the ending is unknown, or a module that the form needs is not installed.
    """
    if path.suffix.lower() not in FORMS:
        raise InputError(
            f"{path} does not say what to export; expected a name ending in {', '.join(FORMS)} "
            f"({', '.join(form.name for form in FORMS.values())})"
        )
    form = FORMS[path.suffix.lower()]
    missing = [module for module in form.needs if not _is_installed(module)]
    if missing:
        raise InputError(
            f"{path}: exporting to {form.name} needs {', '.join(missing)}, not installed; pip install 'cleftnet[export]', or "
            f"choose an output ending in .pt2"
        )
    return form


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module lies in
        return False


def _check(path: Path, form: Form, source: ExportSource) -> None:
    """Run the file on the test patch.

    Raises:
        RuntimeError: when its outputs are not those of the network.
    """
    outputs = zip(form.run(path, source.test_raw), source.network.run(source.test_raw), strict=True)
    difference = max(float(np.abs(found - expected).max()) for found, expected in outputs)
    if not difference <= TOLERANCE:  # also true of NaN
        raise RuntimeError(f"the exported file differs from the network by {difference:.1e}, more than {TOLERANCE:g}")
    log.info(f"read back and run on one patch: at most {difference:.1e} from the network")
