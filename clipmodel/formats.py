"""What a file of weights is, told by its first bytes: without PyTorch, in no time."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

from .errors import ModelError
from .spec import parse_spec

Format = Literal["safetensors", "zip", "pickle"]

_FOREIGN_FORMATS = {  # first bytes of files that hold weights for other programs
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"version https://git-lfs": "a Git LFS pointer, not the weights themselves: run `git lfs pull` beside it",
}


def format_of(path: Path) -> Format:
    """ModelError for a file that is no checkpoint; OSError for one that cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(200)
    if not start:
        raise ModelError("an empty file")
    for beginning, kind in _FOREIGN_FORMATS.items():
        if start.startswith(beginning):
            raise ModelError(kind if ":" in kind else f"{kind}; give safetensors or a PyTorch file")
    length = struct.unpack("<Q", start[:8])[0] if len(start) > 8 else 0
    if start[8:9] == b"{" and length < 1 << 27:
        return "safetensors"
    if start.startswith(b"PK"):
        return "zip"
    if start[0] == 0x80 and size > 2:  # a pickle of protocol 2 or later
        return "pickle"
    if path.suffix == ".safetensors":
        return "safetensors"
    raise ModelError("not a checkpoint: neither safetensors, nor TorchScript, nor a PyTorch file")


def check_file(spec: str) -> None:
    """ModelError, one line that begins with its name, where a spec names a file of this machine that is no checkpoint.
    Folders, releases and URLs are left to those who read them."""
    named = None if "://" in spec else parse_spec(spec).path
    path = Path(named).expanduser() if named else None
    if path is None or not path.is_file():
        return
    try:
        format_of(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
