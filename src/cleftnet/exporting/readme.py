"""The README of an exported model package: use, input, outputs, tiles, threshold, validation and terms."""

from __future__ import annotations

from collections.abc import Sequence

from cleftnet.exporting.description import CODE_LICENSE
from cleftnet.exporting.source import ExportSource
from cleftnet.models.released import released_page

_PAGE = """# {name}

Finds synaptic clefts in volume electron microscopy. Exported by cleftnet {cleftnet_version}; `cleftnet.json` has the model card
and everything below in a form that programs read.

## Use

- Input `raw`: gray values of {patch} voxels z y x{voxel_size}, dark membranes on bright cytoplasm.
- Outputs, each 0 to 1: {outputs}. The calibration is part of the graph.
- Voxels of probability {threshold:.3g} or more count as cleft.
- Larger volumes are cut into tiles that overlap by {overlap} voxels; half of it is cut off each side of a tile.
  `cleftnet predict` takes weighted means of the overlapping tiles instead, which scores better.
{normalize}
## Validation

Compare predictions with labels of your own, on tissue that the model has not seen:
`cleftnet evaluate PREDICTION TRUTH`, or the voxel F1 at the threshold above.
Validation scores of these weights: {scores}.

## Terms

Code: {code}. Weights: {weights}.
"""


def readme(source: ExportSource) -> str:
    """Return the README of a model, in Markdown, followed by the page of a released model."""
    card, found = source.card, source.description
    black_white = ""
    if card.normalize is not None:
        (low, high), (black, white) = card.normalize.percentiles, card.normalize.levels
        of = "every section" if card.normalize.sections else "the volume"
        black_white = (
            f"- The percentiles {low:g} and {high:g} of {of} become the gray levels {black:.4g} and {white:.4g} of 0 (black) "
            f"to 255 (white).\n"
        )
    page = _PAGE.format(
        name=f"cleftnet {source.released}" if source.released else "cleftnet model",
        cleftnet_version=found["cleftnet_version"],
        patch=_sides(source.network.patch),
        voxel_size=f" of {_sides(card.voxel_size_nm)} nm" if card.voxel_size_nm else "",
        outputs=" and ".join(source.network.outputs),
        threshold=card.threshold,
        overlap=_sides(source.overlap_vox),
        normalize=black_white,
        scores=", ".join(f"{name} {value:.4g}" for name, value in card.scores.items() if value is not None) or "none",
        code=CODE_LICENSE,
        weights=source.weights_license or "not stated",
    )
    return page if source.released is None else f"{page}\n{released_page(source.released)}"


def _sides(values: Sequence[float]) -> str:
    return "×".join(f"{value:g}" for value in values)
