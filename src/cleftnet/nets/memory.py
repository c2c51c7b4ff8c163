"""Makes the C allocator keep freed memory for the next layers of a network, for the command line and worker processes.

glibc returns large freed arrays to the kernel at once, and the kernel hands them out again page by page, filled with zeros.
That takes a tenth to a fifth of the time of a patch on a CPU (docs/log.md).
"""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT_BYTES = 2**30  # freed memory beyond this is returned to the kernel
LARGEST_BYTES = 2**25  # the largest threshold that glibc accepts; larger arrays are always returned


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc keep up to 1 GiB of freed memory for the rest of this process; return False where there is no glibc.

    Results do not change, and the peak memory of the process hardly does. Library functions never call this, since it
    changes the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl lacks it
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, LARGEST_BYTES))
