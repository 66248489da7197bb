"""Narrow tables of small datasets, and damage to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.running import narrow_table


def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest dataset has a narrow table, of several files and row groups. In threads, whether or not another
    test's Ray runs: other processes would not see what is patched here."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    monkeypatch.setattr(narrow_table, "_LEAST", 20_000)
    monkeypatch.setattr("clipmill.pipeline.dataset.narrow_file._ROWS", 128)


def tables(dataset: str) -> set[str]:
    return {path.name for path in (Path(dataset) / NARROW).iterdir()}


def garble(dataset: str) -> str:
    """A file of the narrow table, behind its good footer. Its name."""
    path = Path(dataset) / NARROW / min(tables(dataset))
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:footer] = b"\7" * (footer - 4)
    path.write_bytes(content)
    return path.name
