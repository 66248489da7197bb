"""In processes of their own: what is set here is set for good."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other rules")

PASSES = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import torch
from clipmill.pipeline.embedding.freed_memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def a_pass():
    return [torch.ones(1 << 18) for _ in range(40)]  # of 1 MiB

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with ThreadPoolExecutor(1) as pool:  # as workers do, not in the main thread
    for _ in range(5):
        pool.submit(a_pass).result().clear()
    before = faults()
    for _ in range(20):
        pool.submit(a_pass).result().clear()
print(faults() - before)
"""

GIVEN_BACK = """
import os
from clipmill.pipeline.embedding.freed_memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

pieces = [bytes(50_000) for _ in range(4000)]  # 200 MB on the heap, below what lives on
last = bytes(50_000)
before = resident()
del pieces
keep_freed_memory()
print(before - resident())
"""


def printed(script: str, *words: str) -> int:
    done = subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_arrays_of_a_pass_get_the_memory_of_the_pass_before() -> None:
    assert 10 * printed(PASSES, "kept") < printed(PASSES, "as it is")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_freed_before_is_given_back() -> None:
    assert printed(GIVEN_BACK) > 150
