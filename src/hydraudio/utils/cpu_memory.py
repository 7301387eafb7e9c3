"""Memory of CPU training: do not give back to the system what the next step needs again."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed memory; True where that is possible.

    By default it returns the top of the heap to the system whenever a training step has freed its activations, and the
    next step pays for zeroed pages again (mallopt(3)). Blocks above 32 MiB are still mapped one by one. Other C
    libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, _KEPT_BYTES), (M_TOP_PAD, 2**26))
    return all(mallopt(option, value) == 1 for option, value in settings)
