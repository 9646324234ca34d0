"""Keep freed memory in the process for the next computation.

XLA requests the temporary arrays of a computation again at each call. glibc takes arrays above
128 kB from the kernel and gives them back, and the kernel clears every page at its first access:
energies and forces of 192 atoms cause 21,000 page faults per call, half of the wall time (66 ms
against 30 ms on one core). Pages that stay in the heap are cleared only once.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_memory() -> bool:
    """Make glibc keep freed memory for later computations; call this once, before any of them.

    The process then holds its peak memory until it ends. KOHN_KEEP_MEMORY=0 prevents this.

    Returns:
        Whether glibc accepted the settings: only on Linux, and not if the user prevented it.
    """
    if sys.platform != "linux" or os.environ.get("KOHN_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (
        (_M_MMAP_MAX, 0),  # take large blocks from the heap too, not from mmap
        (_M_TRIM_THRESHOLD, 2**31 - 1),  # never shrink the heap
        (_M_TOP_PAD, 64 * 2**20),  # grow it in large steps
        (_M_ARENA_MAX, 1),  # use one heap: the heaps of threads cannot hold large blocks
    )
    return all(mallopt(option, value) for option, value in settings)
