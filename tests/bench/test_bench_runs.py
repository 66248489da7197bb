"""The benchmarks run, in sizes too small to mean anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def test_every_benchmark_is_run_by_make_bench() -> None:
    order = subprocess.run(
        [sys.executable, "-c", "import run; print(*run.ORDER)"], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert sorted([*order.stdout.split(), "gpu"]) == NAMES  # which has a target of its own


@pytest.mark.long
def test_the_quick_mode_measures_everything_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(HERE / "run.py"), *NAMES],
        cwd=tmp_path,
        env=os.environ | {"CLIPMILL_BENCH_QUICK": "1"},
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "QUICK" in ran.stdout
    found = json.loads((tmp_path / "bench.json").read_text())
    assert sorted(found) == NAMES
    assert all(bench["about"]["quick"] and bench["rows"] for bench in found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
