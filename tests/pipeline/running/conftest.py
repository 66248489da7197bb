"""What tests of the driver share."""

from __future__ import annotations

import pytest
from clipmill.pipeline.running import crew
from clipmill.pipeline.running import driver as module
from fake_handles import FakeCluster


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    for name, value in {
        "settled": fake.settled,
        "news": fake.news,
        "send": lambda factory: factory,
        "_LOOK": 0,
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(crew, "WorkerHandle", fake.handle)
    monkeypatch.setattr(module, "leaving", lambda: fake.leaving)
    return fake
