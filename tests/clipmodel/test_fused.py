"""Which library computes products on which processor."""

from __future__ import annotations

import pytest
from clipmill.clipmodel.fused import is_amd_with_avx512

ZEN_4 = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512dq avx512_bf16\n"
ZEN_3 = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 vaes vpclmulqdq\n"
XEON = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512dq\n"


@pytest.mark.parametrize(("cpuinfo", "onednn"), [(ZEN_4, True), (ZEN_3, False), (XEON, False), ("", False)])
def test_onednn_is_for_amds_processors_that_have_what_mkl_leaves_alone_there(cpuinfo: str, onednn: bool) -> None:
    assert is_amd_with_avx512(cpuinfo) is onednn
