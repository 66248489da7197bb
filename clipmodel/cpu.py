"""What this machine's processor can do, for libraries that do not see it by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_CHOICE = "OPENBLAS_CORETYPE"  # of kernels; read by OpenBLAS once, when it is loaded
_KERNELS = {  # by the instructions that they use, the fastest first
    "SkylakeX": {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}


@cache
def cpuinfo() -> str:
    """Linux's /proc/cpuinfo; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    return path.read_text(errors="replace") if path.exists() else ""


def is_amd_with_avx512(info: str) -> bool:
    """Of AMD's from Zen 4 on. info: of the processor, as `cpuinfo` has it."""
    return "AuthenticAMD" in info and "avx512f" in info


def fastest_kernels(info: str) -> str | None:
    """OpenBLAS's name of those that the processor can run; None for one without AVX2, or of another kind."""
    flags = next((line for line in info.splitlines() if line.startswith("flags")), "").split()
    return next((name for name, needed in _KERNELS.items() if needed.issubset(flags)), None)


@contextmanager
def openblas_kernels() -> Iterator[None]:
    """For the import of a library that brings an OpenBLAS of its own, which is to use the kernels that fit.

    OpenBLAS 0.3.15, which faiss-cpu 1.15 has, takes those of 2007 for a processor that it does not know: on Zen 5 they
    make a fifth of the products that AVX-512 makes. A choice that the environment makes is left as it is.
    """
    kernels = None if _CHOICE in os.environ else fastest_kernels(cpuinfo())
    if kernels is None:
        yield
        return
    os.environ[_CHOICE] = kernels
    try:
        yield
    finally:
        os.environ.pop(_CHOICE, None)  # another thread may have imported the library, too
