"""The `clipmill` command for tests: in this process, or as people start it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clipmill.jobs.cli import main

EXECUTABLE = Path(sys.executable).with_name("clipmill")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """The one line that a refused command says."""
        assert self.out == "", self.out
        (line,) = self.err.splitlines()
        assert line.startswith("clipmill: ")
        return line.removeprefix("clipmill: ")


Console = Callable[..., Ran]


def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """Runs `main` in this process, where Ray and torch are warm."""

    monkeypatch.setenv("CLIPMILL_LOG", "bar")  # `--log` sets it, for whatever is started from there

    def run(*arguments: Any) -> Ran:
        monkeypatch.setattr(sys, "argv", ["clipmill", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.out, said.err)

    return run


def started(*arguments: Any, **settings: Any) -> Ran:
    """Runs the console script in a process of its own."""
    command = [str(EXECUTABLE), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, **settings)
    return Ran(ran.returncode, ran.stdout, ran.stderr)
