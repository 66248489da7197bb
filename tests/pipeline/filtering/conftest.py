"""What tests of filtering share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import FilterJob
from filter_kit import many
from made import make_dataset


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FilterJob]:
    def made(parts: list[dict[str, Any]] | None = None, name: str = "dataset", **changes: Any) -> FilterJob:
        make_dataset(tmp_path / name, many() if parts is None else parts, **changes)
        return FilterJob(str(tmp_path / name), str(tmp_path / "subset"))

    return made
