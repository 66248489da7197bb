"""Where `dedup` works."""

from __future__ import annotations

import pytest
import ray


@pytest.fixture
def without_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, although other tests may have started a cluster."""
    if "cluster" not in request.fixturenames:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
