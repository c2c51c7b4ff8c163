"""Memory that the layers of a network free stays with the process, for the next layers to use.

glibc gives large freed arrays back to the kernel at once, which hands them out again page by page, each filled with zeros: a
tenth to a fifth of the time of a patch on a CPU (docs/log.md).
"""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT_BYTES = 2**30  # freed memory beyond this goes back
LARGEST_BYTES = 2**25  # the largest that glibc takes: what is larger is asked of the kernel each time


@functools.cache
def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB of freed memory for as long as this process lives; True where there is a glibc to tell.

    No number changes, and the peak of a process' memory hardly does. Called where networks begin to run.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, LARGEST_BYTES))
