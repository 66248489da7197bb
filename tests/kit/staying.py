"""An index that is built in this process, for tests that watch it, or whose storage only this process may use."""

from __future__ import annotations

import pytest
from clipmill.pipeline.running import scatter
from clipmill.pipeline.searching import ann_sample
from clipmill.pipeline.searching import index as index_module


def stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads, whether or not another test's Ray runs."""
    for module in (index_module, ann_sample):
        monkeypatch.setattr(module, "scatter", lambda function, items, _: scatter._here(function, items, 1.0))
