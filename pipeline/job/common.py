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
DatasetUrl = Annotated[
    str,
    Doc("The dataset: the folder or prefix given to `clipmill embed --out`."),
    Flag(argument=True, metavar="DATASET"),
]
Alias = Annotated[
    str | None, Doc("Of several models in the dataset, the one whose embeddings count."), Flag(default="the first")
]
WeightsOf = Annotated[
    str | None,
    Doc("The dataset's model again, where its weights came from a file: NAME=PATH or PATH."),
    Flag(("--model", "-m"), metavar="NAME", default="as recorded"),
]
Overwrite = Annotated[bool, Doc("Replace what this command wrote there before with other settings.")]
Within = Annotated[
    str | None,
    Doc("Only the rows of this subset, which `clipmill filter` or `clipmill dedup` wrote."),
    Flag(metavar="SUBSET", default="all rows"),
]
