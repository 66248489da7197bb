"""What the tests of inputs share."""

from pathlib import Path

import pytest
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.inputs.listing import list_shards


def write(path: Path, data: bytes = b"1234") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        write(folder / name, data)


def refusal(*inputs: str, error: type[Exception] = InputError) -> str:
    with pytest.raises(error) as caught:
        list_shards(list(inputs))
    assert "\n" not in str(caught.value)
    return str(caught.value)
