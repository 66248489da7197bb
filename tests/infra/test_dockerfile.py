"""The Dockerfile: hadolint finds nothing wrong, it copies what the package is made of, and runs as nobody special."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_every_path_that_is_copied_exists_and_is_let_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    paths = {path for line in copied for path in line.split()}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert paths == let_through
    assert {"clipmodel", "pipeline", "jobs", "pyproject.toml", "constraints.txt"} <= paths
    assert all((ROOT / path).exists() for path in paths)


def test_the_image_runs_as_a_user_without_rights() -> None:
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1000$", last, re.MULTILINE)
