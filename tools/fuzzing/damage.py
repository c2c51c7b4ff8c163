"""Damages files: bytes of any file, and values of JSON and YAML texts."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "é☃", "a\x00b", "a\nb", -1, 0, 1, 3, 7, 255, 2**31, 2**63, 2**64, -(2**63), 1e308, -0.5,
    0.5, float("nan"), float("inf"), [], {}, [1, 2], [0, 0, 0], [-1, -1, -1], [1, 1, 1], [1e300] * 3, ["z", "y", "x"],
    "a" * 5000, "../../x", "/", {"a": {}}, [[[]]], "<u8", "|O8", "zstd", "1e999", "0x10", "NaN", "$HOME", "~",
)  # fmt: skip
_SIZES = {"shape", "size", "dimensions", "chunks", "chunk_size", "chunk_shape", "chunk_sizes", "blockSize", "roi"}
SMALL_VALUES: tuple[Any, ...] = (
    None, "", "x", -1, 0, 1, 7, 0.5, [], {}, [1, 2], [0, 0, 0], [-1, -1, -1], [1, 1, 1], [64, 3, 5], ["z", "y", "x"],
)  # fmt: skip


def damage_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return a file with one to four damages, more of them in its first kilobytes, where headers are."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        reach = draw.choice((64, 512, 4096, len(changed)))
        at = draw.randrange(min(reach, len(changed)))
        draw.choice(_DAMAGES)(changed, at, draw)
    return bytes(changed)


def _flip(data: bytearray, at: int, draw: random.Random) -> None:
    data[at] ^= 1 << draw.randrange(8)


def _set(data: bytearray, at: int, draw: random.Random) -> None:
    data[at] = draw.randrange(256)


def _number(data: bytearray, at: int, draw: random.Random) -> None:
    code, width = draw.choice((("B", 1), ("H", 2), ("I", 4), ("Q", 8)))
    number = draw.choice(_NUMBERS) % 2 ** (8 * width)
    data[at : at + width] = struct.pack(draw.choice("<>") + code, number)


def _fill(data: bytearray, at: int, draw: random.Random) -> None:
    length = min(draw.choice((4, 16, 100)), len(data) - at)
    data[at : at + length] = bytes([draw.choice((0, 255, draw.randrange(256)))]) * length


def _noise(data: bytearray, at: int, draw: random.Random) -> None:
    length = min(draw.choice((4, 16, 100)), len(data) - at)
    data[at : at + length] = draw.randbytes(length)


def _cut(data: bytearray, at: int, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _remove(data: bytearray, at: int, draw: random.Random) -> None:
    del data[at : at + draw.choice((1, 4, 100))]


def _insert(data: bytearray, at: int, draw: random.Random) -> None:
    data[at:at] = draw.randbytes(draw.choice((1, 4, 100)))


def _repeat(data: bytearray, at: int, draw: random.Random) -> None:
    data[at:at] = data[at : at + draw.choice((4, 16, 100))]


_DAMAGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip, _flip, _set, _set, _number, _number, _number, _fill, _noise, _cut, _remove, _insert, _repeat,
)  # fmt: skip


def damage_tree(tree: Any, draw: random.Random) -> Any:
    """Replace, remove or add one value somewhere in nested lists and mappings."""
    places = list(_places(tree))
    if not places:
        return copy.deepcopy(draw.choice(ODD_VALUES))
    parent, key = draw.choice(places)
    how = draw.random()
    if how < 0.15:
        del parent[key]
    elif how < 0.25 and isinstance(parent, dict):
        parent[f"{key}_"] = copy.deepcopy(parent[key])
    elif how < 0.3 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:  # a huge size is not damage: it only takes long
        values = SMALL_VALUES if key in _SIZES or isinstance(parent, list) else ODD_VALUES
        parent[key] = copy.deepcopy(draw.choice(values))  # else the next damage would change the values themselves
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def damage_text(text: str, draw: random.Random, kind: str) -> str:
    """Damage a JSON or YAML text as a tree of values; rarely, nest it a thousand times."""
    if draw.random() < 0.02:
        return "[" * 100_000
    tree = json.loads(text) if kind == "json" else yaml.safe_load(text)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        tree = damage_tree(tree, draw)
    if kind == "json":
        return json.dumps(tree, indent=draw.choice((None, 2)))
    dumped: str = yaml.safe_dump(tree)
    return dumped


def damage_safetensors(data: bytes, draw: random.Random) -> bytes:
    """Damage the header of a safetensors file, or the model card inside the header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    texts = header.get("__metadata__", {})
    cards = sorted(name for name, text in texts.items() if text.startswith("{"))
    if cards and draw.random() < 0.7:
        name = draw.choice(cards)
        texts[name] = damage_text(texts[name], draw, "json")
    else:
        header = damage_tree(header, draw)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def damage_path(path: Path, draw: random.Random) -> str:
    """Damage one file, of a folder any one of them; return what was done.

    Texts of JSON and YAML are damaged as trees three times out of four, everything else byte by byte. A file of a folder may
    also be deleted, emptied or become a folder.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    texts = [p for p in files if _kind(p) is not None]
    file = draw.choice(texts if texts and draw.random() < 0.6 else files)
    if path.is_dir() and draw.random() < 0.06:
        file.unlink()
        if draw.random() < 0.3:
            file.mkdir()
        return f"{file.name} removed"
    data, kind = file.read_bytes(), _kind(file)
    if kind is not None and draw.random() < 0.75:
        file.write_text(damage_text(data.decode(), draw, kind), "utf-8", "surrogatepass")
        return f"{file.name}: a value"
    if file.suffix == ".safetensors" and draw.random() < 0.75:
        file.write_bytes(damage_safetensors(data, draw))
        return f"{file.name}: header or card"
    file.write_bytes(damage_bytes(data, draw))
    return f"{file.name}: bytes"


def _kind(file: Path) -> str | None:
    if file.suffix in (".yaml", ".yml"):
        return "yaml"
    named = file.suffix == ".json" or file.name in (".zarray", ".zattrs", ".zgroup", ".zmetadata", "info")
    return "json" if named else None
