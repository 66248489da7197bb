"""The benchmarks run, in sizes too small to mean anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
LONG = {"flow_tiny", "flow_b32", "gpu", "memory", "scaling"}  # they start whole runs


def ran(script: str, *arguments: str, cwd: Path) -> str:
    """What it printed; it must succeed."""
    ended = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        cwd=cwd,
        env=os.environ | {"CLIPMILL_BENCH_QUICK": "1"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in NAMES])
def test_a_benchmark_measures_everything_once(name: str, tmp_path: Path) -> None:
    said = ran(f"bench_{name}.py", "--json", "figures.json", cwd=tmp_path)
    assert "QUICK" in said and "FAILED" not in said
    found = figures(tmp_path / "figures.json")
    assert found["about"]["quick"]
    assert found["rows"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_one_run_is_one_table_one_file_and_the_page(tmp_path: Path) -> None:
    said = ran("run.py", "stages", "tokenizer", cwd=tmp_path)
    found = figures(tmp_path / "bench.json")
    assert list(found) == ["stages", "tokenizer"]
    page = tmp_path / "page.md"
    page.write_text((HERE.parents[1] / "docs" / "performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    ran("report.py", "bench.json", "page.md", cwd=tmp_path)
    for bench in found.values():
        for row in bench["rows"]:
            assert row["what"].split(",")[0] in said
            assert f"| {row['what']} |" in page.read_text(encoding="utf-8")
    assert "quick mode" in page.read_text(encoding="utf-8")


def test_figures_of_a_gpu_take_their_place_on_the_page(tmp_path: Path) -> None:
    ran("bench_tokenizer.py", "--json", "bench-gpu.json", cwd=tmp_path)  # any benchmark by itself
    page = tmp_path / "page.md"
    before = (HERE.parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    ran("report.py", "bench-gpu.json", "page.md", cwd=tmp_path)
    (row, *_) = figures(tmp_path / "bench-gpu.json")["rows"]
    after = page.read_text(encoding="utf-8")
    begin, end = "<!-- gpu figures: written by tests/bench/report.py -->", "<!-- end of gpu figures -->"
    assert f"| {row['what']} |" in after.partition(begin)[2].partition(end)[0]
    assert after.partition(begin)[0] == before.partition(begin)[0]
    assert after.partition(end)[2] == before.partition(end)[2]


def test_make_bench_runs_all_but_the_one_for_gpus() -> None:
    command = [sys.executable, "-c", "import run; print(*run.ORDER)"]
    order = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.split()
    assert sorted([*order, "gpu"]) == NAMES
