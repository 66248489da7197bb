"""Fields that several jobs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from typing_extensions import Doc

from .flags import Flag

Address = Annotated[str, Doc("The Ray cluster: auto (RAY_ADDRESS, else this machine), local, HOST:PORT or ray://….")]
StorageOptions = Annotated[
    Mapping[str, Any],
    Doc("Passed to the storage client (fsspec), such as endpoint_url=http://host:9000 or anon=true. Repeatable."),
    Flag(("--storage-option",), metavar="KEY=VALUE"),
]
