"""What a benchmark ran on: names, versions, who else was busy, and the peak that its cores reach."""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def about() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("torch", "ray", "pyarrow", "pillow", "numpy")}
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def described() -> str:
    found = about()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    device = found["gpu"] or "CPU"
    return f"{device}; {found['cores']} cores of {found['processor']}; Python {found['python']}, {versions}"


def others_cores(seconds: float) -> float:
    """How many cores are busy while this process sleeps: whatever a figure shared the machine with."""
    return round(psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1), 2)


def peak_gflops(size: int = 2048, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """GFLOP a second of a square matrix product, on as many threads as torch has now. Call it in each round."""
    a, b = _matrices(size, device, dtype)
    repeats = 1 if device == "cpu" else 20
    started = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b)
    if device != "cpu":
        torch.cuda.synchronize()
    return repeats * 2 * size**3 / (time.perf_counter() - started) / 1e9


@cache
def _matrices(size: int, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.rand(size, size, device=device, dtype=dtype), torch.rand(size, size, device=device, dtype=dtype)
    torch.mm(*made)
    if device != "cpu":
        torch.cuda.synchronize()
    return made


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
