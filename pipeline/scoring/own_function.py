"""Functions of a user's own: `MODULE:FUNCTION`, from embeddings or images to columns."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import UserError, one_line
from ..job.score import check_column

Values = npt.NDArray[Any]  # [n, …]
Columns = dict[str, npt.NDArray[Any]]

_TYPES = {"f": pa.float32(), "i": pa.int64(), "u": pa.int64(), "b": pa.bool_(), "U": pa.string()}  # by NumPy's kinds


@dataclass(frozen=True)
class OwnFunction:
    """Cheap to send to workers, which import the module themselves."""

    name: str  # MODULE:FUNCTION
    folder: str  # that the command was run in: the module may lie there
    types: Mapping[str, pa.DataType]  # of its columns
    sha256: str  # of the file of its module

    @classmethod
    def of(cls, name: str, trial: Values) -> OwnFunction:
        """Tried once, with two embeddings or images. UserError where it cannot be imported, fails, or gives what
        cannot be columns."""
        folder = str(Path.cwd())
        function = _imported(name, folder)
        columns = _called(name, function, trial)
        for column in columns:
            check_column(column, f"--function {name}")
        types = {column: _type(name, column, values) for column, values in columns.items()}
        return cls(name, folder, types, _digest(function))

    def __call__(self, inputs: Values) -> Columns:
        """Embeddings or images (inputs.py), n of them -> columns of n values. UserError where the function fails, or
        gives others than before."""
        columns = _called(self.name, _imported(self.name, self.folder), inputs)
        types = {column: _type(self.name, column, values) for column, values in columns.items()}
        if types != self.types:
            now, before = (", ".join(f"{name} {kind}" for name, kind in of.items()) for of in (types, self.types))
            raise UserError(f"--function {self.name} gave columns {now}, and before {before}; give the same each time")
        return columns


def _imported(name: str, folder: str) -> Any:
    module, _, function = name.partition(":")
    if folder not in sys.path:  # as `python -m` has it; the script `clipmill` has not, and neither have Ray's workers
        sys.path.append(folder)
    if module not in sys.modules:
        invalidate_caches()  # the file may have been written a moment ago
    try:
        found = getattr(import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise UserError(
                f"--function {name}: there is no module {error.name}; install it on every machine, or run in its folder"
            ) from error
        raise UserError(f"--function {name}: importing it fails: {one_line(error)}") from error
    except Exception as error:  # whatever the module does
        raise UserError(f"--function {name}: importing it fails: {_told(error)}") from error
    if not callable(found):
        raise UserError(f"--function {name}: {module} has no function {function}")
    return found


def _called(name: str, function: Callable[[Values], Any], inputs: Values) -> Columns:
    try:
        given = function(inputs)
    except Exception as error:  # the user's
        raise UserError(f"--function {name} fails: {_told(error)}") from error
    columns = given if isinstance(given, Mapping) else {name.partition(":")[2]: given}
    if not columns:
        raise UserError(f"--function {name} gave no column; give an array, or a dict of arrays")
    return {str(column): _array(name, str(column), values, len(inputs)) for column, values in columns.items()}


def _array(name: str, column: str, values: Any, rows: int) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except Exception as error:  # of whatever it gave
        raise UserError(f"--function {name}: {column} is no array: {_told(error)}") from error
    if array.shape == (rows, 1):
        array = array[:, 0]
    if array.shape != (rows,):
        raise UserError(
            f"--function {name}: {column} has shape {list(array.shape)} for {rows} rows; give one value for each"
        )
    return array


def _type(name: str, column: str, values: npt.NDArray[Any]) -> pa.DataType:
    if values.dtype.kind not in _TYPES:
        raise UserError(f"--function {name}: {column} holds {values.dtype}; give numbers, booleans or texts")
    return _TYPES[values.dtype.kind]


def _told(error: Exception) -> str:
    """What is wrong, and where in whose file."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {one_line(error)}{place}"


def _digest(function: Any) -> str:
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
        content = Path(source).read_bytes() if source else b""
    except (TypeError, OSError):  # of no file
        content = b""
    return hashlib.sha256(content).hexdigest()
