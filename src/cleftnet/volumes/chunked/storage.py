"""Where the files of a chunked format lie: a folder of this machine, of a bucket, or behind HTTP, read by name.

Paths here are those of `Location`: a local path or a URL (`s3://`, `gs://`, `http://`, `https://`), without a slash at the end.
"""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleftnet.errors import InputError
from cleftnet.volumes.chunked.forks import run

if TYPE_CHECKING:
    import tensorstore as ts

SCHEMES = ("s3", "gs", "http", "https")

# tensorstore's own are 32 attempts, which for a wrong name take minutes
_RETRIES = {"max_retries": 4, "initial_delay": "200ms", "max_delay": "2s"}
_SECONDARY = re.compile(r" \[(tensorstore_spec|curl_code|os_error_code|http_response_code|source)[^\]]*\].*", re.DOTALL)


def is_remote(path: str) -> bool:
    """True for a URL.

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


def kvstore(path: str) -> Any:
    """Return what tensorstore calls the folder: a part of its spec.

    Buckets of another S3 server (MinIO, Ceph, an institute's own) are found by the variables that Amazon's tools read:
    `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, and `AWS_REGION` or `AWS_DEFAULT_REGION`, which is us-east-1 without.
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


UNSYNCED = {
    "context": {"file_io_sync": False}
}  # of a spec: nobody relies on single chunks of a file that is not there yet


@functools.cache
def context() -> ts.Context:
    """Return what all arrays of this process share: how often a failing request is tried again, and credentials."""
    import tensorstore as ts

    shared: dict[str, Any] = dict.fromkeys(
        ("http_request_retries", "s3_request_retries", "gcs_request_retries"), _RETRIES
    )
    if "AWS_ACCESS_KEY_ID" in os.environ:  # then nothing else is looked for, and no missing file complained of
        shared["aws_credentials"] = {"type": "environment"}
    return ts.Context(shared)


def read_json(path: str, name: str) -> dict[str, Any] | None:
    """Return the JSON object in a file of a folder, or None where there is no such file.

    Raises:
        InputError: when it holds no JSON object, or a server does not answer.
    """
    data = run(_read_remote, path, name) if is_remote(path) else _read_local(path, name)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise InputError(f"{join(path, name)} is no JSON ({error}); it is damaged: copy or fetch it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{join(path, name)} holds no JSON object; it is damaged: copy or fetch it again")
    return found


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
    """Return what tensorstore said, without its status code and its technical appendix.

    Example:
        >>> one_line(ValueError('NOT_FOUND: Error opening "zarr" driver: no metadata [tensorstore_spec=...]'))
        'Error opening "zarr" driver: no metadata'
    """
    text = _SECONDARY.sub("", str(error)).splitlines()
    return re.sub(r"^[A-Z_]+: ", "", text[0]) if text else type(error).__name__


def is_network(error: Exception) -> bool:
    """True when tensorstore failed because nobody answered, or answered no."""
    return bool(re.search(r"CURL|retry attempts|UNAVAILABLE|PERMISSION_DENIED|UNAUTHENTICATED|HTTP", str(error)))


def unreachable(path: str, error: Exception) -> InputError:
    """Return the error for a remote folder that does not answer."""
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
        found = _open(path).read(name).result()
    except (ValueError, RuntimeError, OSError) as error:
        raise unreachable(path, error) from error
    return bytes(found.value) if found.state == "value" else None


def _write_remote(path: str, name: str, data: bytes) -> None:
    try:
        _open(path).write(name, data).result()
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise unreachable(path, error) from error


def _remove_remote(path: str) -> None:
    import tensorstore as ts

    try:
        _open(path).delete_range(ts.KvStore.KeyRange()).result()
    except (ValueError, RuntimeError, OSError) as error:
        raise unreachable(path, error) from error
