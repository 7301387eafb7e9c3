"""Memory of CPU training: do not give back to the system what the next step needs again."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed memory; True where that is possible.

    By default it returns the top of the heap to the system whenever a training step has freed its activations, maps
    large blocks one by one, and the next step pays for zeroed pages again (mallopt(3)). Other C libraries are left
    alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # some versions of glibc take at most 2**25
    threshold = any(mallopt(M_MMAP_THRESHOLD, n_bytes) == 1 for n_bytes in (2**30, 2**25))
    settings = ((M_TRIM_THRESHOLD, _KEPT_BYTES), (M_TOP_PAD, 2**26))
    return threshold and all(mallopt(option, value) == 1 for option, value in settings)
