"""PyTorch's own files -> the object that was saved. Runs no code of a file; takes memory in proportion to the file.

Trainers keep their options and statistics beside the tensors, as objects of argparse, NumPy, Lightning and others. An
object of one of those libraries is read as an empty stand-in; any other class or function is refused by name.
"""

from __future__ import annotations

import pickle
import re
import struct
import threading
import warnings
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from .errors import ModelError

# what the readers of zips, pickles and storages were seen to raise on damaged files
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, EOFError, LookupError, ValueError),
    *(TypeError, AttributeError, RuntimeError, AssertionError, OverflowError, MemoryError, NotImplementedError),
)
_UNPACKED_MOST = 4  # times the file's own size; tensors hardly compress, and PyTorch stores them as they are
_UNPACKED_ANYWAY = 1 << 26  # bytes; the program of a TorchScript archive is text, and compressed
_STAND_INS_MOST = 100
_HARMLESS = re.compile(
    r"(argparse|numpy|pathlib|datetime|collections|decimal|uuid|types|enum|omegaconf|yacs|easydict|addict|ml_collections|"
    r"pytorch_lightning|lightning|lightning_fabric|deepspeed|accelerate|torchmetrics|torch\.optim|torch\.torch_version)"
    r"\.[\w.]+|builtins\.(list|dict|tuple|int|float|str|bool|bytes|frozenset|slice|range|object)"
)
_LIKE_DICT = re.compile(r".*\.(defaultdict|AttributeDict|AttrDict|EasyDict|CfgNode|ConfigDict|Dict)")
_lock = threading.Lock()  # the classes that a load may name are one list in the process


def check_members(archive: zipfile.ZipFile, size: int) -> None:
    """ModelError for an archive that would unpack to far more than its own `size`, bytes: told from its directory."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _UNPACKED_MOST * size + _UNPACKED_ANYWAY:
        raise ModelError(
            f"not a checkpoint: {size:,} bytes that would unpack to {unpacked:,}; save the state dict as safetensors"
        )


def check_tensors(tensors: dict[str, torch.Tensor], size: int) -> None:
    """ModelError for tensors that say they are far larger than the files of `size` bytes that they come from, as views
    that repeat a few numbers can."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > _UNPACKED_MOST * size + _UNPACKED_ANYWAY:
        raise ModelError(f"not a checkpoint: {size:,} bytes whose tensors would take {claimed:,}")


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote: tensors and containers, with stand-ins for harmless objects. ModelError for others."""
    stand_ins: dict[str, type] = {}
    for _ in range(_STAND_INS_MOST):  # each try names one class more
        loaded, refused = _try_to_read(path, list(stand_ins.values()))
        if refused is None:
            return loaded
        name = _global_of(refused)
        if not name:
            raise ModelError("not a checkpoint, or one damaged or with code inside: nothing in it was run") from refused
        if name in stand_ins or not _HARMLESS.fullmatch(name):
            raise ModelError(f"refusing to unpickle code ({name}): save its state dict as safetensors") from refused
        stand_ins[name] = _stand_in(name)
    raise ModelError(f"holds objects of {_STAND_INS_MOST} classes: save its state dict as safetensors")


def _try_to_read(path: Path, allowed: list[Any]) -> tuple[Any, pickle.UnpicklingError | None]:
    """(what was saved, why it was refused), one of them None."""
    try:
        # an open file, as a name would be looked at for the format
        with path.open("rb") as file, warnings.catch_warnings(), _lock:
            warnings.simplefilter("ignore")  # about the file's Python, or its protocol
            with torch.serialization.safe_globals(allowed):
                return torch.load(file, map_location="cpu", weights_only=True), None
    except pickle.UnpicklingError as error:
        return None, error
    except DAMAGE as error:
        raise ModelError("truncated or damaged: copy or download it again") from error


def _global_of(error: Exception) -> str | None:
    """The class or function that PyTorch did not allow, with its module."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not match:
        return None
    return match[1] if "." in match[1] else f"builtins.{match[1]}"  # whose module PyTorch leaves out


class _StandIn:
    """An object without contents, whatever its pickle brings."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _DictStandIn:
    """The same for kinds of dict, which PyTorch fills only where they are plain ones."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


def _stand_in(name: str) -> type:
    """A class that is found under `name`."""
    module, _, qualified = name.rpartition(".")
    base = _DictStandIn if _LIKE_DICT.fullmatch(name) else _StandIn
    return type(qualified, (base,), {"__module__": module, "__qualname__": qualified})
