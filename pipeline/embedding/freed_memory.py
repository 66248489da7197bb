"""Memory that was freed stays with a process that will want as much again in a moment.

A forward pass on a CPU frees and allocates some ten arrays of 1 to 30 MB a layer. By its own rules glibc gives them
back to the system, which hands them out again page by page, with zeros: up to a quarter of a small tower's time.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

_LARGEST = 32 << 20  # bytes of an array that comes from the heap; glibc allows no more
_KEPT = 64 << 20  # bytes that a thread's heap may hold for nothing
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's names for them, in its malloc.h


def keep_freed_memory() -> None:
    """From now on, for all threads of this process, which first gives back what it does not use now. Does nothing where
    the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    option: Callable[[int, int], int] = library.mallopt
    option(_MMAP_THRESHOLD, _LARGEST)
    option(_TRIM_THRESHOLD, _KEPT)
    option(_TOP_PAD, _LARGEST)  # a thread's heap is of several pieces, and an empty one with less than this is given up
    library.malloc_trim(0)
