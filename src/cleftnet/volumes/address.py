"""Addresses, the one string that names an array, and the folders behind them: on this machine, in a bucket or behind HTTP.

Which endings belong to which format is the table in `cleftnet.volumes.opening`.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleftnet.errors import InputError, nearest
from cleftnet.files import json_object
from cleftnet.volumes.forks import run

if TYPE_CHECKING:
    import tensorstore as ts

Address = str | os.PathLike[str]

SCHEMES = ("s3", "gs", "http", "https")
UNSYNCED = {"context": {"file_io_sync": False}}  # part of a spec: before the file is complete, no chunk need be on disk

DATA_VARIABLE, DATA_FOLDER = "CLEFTNET_DATA", "~/cleftnet-data"  # where downloads go and recipes look; the default

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
# tensorstore's own are 32 attempts, which take minutes where a name is wrong
_RETRIES = {"max_retries": 4, "initial_delay": "200ms", "max_delay": "2s"}
_SECONDARY = re.compile(r" \[(tensorstore_spec|curl_code|os_error_code|http_response_code|source)[^\]]*\].*", re.DOTALL)
FAILURES = (ValueError, RuntimeError, OSError)  # what tensorstore raises, by its status codes


@dataclass(frozen=True)
class Location:
    """An address taken apart.

    Args:
        path: The file, the folder, the pattern of slices (`stack/*.tif`) or the URL, without a slash at the end.
        inside: The array inside the file, such as `volumes/raw`; empty where the address names the file alone.
        scheme: What stood before the path to name the format: `precomputed://`, or nothing.
    """

    path: str
    inside: str = ""
    scheme: str = ""

    def __str__(self) -> str:
        return self.scheme + (f"{self.path}/{self.inside}" if self.inside else self.path)

    def check_exists(self) -> None:
        """Raise `InputError` where the path is local and does not exist."""
        if not is_remote(self.path) and not Path(self.path).exists():
            raise missing(Path(self.path))

    def no_array(self, default: Sequence[str], known: Sequence[str]) -> InputError:
        """Return the error for an array that is not in the file.

        Args:
            default: The names that were tried where the address names no array.
            known: The arrays that are in the file, where it says so.
        """
        self.check_exists()
        what = f"array '{self.inside}'" if self.inside else " or ".join(default) or "array of three axes"
        if not known:
            return InputError(f"{self.path} has no {what}, nor does it list any; check the address, and name the array")
        hint = nearest(self.inside, list(known)) if self.inside else f"name one, as in {self.path}/{known[0]}"
        return InputError(f"{self.path} has no {what}; it has {', '.join(known)}; {hint}")


def expand(address: Address) -> str:
    """Return the address with `~`, `$NAME` and `${NAME}` replaced by what they stand for.

    `$CLEFTNET_DATA`, the folder of public volumes, stands for `~/cleftnet-data` where it is not set.

    Raises:
        InputError: when the address is empty or another variable is not set.

    Example:
        >>> os.environ["DEMO_DATA"] = "/data"
        >>> expand("$DEMO_DATA/A.hdf"), expand("${DEMO_DATA}/A.hdf")
        ('/data/A.hdf', '/data/A.hdf')
    """
    text = os.fspath(address)

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name == DATA_VARIABLE:
            return str(data_folder())
        if not os.environ.get(name):
            raise InputError(
                f"address '{text}' uses the variable {name}, which is not set; set it (export {name}=/a/folder) or "
                f"write the whole path"
            )
        return os.environ[name]

    expanded = os.path.expanduser(_VARIABLE.sub(value, text))  # noqa: PTH111 - Path would fold the // of a URL
    if not expanded.strip():
        raise InputError("the address is empty; expected a file such as A.hdf, A.hdf/volumes/raw or stack/*.tif")
    return expanded


def data_folder() -> Path:
    """Return the folder of public volumes: what `CLEFTNET_DATA` names, or `~/cleftnet-data` where it is not set."""
    return Path(os.environ.get(DATA_VARIABLE) or DATA_FOLDER).expanduser()


def missing(path: Path) -> InputError:
    """Return the error for a path that does not exist, naming what lies near it.

    Example:
        >>> print(missing(Path("/no-such-folder/deeper/A.hdf")))
        /no-such-folder/deeper/A.hdf does not exist: there is no folder /no-such-folder; check the path
    """
    advice = "check the path"
    if data_folder() in path.parents:
        advice = (
            "fetch public volumes with 'cleftnet download vnc-l3' or 'cleftnet download cremi', or set CLEFTNET_DATA"
        )
    for folder in reversed(path.parents):
        if not folder.exists():
            return InputError(f"{path} does not exist: there is no folder {folder}; {advice}")
    if not path.parent.is_dir():
        return InputError(f"{path} does not exist: {path.parent} is a file, not a folder; check the path")
    near = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    close = difflib.get_close_matches(path.name, near, n=3) or near[:5]
    there = f"its folder holds {', '.join(close)}" if close else "its folder is empty"
    return InputError(f"{path} does not exist; {there}; check the name")


def is_remote(path: str) -> bool:
    """Return whether a path is a URL.

    Example:
        >>> is_remote("s3://bucket/vol.zarr"), is_remote("data/vol.zarr")
        (True, False)
    """
    return path.split("://", 1)[0] in SCHEMES and "://" in path


def join(path: str, *names: str) -> str:
    """Return the path of something inside, leaving out empty names.

    Example:
        >>> join("vol.zarr", "", "volumes/raw")
        'vol.zarr/volumes/raw'
    """
    return "/".join([path, *(name for name in names if name)])


def is_volume(shape: Sequence[int]) -> bool:
    """Return whether an array has three axes, or more of length 1 before them."""
    return len(shape) >= 3 and all(side == 1 for side in shape[:-3])


def walk_arrays(path: str, inside: str, read_shape: Callable[[str], Sequence[int] | None]) -> Iterator[str]:
    """Yield the names of the arrays of a volume below a local folder.

    Args:
        path: The container.
        inside: Where to begin in it; the names include it.
        read_shape: Returns the shape of the array that a folder is, or None where it is none.
    """
    top = Path(path, inside)
    for folder, below, _ in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith("."))
        shape = read_shape(folder)
        if shape is not None:
            below.clear()  # its chunks
            if is_volume(shape):
                yield join(inside, *Path(folder).relative_to(top).parts).strip("/")


def kvstore(path: str) -> Any:
    """Return tensorstore's name for a folder, a part of its spec.

    Buckets of another S3 server (MinIO, Ceph, an institute's own) are found through the variables that Amazon's tools read:
    `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, and `AWS_REGION` or `AWS_DEFAULT_REGION`, by default us-east-1.
    """
    if not is_remote(path):
        return {"driver": "file", "path": f"{Path(path).absolute()}/"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not (path.startswith("s3://") and endpoint):
        return f"{path}/"
    bucket, _, inside = path.removeprefix("s3://").partition("/")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return {
        "driver": "s3", "bucket": bucket, "path": f"{inside}/" if inside else "", "endpoint": endpoint.rstrip("/"),
        "aws_region": region,
    }  # fmt: skip


@functools.cache
def context() -> ts.Context:
    """Return what all arrays of this process share: credentials, and how often a failing request is tried again."""
    import tensorstore as ts

    shared: dict[str, Any] = dict.fromkeys(
        ("http_request_retries", "s3_request_retries", "gcs_request_retries"), _RETRIES
    )
    if "AWS_ACCESS_KEY_ID" in os.environ:  # then tensorstore looks for no other, and reports no missing file
        shared["aws_credentials"] = {"type": "environment"}
    return ts.Context(shared)


def read_json(path: str, name: str) -> dict[str, Any] | None:
    """Return the JSON object in a file of a folder, or None where there is no such file.

    Raises:
        InputError: when it holds no JSON object, or a server does not answer.
    """
    data = run(_read_remote, path, name) if is_remote(path) else _read_local(path, name)
    return None if data is None else json_object(data, join(path, name))


def write_json(path: str, name: str, value: dict[str, Any]) -> None:
    """Write a JSON object into a file of a folder, making the folder where that is needed."""
    data = json.dumps(value, indent=2)
    if is_remote(path):
        run(_write_remote, path, name, data.encode())
        return
    Path(path).mkdir(parents=True, exist_ok=True)
    Path(path, name).write_text(data)


def remove_remote(path: str) -> None:
    """Delete everything in a remote folder."""
    run(_remove_remote, path)


def one_line(error: Exception) -> str:
    """Return tensorstore's message without its status code and its technical appendix.

    Example:
        >>> one_line(ValueError('NOT_FOUND: Error opening "zarr" driver: no metadata [tensorstore_spec=...]'))
        'Error opening "zarr" driver: no metadata'
    """
    text = _SECONDARY.sub("", str(error)).splitlines()
    return re.sub(r"^[A-Z_]+: ", "", text[0]) if text else type(error).__name__


def is_network(error: Exception) -> bool:
    """Return whether tensorstore failed because a server did not answer, or refused."""
    return bool(re.search(r"CURL|retry attempts|UNAVAILABLE|PERMISSION_DENIED|UNAUTHENTICATED|HTTP", str(error)))


def _unreachable(path: str, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be reached: {one_line(error)}; check the address, the network and your credentials"
    )


def _read_local(path: str, name: str) -> bytes | None:
    try:
        return Path(path, name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{join(path, name)} cannot be read: {error.strerror}; check its permissions") from None


def _open(path: str) -> ts.KvStore:
    import tensorstore as ts

    return ts.KvStore.open(kvstore(path), context=context()).result()


def _read_remote(path: str, name: str) -> bytes | None:
    try:
        answer = _open(path).read(name).result()
    except FAILURES as error:
        raise _unreachable(path, error) from error
    return bytes(answer.value) if answer.state == "value" else None


def _write_remote(path: str, name: str, data: bytes) -> None:
    try:
        _open(path).write(name, data).result()
    except FAILURES as error:
        raise _unreachable(path, error) from error


def _remove_remote(path: str) -> None:
    import tensorstore as ts

    try:
        _open(path).delete_range(ts.KvStore.KeyRange()).result()
    except FAILURES as error:
        raise _unreachable(path, error) from error
