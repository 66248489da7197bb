"""Tensors out of a TorchScript archive, the form in which OpenAI publishes its weights, without running it.

`torch.load(weights_only=True)` refuses these archives, and `torch.jit.load` is deprecated and compiles the
archive's program, whose classes may run their own code while they are restored. The archive is a zip of one
pickle, which names the tensors, and one record of raw bytes per storage. Here the pickle is read with every
name in it replaced: modules become plain dictionaries, and anything else is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

_MOST_MODULES = 100_000  # ViT-bigG has 1,500
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class RefusedError(pickle.UnpicklingError):
    """The pickle names something that is neither a module, a tensor nor a container."""


class _Module:
    """Stands in for every scripted class: keeps the attributes, knows no behaviour."""

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        # nothing found here may act, or outlive the reading: hence fresh objects rather than shared functions
        if module.startswith("__torch__"):
            return type(name, (_Module,), {})
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return lambda values: list(values)
        raise RefusedError(f"{module}.{name}")

    def persistent_load(self, reference: Any) -> Tensor:
        _, dtype, key, _device, count = reference
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            self._storages[key] = torch.frombuffer(raw, dtype=dtype, count=count) if count else torch.empty(0)
        return self._storages[key]


def _rebuild() -> Callable[..., Tensor]:
    return lambda storage, offset, size, stride, *_: torch.as_strided(storage, size, stride, offset)


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> tuple[dict[str, Tensor], Literal["quick_gelu", "gelu"]]:
    """The state dict of the archive at `path`, and its activation.

    The activation is told from the text of the archive's program: QuickGELU is written out with a sigmoid,
    GELU is one operator.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next((name for name in names if name.endswith("/data.pkl")), "").split("/")[0]
        tensors = _tensors(_Unpickler(archive, root).load())
        code = (archive.read(name) for name in names if name.startswith(f"{root}/code/") and name.endswith(".py"))
        gelu = any(b"torch.gelu(" in text for text in code)
    return tensors, "gelu" if gelu else "quick_gelu"


def _tensors(root: _Module) -> dict[str, Tensor]:
    """All tensors under their modules' names. Bounded, as modules that contain one another have names without end."""
    tensors: dict[str, Tensor] = {}
    waiting = [("", root)]
    for prefix, module in waiting:
        for name, value in module.attributes.items():
            if isinstance(value, Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
        if len(waiting) > _MOST_MODULES:
            raise ValueError(f"more than {_MOST_MODULES} modules")
    return tensors
