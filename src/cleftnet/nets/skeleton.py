"""The encoder-decoder behind all networks of the paper: a spec names its parts, the skeleton joins them.

Each encoder level is a block, then downsampling. The bottom is a block, then an attention. Each decoder level
upsamples, joins the skip, then applies its block: the upsampling comes *first*, because the skip needs features of its
own size. A 1×1×1 convolution gives one logit per head (docs/method.md, "Networks").
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import IntZYX
from cleftnet.nets.parts import BLOCKS, BOTTOMS, DOWNS, SKIPS, UPS, Site
from cleftnet.settings import Settings

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float

HEADS = ("segmentation", "boundary")


class NetSpec(Settings):
    """Everything that decides a network's parameters: the names of its parts, then its sizes.

    Attributes:
        block: A name in `parts.BLOCKS`.
        down: A name in `parts.DOWNS`.
        bottom: A name in `parts.BOTTOMS`.
        up: A name in `parts.UPS`.
        skip: A name in `parts.SKIPS`.
        heads: `("segmentation",)`, or with `"boundary"` where the label augmentor trains a second output.
        widths: Output channels of the encoder levels; the last is that of the bottom.
        patch: Input size z y x in voxels.
        pooling: Factor z y x between one level and the next, each 1 or 2. (1, 2, 2) keeps all sections at every level, for
            voxels that are much longer in z; (2, 2, 2) is the paper's.
        max_keys: Largest number of keys in an attention; None keeps all.
        query_grid: Size z y x of the grid on which feature augmentors hold their queries, for example (1, 1, 1); None
            is the paper's one query for each output voxel. Axes of a level that are shorter than the grid's take their
            own length.
        zero_start: Start the output convolution of every feature augmentor at zero, so that an untrained augmentor
            returns its residual alone (as in non-local networks, Wang et al. 2018).
        pixel_unshuffle: Factor r by which raw is folded into r² channels along y and x before the first level, and
            logits are unfolded after the head (Shi et al. 2016). All levels then have r² times fewer voxels. 1 is the
            paper's network.
        tissue_classes: Number of additional outputs that only exist in training, where they learn the classes of other
            tissue (`loss.tissue_weight`). 0 is the paper's network.
    """

    block: str = "conv-residual"
    down: str = "max-pool"
    bottom: str = "none"
    up: str = "transposed-conv"
    skip: str = "concat"
    heads: tuple[str, ...] = ("segmentation",)
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 96, 128, 160), min_length=2)
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (8, 256, 256)
    pooling: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] = (2, 2, 2)
    max_keys: PositiveInt | None = None
    query_grid: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    zero_start: bool = False
    pixel_unshuffle: PositiveInt = 1
    tissue_classes: int = Field(0, ge=0, le=256)

    @model_validator(mode="after")
    def _parts_exist_and_fit(self) -> Self:
        for field, table in (("block", BLOCKS), ("down", DOWNS), ("bottom", BOTTOMS), ("up", UPS), ("skip", SKIPS)):
            name = getattr(self, field)
            if name not in table:
                raise ValueError(f"unknown {field} '{name}'; {nearest(name, list(table))}")
        if (self.down == "max-pool-indices") != (self.up == "max-unpool"):
            raise ValueError("down='max-pool-indices' and up='max-unpool' work only together")
        if self.heads not in (HEADS[:1], HEADS):
            raise ValueError(f"heads {self.heads} must be {HEADS[:1]} or {HEADS}")
        if any(side % self.pixel_unshuffle for side in self.patch[1:]):
            raise ValueError(
                f"patch {self.patch} cannot be folded by pixel_unshuffle {self.pixel_unshuffle}: y and x must be multiples "
                f"of it"
            )
        return self

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys of a network in a recipe: the fields, and the `name` of the zoo's row that they change."""
        return ["name", *super().keys()]

    def changed(self, **changes: Any) -> NetSpec:
        """Return this spec with some of its fields changed.

        Raises:
            InputError: when a field is unknown or a value is refused.

        Example:
            >>> NetSpec().changed(patch=(8, 96, 96)).shapes[-1]
            (1, 6, 6)
        """
        return NetSpec(**(self.model_dump() | changes))

    @property
    def shapes(self) -> tuple[IntZYX, ...]:
        """Feature sizes z y x level by level: each axis is divided by `pooling`, never below 1."""
        z, y, x = self.patch
        shapes = [(z, y // self.pixel_unshuffle, x // self.pixel_unshuffle)]
        for _ in self.widths[1:]:
            z, y, x = (max(1, n // factor) for n, factor in zip(shapes[-1], self.pooling, strict=True))
            shapes.append((z, y, x))
        return tuple(shapes)


def channels_out(part: nn.Module) -> int:
    """Return the output channels of an upsampling part or a skip."""
    return int(part.out_channels)  # type: ignore[arg-type]  # nn.Module attributes are tensors or modules to mypy


class Network(nn.Module):
    """An encoder-decoder built from a spec; maps raw in 0-1 to logits.

    Args:
        spec: The parts and sizes.

    Example:
        >>> import torch
        >>> net = Network(NetSpec(widths=(2, 4), patch=(2, 8, 8), heads=("segmentation", "boundary")))
        >>> net(torch.zeros(1, 1, 2, 8, 8)).shape
        torch.Size([1, 2, 2, 8, 8])
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        shapes, widths, depth = spec.shapes, spec.widths, len(spec.widths) - 1
        options = (spec.max_keys, spec.query_grid, spec.zero_start)

        def site(before: int, after: int) -> Site:
            return Site(widths[before], shapes[before], shapes[after], widths[min(before, after)], *options)

        folded = spec.pixel_unshuffle**2
        enters = (folded, *widths[:depth])
        self.encoder = nn.ModuleList(BLOCKS[spec.block](enters[i], widths[i]) for i in range(depth))
        self.downs = nn.ModuleList(DOWNS[spec.down](site(i, i + 1)) for i in range(depth))
        self.bottom_block = BLOCKS[spec.block](enters[depth], widths[depth])
        self.bottom = BOTTOMS[spec.bottom](site(depth, depth))
        self.ups, self.skips, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(depth)):
            up = UPS[spec.up](site(i + 1, i))
            skip = SKIPS[spec.skip](channels_out(up), widths[i], shapes[i])
            self.ups.append(up)
            self.skips.append(skip)
            self.decoder.append(BLOCKS[spec.block](channels_out(skip), widths[i]))
        self.head = nn.Conv3d(widths[0], (len(spec.heads) + spec.tissue_classes) * folded, 1)

    def channels_last(self) -> Self:
        """Store convolutions and queries with channels last, 1.3 to 1.6 times faster on CPUs, and return self."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
            elif isinstance(query := getattr(module, "query", None), Tensor) and query.dim() == 4:
                query.data = query.data.movedim(0, -1).contiguous().movedim(-1, 0)
        return self

    def forward(self, x: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b outputs z y x"]:
        """Return logits `b outputs z y x` for raw `b 1 z y x` in 0-1.

        Channel 0 is the segmentation logit, P(cleft) = sigmoid; channel 1, where there is one, is the boundary output
        before its tanh. In training mode the logits of the tissue classes follow.

        Raises:
            InputError: when the input does not have the patch size that the network was built for, or when training
                would normalize a single voxel.
        """
        if tuple(x.shape[-3:]) != self.spec.patch or x.dim() != 5 or x.shape[1] != 1:
            raise InputError(
                f"network input has shape {tuple(x.shape)}; this model takes b×1×{'×'.join(map(str, self.spec.patch))}"
            )
        if self.training and x.shape[0] == math.prod(self.spec.shapes[-1]) == 1:
            raise InputError(
                f"batch norm cannot train on one patch whose bottom level is one voxel; give more than one patch a "
                f"step, or sides larger than {'×'.join(map(str, self.spec.patch))}"
            )
        factor = self.spec.pixel_unshuffle
        if factor > 1:
            x = F.pixel_unshuffle(x.transpose(1, 2), factor).transpose(1, 2)
            x = x.contiguous(memory_format=torch.channels_last_3d)
        else:
            x = x.reshape(*x.shape[:1], *x.shape[2:], 1).movedim(-1, 1)  # else the first block has channels first
        kept, memories = [], []
        for block, down in zip(self.encoder, self.downs, strict=True):
            x = block(x)
            kept.append(x)
            x, memory = down(x)
            memories.append(memory)
        x = self.bottom(self.bottom_block(x))
        for up, skip, block in zip(self.ups, self.skips, self.decoder, strict=True):
            x = block(skip(up(x, memories.pop()), kept.pop()))
        logits: Tensor = self.head(x)
        if factor > 1:
            logits = F.pixel_shuffle(logits.transpose(1, 2), factor).transpose(1, 2)
        return logits if self.training else logits[:, : len(self.spec.heads)]
