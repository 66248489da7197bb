"""Build clipmill's wheel and sdist into a folder, and check that they are what people should get: `make release`.

The wheel holds every file of the three packages that git knows, and nothing else; the sdist builds the same wheel; and
in a new environment the wheel runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# extractall takes a filter from Python 3.11.4 on, and wants one from 3.14 on
UNPACKED: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
PACKAGES = ("clipmodel", "pipeline", "jobs")
_BUILD = "import setuptools.build_meta as build, sys; print(getattr(build, 'build_' + sys.argv[1])(sys.argv[2]))"


class ReleaseError(Exception):
    """The distributions are not what they should be."""


def build(source: Path, folder: Path, kind: str) -> Path:
    """kind: wheel or sdist. From a copy: setuptools takes what an earlier build left for part of the source."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _BUILD, kind, str(folder.resolve())]
    ran = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ReleaseError(f"the {kind} is not built: {ran.stderr[-2000:]}")
    return folder / ran.stdout.split()[-1]


def release(folder: Path) -> list[Path]:
    """ReleaseError where something is amiss."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = _tracked_files(place / "source")
        shutil.rmtree(folder, ignore_errors=True)
        wheel, sdist = build(source, folder, "wheel"), build(source, folder, "sdist")
        check_wheel(wheel)
        with tarfile.open(sdist) as tar:
            tar.extractall(place / "again", **UNPACKED)
        (unpacked,) = (place / "again").iterdir()
        again = build(unpacked, place / "wheel", "wheel")
        if _contents(again) != _contents(wheel):
            raise ReleaseError(f"{sdist.name} builds another wheel than {wheel.name}")
        check_runs(wheel, place / "env")
    return [wheel, sdist]


def check_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
    wanted = {f"clipmill/{name}" for name in _tracked() if name.startswith(tuple(f"{p}/" for p in PACKAGES))}
    wanted.add("clipmill/__init__.py")  # which lies in pipeline/package
    held = {name for name in names if not name.startswith(f"{info}/")}
    if held != wanted:
        raise ReleaseError(
            f"{wheel.name}: missing {sorted(wanted - held)[:5]}, superfluous {sorted(held - wanted)[:5]}"
        )
    for field in ("Version", "Summary", "License-Expression", "Requires-Python", "Description-Content-Type"):
        if not metadata[field]:
            raise ReleaseError(f"{wheel.name}: its metadata has no {field}")
    if not any("licenses/LICENSE" in name for name in names):
        raise ReleaseError(f"{wheel.name}: holds no licence")
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    if heading.split()[1] != metadata["Version"]:
        raise ReleaseError(f"CHANGELOG.md begins with {heading!r}, but the version is {metadata['Version']}")


def check_runs(wheel: Path, environment: Path) -> None:
    """With this environment's packages, but for clipmill itself."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", environment, wheel], check=True
    )
    script = f"import sys; sys.path.insert(0, {str(environment)!r}); from clipmill.jobs.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", script, "--version"], cwd=environment, capture_output=True, text=True, check=False
    )
    if ran.stdout.strip() != wheel.name.split("-")[1]:
        raise ReleaseError(f"{wheel.name} does not run: {ran.stdout}{ran.stderr[-2000:]}")


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _tracked_files(target: Path) -> Path:
    for name in _tracked():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


if __name__ == "__main__":
    try:
        for made in release(Path(sys.argv[1])):
            print(made)
    except ReleaseError as error:
        sys.exit(f"make release: {error}")
    if "(unreleased)" in (ROOT / "CHANGELOG.md").read_text():
        print("CHANGELOG.md still says (unreleased)")
