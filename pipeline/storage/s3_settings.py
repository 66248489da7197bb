"""How an object store is reached, for libraries with clients of their own: fsspec's options in other words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_REGION = "us-east-1"  # what stores that have no regions call theirs


@dataclass(frozen=True)
class S3Settings:
    """None where it was not said: the usual environment variables and credential files then count."""

    endpoint: str | None
    key: str | None
    secret: str | None
    token: str | None
    region: str | None
    anonymous: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> S3Settings:
        """options: as s3fs takes them."""
        client: Mapping[str, Any] = options.get("client_kwargs") or {}

        def said(ours: str, theirs: str, *variables: str) -> str | None:
            found = options.get(ours) or client.get(theirs)
            return found or next((os.environ[name] for name in variables if os.environ.get(name)), None)

        endpoint = said("endpoint_url", "endpoint_url", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        region = said("region", "region_name", "AWS_REGION", "AWS_DEFAULT_REGION")
        return cls(
            endpoint=endpoint,
            key=said("key", "aws_access_key_id"),
            secret=said("secret", "aws_secret_access_key"),
            token=said("token", "aws_session_token"),
            region=region or (_REGION if endpoint else None),
            anonymous=bool(options.get("anon")),
        )
