"""Timeouts and retries of storage clients, and the user's own word on them."""

from __future__ import annotations

import pytest
from clipmill.pipeline.storage.defaults import with_defaults


def test_what_the_user_says_goes_before_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    ours = with_defaults("s3", {"key": "k"})
    assert ours["key"] == "k" and set(ours["config_kwargs"]) == {"connect_timeout", "read_timeout", "retries"}
    given = {"config_kwargs": {"read_timeout": 5, "region_name": "eu-north-1"}, "use_listings_cache": True}
    theirs = with_defaults("s3", given)
    assert theirs["config_kwargs"] == ours["config_kwargs"] | given["config_kwargs"] and theirs["use_listings_cache"]
    assert given == {"config_kwargs": {"read_timeout": 5, "region_name": "eu-north-1"}, "use_listings_cache": True}
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    assert "retries" not in with_defaults("s3", {})["config_kwargs"]
    assert with_defaults("memory", {"a": 1}) == {"a": 1}
