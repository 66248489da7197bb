"""How storage clients wait and try again, where the user does not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_CONNECT, _READ = 10, 30  # seconds: to reach a server, and between two bytes of its answer
# In all, of each request; what calls the client tries again, too. Not "adaptive": that one takes every 503 for a sign
# to slow down all later requests, and with a fifth of them failing is three times as slow.
_RETRIES = {"mode": "standard", "total_max_attempts": 4}


def with_defaults(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for `fsspec.filesystem(scheme, …)`: those given, and ours for what they leave open."""
    if scheme != "s3":
        return dict(options)
    config: dict[str, Any] = {"connect_timeout": _CONNECT, "read_timeout": _READ}
    if not {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} & set(os.environ):
        config["retries"] = dict(_RETRIES)
    return {
        "use_listings_cache": False,  # others write here, too; and who needs a listing twice keeps it
        **options,
        "config_kwargs": config | dict(options.get("config_kwargs", {})),
    }
