"""What tests of all layouts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from clipmill.pipeline import ExportJob
from export_kit import Rows
from fakes import Ran, parts


@pytest.fixture
def job(ran: Ran, tmp_path: Path) -> Callable[..., ExportJob]:
    return lambda to, **changes: ExportJob(str(ran.out), str(tmp_path / to), to, **changes)


@pytest.fixture(scope="module")
def embedded(ran: Ran) -> Rows:
    return [row for row in parts(ran.out) if row["error"] is None]
