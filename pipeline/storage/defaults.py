"""How storage clients wait and try again, where the user does not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_CONNECT, _READ = 10, 30  # seconds: to reach a server, and between two bytes of its answer
# Attempts for one request; our own code tries again, too. Not "adaptive": it slows down all later requests after every
# 503, which takes three times as long where a fifth of the requests fail.
_RETRIES = {"mode": "standard", "total_max_attempts": 4}


def with_defaults(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for `fsspec.filesystem(scheme, …)`: those of the user, and clipmill's defaults for the rest."""
    if scheme != "s3":
        return dict(options)
    config: dict[str, Any] = {"connect_timeout": _CONNECT, "read_timeout": _READ}
    if not {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} & set(os.environ):
        config["retries"] = dict(_RETRIES)
    return {
        "use_listings_cache": False,  # other processes write to the same folders
        **options,
        "config_kwargs": config | dict(options.get("config_kwargs", {})),
    }
