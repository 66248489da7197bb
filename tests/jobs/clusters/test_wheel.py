"""The wheel that is sent along holds all of clipmill, and nothing for pip to fetch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from clipmill.jobs.clusters.wheel import build_wheel


def test_the_same_code_makes_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = build_wheel(tmp_path / "a"), build_wheel(tmp_path / "b")
    assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())


def test_pip_installs_it_alone_and_it_runs(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", target, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    script = f"import sys; sys.path.insert(0, {str(target)!r}); import clipmill.jobs.cli as c; print(c.__file__)"
    ran = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode or Path(ran.stdout.strip()).is_relative_to(target)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "Requires-Dist" not in metadata
    for name in (
        "clipmodel/assets/tiny.safetensors",
        "pipeline/running/embed.py",
        "pipeline/job/embed.py",
        "jobs/cli/__main__.py",
    ):
        assert f"clipmill/{name}" in names
        assert (target / "clipmill" / name).is_file()
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
