"""The feature augmentor: exact against map-forming, fewer keys, folding, training steps, spread of queries."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import machine, measure
from cleftnet.geometry import Box, IntZYX
from cleftnet.models.checkpoint import load_model
from cleftnet.nets.attention import FeatureAugmentor, resize
from cleftnet.nets.folding import fold
from cleftnet.nets.keys import reduce_keys, reduced_shape
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.nets.zoo import ZOO, spec
from cleftnet.synthetic import synthetic_volume
from cleftnet.training.losses import LossSettings, cleft_loss
from cleftnet.volumes import intensity, open_volume

MIB = 2**20
KEYS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
Run = Callable[[], object]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds_and_bytes(run: Run) -> tuple[float, int]:
    """Call `run` and return its time and how far memory use grew at its peak.

    On the CPU this is the high-water mark of the process, which is reset before (Linux). On a GPU it is what PyTorch's
    allocator handed out.
    """
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start, torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _high_water_mark(), time.perf_counter()
    run()
    return time.perf_counter() - start, _high_water_mark() - before


def _high_water_mark() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def alone(prepare: Callable[..., Run], *arguments: Any) -> tuple[float, int]:
    """Measure the function that `prepare(*arguments)` returns, in a process of its own."""
    result: tuple[float, int] = measure(_prepared, _measured, prepare, *arguments).result
    return result


def _prepared(prepare: Callable[..., Run], *arguments: Any) -> tuple[Run]:
    torch.manual_seed(0)
    return (prepare(*arguments),)


def _measured(run: Run) -> tuple[float, int]:
    return seconds_and_bytes(run)


# -- exact against map-forming --


def by_map(fa: FeatureAugmentor, x: Tensor) -> Tensor:
    """Compute Eqs. 3-5 as printed, forming the map."""
    weights = (fa.key(x).flatten(2).transpose(1, 2) @ fa.query.flatten(1)).softmax(1)
    z = (fa.value(x).flatten(2) @ weights).view(len(x), -1, *fa.out_shape)
    return fa.output(z) + resize(x, fa.out_shape)  # type: ignore[no-any-return]  # nn.Module calls are Any


def by_transposed_view(fa: FeatureAugmentor, x: Tensor) -> Tensor:
    """Call the kernel as cleftnet does, but with Q, K, V as transposed views, for which it forms the map on the CPU."""
    q, k, v = (
        t.flatten(2).transpose(1, 2).unsqueeze(1)
        for t in (fa.query[None].expand(len(x), -1, -1, -1, -1), fa.key(x), fa.value(x))
    )
    z = nn.functional.scaled_dot_product_attention(q, k, v, scale=fa.scale)
    z = z.squeeze(1).transpose(1, 2).reshape(len(x), -1, *fa.out_shape)
    return fa.output(z) + resize(x, fa.out_shape)  # type: ignore[no-any-return]  # nn.Module calls are Any


FORMS = {"exact, no map": FeatureAugmentor.forward, "map formed": by_map, "transposed view": by_transposed_view}


def one_augmentor(form: str, in_shape: IntZYX, out_shape: IntZYX, backward: bool, max_keys: int | None = None) -> Run:
    """Return a pass through one augmentor of 32 channels, after a warm-up."""

    def on(shape: IntZYX, result: IntZYX) -> Run:
        fa = FeatureAugmentor(32, shape, result, max_keys=max_keys).to(device())
        x = torch.randn(1, 32, *shape, device=device(), requires_grad=backward)

        def run() -> None:
            with torch.set_grad_enabled(backward):
                y = FORMS[form](fa, x)
                if backward:
                    y.sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch

        return run

    on((2, 8, 8), (1, 4, 4))()
    return on(in_shape, out_shape)


def exact_against_map() -> None:
    print(f"\n{'one augmentor, 32 channels':28s}{'keys × queries':>18s}{'forward':>20s}{'with backward':>20s}")
    for in_shape, out_shape in (((8, 32, 32), (4, 32, 32)), ((8, 64, 64), (16, 32, 32))):
        first: list[tuple[float, int]] = []
        for form in FORMS:
            found = [alone(one_augmentor, form, in_shape, out_shape, backward) for backward in (False, True)]
            first = first or found
            sizes = f"{np.prod(in_shape):,} × {np.prod(out_shape):,}"
            cells = "".join(f"{s:8.2f} s {b / MIB:6.0f} MiB" for s, b in found)
            against = ", ".join(
                f"{s / t:.1f}× time {b / max(c, 1):.0f}× memory" for (s, b), (t, c) in zip(found, first, strict=True)
            )
            print(f"{form:28s}{sizes:>18s}{cells}   {against}", flush=True)


# -- reduced keys --


def reduced_against_exact() -> None:
    in_shape, out_shape = (8, 64, 64), (4, 32, 32)
    torch.manual_seed(0)
    fa = FeatureAugmentor(32, in_shape, out_shape)
    x = torch.randn(1, 32, *in_shape)
    exact = attended(fa, x)
    time_exact, _ = alone(one_augmentor, "exact, no map", in_shape, out_shape, True)
    print(f"\n32,768 random keys × 4,096 queries at their first values; exact {time_exact:.2f} s forward and backward")
    print(f"{'keys':>8s}{'time s':>10s}{'faster':>9s}{'relative error':>17s}")
    for keys in KEYS:
        seconds, _ = alone(one_augmentor, "exact, no map", in_shape, out_shape, True, keys)
        print(
            f"{keys:8,d}{seconds:10.3f}{time_exact / seconds:8.1f}×{error(attended(fa, x, keys), exact):17.2g}",
            flush=True,
        )


@torch.no_grad()
def attended(fa: FeatureAugmentor, x: Tensor, max_keys: int | None = None) -> Tensor:
    """Return what an augmentor adds to its residual, with all keys or at most `max_keys`."""
    own, fa.key_shape = fa.key_shape, reduced_shape(fa.in_shape, max_keys)
    y: Tensor = fa(x) - resize(x, fa.out_shape)
    fa.key_shape = own
    return y


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def reduced_on_trained(address: str, volume: str | None) -> None:
    """Print the errors of reduced keys in a trained model: of what its augmentors add, and of its logits."""
    trained = load_model(address).net
    net = Network(trained.spec.changed(max_keys=None)).eval()
    net.load_state_dict(trained.state_dict())
    augmentors = [m for m in net.modules() if isinstance(m, FeatureAugmentor)]
    inputs: dict[FeatureAugmentor, Tensor] = {}
    hooks = [fa.register_forward_pre_hook(lambda fa, given: inputs.update({fa: given[0]})) for fa in augmentors]
    patch = tissue(volume, net.spec.patch)
    with torch.no_grad():
        logits = net(patch)
    for hook in hooks:
        hook.remove()
    exact = {fa: attended(fa, x) for fa, x in inputs.items()}
    print(
        f"\na trained model's features on {volume or 'synthetic tissue'}; "
        f"trained with {trained.spec.max_keys or 'all'} keys"
    )
    print(
        f"{'keys':>8s}{'a key is':>20s}{'augmentors: median':>20s}{'largest':>10s}{'logits':>10s}{'clefts (Dice)':>15s}"
    )
    for name, reduce in (("mean of a cell", reduce_keys), ("voxel of a cell", one_voxel_a_cell)):
        for keys in KEYS:
            with mock.patch("cleftnet.nets.attention.reduce_keys", reduce), torch.no_grad():
                found = [error(attended(fa, x, keys), exact[fa]) for fa, x in inputs.items()]
                for fa in augmentors:
                    fa.key_shape = reduced_shape(fa.in_shape, keys)
                reduced = net(patch)
                for fa in augmentors:
                    fa.key_shape = fa.in_shape
            a, b = logits[:, 0] > 0, reduced[:, 0] > 0
            dice = 2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1)
            errors = f"{statistics.median(found):20.2g}{max(found):10.2g}{error(reduced, logits):10.2g}{dice:15.4f}"
            print(f"{keys:8,d}{name:>20s}{errors}", flush=True)


def one_voxel_a_cell(x: Tensor, shape: IntZYX) -> Tensor:
    """Reduce keys to the voxel in the middle of each cell instead of the cell's mean."""
    for axis, (n, cells) in enumerate(zip(x.shape[-3:], shape, strict=True), start=2):
        x = x.index_select(axis, ((torch.arange(cells) + 0.5) * n / cells).long())
    return x


def tissue(address: str | None, patch: IntZYX) -> Tensor:
    """Return the patch in the middle of a volume, or a synthetic one, as `1 1 z y x`."""
    volume = open_volume(address) if address else synthetic_volume(patch, seed=0).raw
    start = [(n - p) // 2 for n, p in zip(volume.shape, patch, strict=True)]
    return torch.from_numpy(intensity(volume[Box.at(start, patch)]))[None, None]


# -- the spread of trained queries --


class QuerySpread(NamedTuple):
    """How far the queries of one augmentor differ from place to place.

    Attributes:
        augmentor: Its name in the network.
        places: Number of queries.
        mean: Norm of the mean query.
        deviation: Mean norm of a query's deviation from the mean query.
    """

    augmentor: str
    places: int
    mean: float
    deviation: float


def query_spread(net: nn.Module) -> list[QuerySpread]:
    """Return the spread of the queries of every feature augmentor, in the order of the network."""
    found = []
    for name, module in net.named_modules():
        if isinstance(module, FeatureAugmentor):
            query = module.query.detach().double().flatten(1)
            mean = query.mean(1, keepdim=True)
            deviation = (query - mean).norm(dim=0).mean()
            found.append(QuerySpread(name.removesuffix(".part"), query.shape[1], float(mean.norm()), float(deviation)))
    return found


def print_query_spread(address: str) -> None:
    found = query_spread(load_model(address).net)
    print(f"\nspread of the queries of {address}" + ("" if found else ": it has no feature augmentor"))
    if found:
        print(f"{'augmentor':12s}{'queries':>10s}{'|mean|':>10s}{'mean |q - mean|':>18s}{'spread / mean':>16s}")
    for row in found:
        ratio = row.deviation / row.mean if row.mean else float("inf")
        print(f"{row.augmentor:12s}{row.places:10,d}{row.mean:10.4f}{row.deviation:18.4f}{ratio:16.2f}")


# -- folding, training steps, the full size --


def inference(sizes: NetSpec, folded: bool) -> Run:
    net = Network(sizes).eval().channels_last().to(device())
    net = fold(net).channels_last() if folded else net
    x = torch.rand(1, 1, *sizes.patch, device=device())

    @torch.inference_mode()
    def run() -> None:
        net(x)

    if sizes.max_keys is not None:
        run()
    return run


def folded_against_unfolded(patch: IntZYX, max_keys: int) -> None:
    print(f"\n{'one forward pass of CleftNet, ' + '×'.join(map(str, patch)):44s}{'unfolded':>20s}{'folded':>20s}")
    for keys in (max_keys, None) if np.prod(patch) < 2**16 else (max_keys,):
        sizes = spec("cleftnet", patch=patch, max_keys=keys)
        found = [alone(inference, sizes, folded) for folded in (False, True)]
        cells = "".join(f"{s:8.2f} s {b / MIB:6.0f} MiB" for s, b in found)
        (s, b), (t, c) = found
        print(
            f"{'all keys' if keys is None else f'{keys} keys':44s}{cells}   "
            f"{t / s:.2f} of the time, {c / b:.2f} of the memory",
            flush=True,
        )


def training_step(sizes: NetSpec, batch: int) -> Run:
    """Return one optimizer step, after a warm-up step."""
    net = Network(sizes).channels_last().to(device())
    optimizer = torch.optim.Adam(net.parameters())
    x = torch.rand(batch, 1, *sizes.patch, device=device())
    classes = (torch.rand(batch, *sizes.patch, device=device()) < 0.01).to(torch.uint8)

    def run() -> None:
        loss = cleft_loss(net(x), classes, classes * 0.76, LossSettings()).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()

    run()
    return run


def steps_against_resunet(patch: IntZYX, max_keys: int, batch: int, repeats: int) -> None:
    print(f"\none training step, patch {'×'.join(map(str, patch))}, batch {batch}, best of {repeats}, {max_keys} keys")
    print(f"{'network':20s}{'time s':>9s}{'against ResUnet':>17s}{'peak MiB':>10s}")
    rows = {
        name: spec(name, patch=patch, max_keys=max_keys) for name in sorted(ZOO, key=lambda name: name != "resunet")
    }
    if np.prod(patch) < 2**16:
        rows["cleftnet, all keys"] = spec("cleftnet", patch=patch)
    resunet = 0.0
    for name, sizes in rows.items():
        found = [alone(training_step, sizes, batch) for _ in range(repeats)]
        seconds, peak = min(found)
        resunet = resunet or seconds
        print(f"{name:20s}{seconds:9.2f}{seconds / resunet:16.2f}×{peak / MIB:10.0f}", flush=True)


def full_forward() -> None:
    print("\nexact forward pass of CleftNet at the paper's size")
    for folded in (False, True):
        seconds, peak = alone(inference, ZOO["cleftnet"], folded)
        print(f"{'folded' if folded else 'unfolded':10s}{seconds:8.0f} s{peak / MIB:10,.0f} MiB", flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks attention", description=__doc__)
    parts = ("exact", "reduced", "folded", "steps", "forward", "spread")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default: the first four")
    parser.add_argument(
        "--model", help="trained CleftNet for the parts reduced (its features) and spread (its queries)"
    )
    parser.add_argument("--volume", help="tissue that the model is applied to in reduced (default: synthetic)")
    parser.add_argument("--max-keys", type=int, default=512, help="number of keys of the reduced form (default: 512)")
    parser.add_argument("--batch", type=int, default=2, help="patches in a training step (default: 2)")
    parser.add_argument("--full", action="store_true", help="use the paper's patch 8×256×256 instead of 8×64×64")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    chosen = given.parts or parts[:4]
    if "spread" in chosen and not given.model:
        parser.error("spread needs --model: a run directory, a checkpoint, or the name of a released model")
    patch: IntZYX = (8, 256, 256) if given.full else (8, 64, 64)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"{machine('torch')}; {where}")
    if "exact" in chosen:
        exact_against_map()
    if "reduced" in chosen:
        reduced_against_exact()
        if given.model:
            reduced_on_trained(given.model, given.volume)
    if "folded" in chosen:
        folded_against_unfolded(patch, given.max_keys)
    if "steps" in chosen:
        steps_against_resunet(patch, given.max_keys, given.batch, 1 if given.full else 3)
    if "forward" in chosen:
        full_forward()
    if "spread" in chosen:
        print_query_spread(given.model)
