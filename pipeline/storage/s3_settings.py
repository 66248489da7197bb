"""The settings to reach an object store, for libraries with their own client: fsspec's options translated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_REGION = "us-east-1"  # the name that stores without regions use


@dataclass(frozen=True)
class S3Settings:
    """None where nothing was set: the client then uses the usual environment variables and credential files."""

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

        def setting(option: str, client_option: str, *variables: str) -> str | None:
            value = options.get(option) or client.get(client_option)
            return value or next((os.environ[name] for name in variables if os.environ.get(name)), None)

        endpoint = setting("endpoint_url", "endpoint_url", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        region = setting("region", "region_name", "AWS_REGION", "AWS_DEFAULT_REGION")
        return cls(
            endpoint=endpoint,
            key=setting("key", "aws_access_key_id"),
            secret=setting("secret", "aws_secret_access_key"),
            token=setting("token", "aws_session_token"),
            region=region or (_REGION if endpoint else None),
            anonymous=bool(options.get("anon")),
        )
