"""Which processor is which, and what libraries are told of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from clipmill.clipmodel import cpu
from clipmill.clipmodel.cpu import cpuinfo, fastest_kernels, is_amd_with_avx512, openblas_kernels

ALL_512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
ZEN_4 = f"vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 fma {ALL_512} avx512_bf16\n"
ZEN_3 = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 fma vaes vpclmulqdq\n"
XEON = f"vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 fma {ALL_512}\n"
PHI = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 fma avx512f avx512cd avx512er\n"  # half of AVX-512
OLD = "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse4_2 avx\n"
ARM = "CPU implementer\t: 0x41\nFeatures\t: fp asimd sve\n"

# the name of the kernels that FAISS's OpenBLAS has taken, and what is in the environment afterwards
TAKEN = """
import ctypes, os, sys
from pathlib import Path
if sys.argv[1] == "searching":
    from clipmill.pipeline.searching.faiss_library import faiss
    faiss()
elif sys.argv[1] == "deduplication":
    from clipmill.pipeline.deduplication.kmeans import _faiss
    _faiss()
else:
    import faiss
libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "faiss_cpu" in line}
(blas,) = (path for path in libraries if "openblas" in path)
name = ctypes.CDLL(blas).openblas_get_corename
name.restype = ctypes.c_char_p
print(name().decode(), os.environ.get("OPENBLAS_CORETYPE"))
"""


@pytest.mark.parametrize(("info", "expected"), [(ZEN_4, True), (ZEN_3, False), (XEON, False), ("", False)])
def test_amds_processors_with_avx512_are_known(info: str, expected: bool) -> None:
    assert is_amd_with_avx512(info) is expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [(ZEN_4, "SkylakeX"), (XEON, "SkylakeX"), (ZEN_3, "Haswell"), (PHI, "Haswell"), (OLD, None), (ARM, None)],
)
def test_kernels_are_those_whose_instructions_the_processor_has(info: str, expected: str | None) -> None:
    assert fastest_kernels(info) == expected


@pytest.mark.parametrize("chosen", [None, "Nehalem"])
@pytest.mark.parametrize("info", [XEON, OLD])
def test_openblas_is_told_meanwhile_and_a_choice_of_the_environment_stays(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, info: str
) -> None:
    environment = {} if chosen is None else {"OPENBLAS_CORETYPE": chosen}
    monkeypatch.setattr(cpu.os, "environ", environment)
    monkeypatch.setattr(cpu, "cpuinfo", lambda: info)
    with openblas_kernels():
        assert environment.get("OPENBLAS_CORETYPE") == (chosen or fastest_kernels(info))
    assert environment.get("OPENBLAS_CORETYPE") == chosen


@pytest.mark.skipif(fastest_kernels(cpuinfo()) is None, reason="a processor without AVX2")
@pytest.mark.parametrize("who", ["searching", "deduplication"])
def test_faiss_computes_with_what_the_processor_has(who: str) -> None:
    """Or with what it takes by itself where the environment chooses."""
    pytest.importorskip("faiss")
    chosen = os.environ.get("OPENBLAS_CORETYPE")
    expected = fastest_kernels(cpuinfo()) if chosen is None else taken("itself")[0]
    assert taken(who) == [expected, str(chosen)]


def taken(who: str) -> list[str]:
    """The kernels in a process of its own, and the environment's choice there."""
    ended = subprocess.run([sys.executable, "-c", TAKEN, who], check=True, capture_output=True, text=True)
    return ended.stdout.split()
