"""Columns of Parquet files by type, and their values as plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds


def is_image(type: pa.DataType) -> bool:
    """Bytes, or Hugging Face's struct of `bytes` and `path`."""
    if kinds.is_struct(type):
        field = type.get_field_index("bytes")
        return field >= 0 and is_binary(type.field(field).type)
    return is_binary(type)


def item_of(type: pa.DataType) -> pa.DataType | None:
    """The type of a list's items, as it is stored; None for what is no list."""
    return storage_of(type.value_type) if _is_list(type) else None


def _is_list(type: pa.DataType) -> bool:
    return kinds.is_list(type) or kinds.is_large_list(type) or kinds.is_fixed_size_list(type)


def storage_at(type: pa.DataType, steps: Sequence[str]) -> pa.DataType | None:
    """The type of what `steps` lead to inside a column, through structs and the items of lists; None for nothing."""
    type = storage_of(type)
    while (item := item_of(type)) is not None:
        type = item
    if not steps:
        return type
    if not kinds.is_struct(type) or (index := type.get_field_index(steps[0])) < 0:
        return None
    return storage_at(type.field(index).type, steps[1:])


def has_list(type: pa.DataType, steps: Sequence[str]) -> bool:
    """Whether a list is on the way to what `steps` lead to, or at its end."""
    type = storage_of(type)
    if item_of(type) is not None:
        return True
    return bool(steps) and has_list(type.field(type.get_field_index(steps[0])).type, steps[1:])


def values_at(array: pa.Array, steps: Sequence[str]) -> Iterator[Any]:
    """What `steps` lead to in each row, of lists the first, as plain Python; nothing else is copied."""
    for scalar in array:
        yield _value_at(scalar, steps)


def _value_at(scalar: Any, steps: Sequence[str]) -> Any:
    while True:
        if scalar is None or not scalar.is_valid:
            return None
        if isinstance(scalar, pa.ExtensionScalar | pa.DictionaryScalar):
            scalar = scalar.value
        elif isinstance(scalar, pa.ListScalar):  # of all kinds of lists
            scalar = scalar.values[0] if len(scalar.values) else None
        elif steps and isinstance(scalar, pa.StructScalar):
            scalar, steps = scalar[steps[0]], steps[1:]
        else:
            return _plain_value(scalar)


def _plain_value(scalar: Any) -> Any:
    if is_text(scalar.type):  # Parquet's strings need not be UTF-8
        return scalar.as_buffer().to_pybytes()
    return scalar.as_py()


def is_binary(type: pa.DataType) -> bool:
    return kinds.is_binary(type) or kinds.is_large_binary(type) or kinds.is_binary_view(type)


def is_text(type: pa.DataType) -> bool:
    return kinds.is_string(type) or kinds.is_large_string(type) or kinds.is_string_view(type)


def is_caption(type: pa.DataType) -> bool:
    return is_text(type) or is_binary(type)


def is_scalar(type: pa.DataType) -> bool:
    return is_text(type) or _is_number(type) or _is_spelt(type)


def _is_number(type: pa.DataType) -> bool:
    return kinds.is_boolean(type) or kinds.is_integer(type) or kinds.is_floating(type)


def _is_spelt(type: pa.DataType) -> bool:
    """Values that JSON has no type for become text."""
    return kinds.is_decimal(type) or (kinds.is_temporal(type) and not kinds.is_interval(type))


def storage_of(type: pa.DataType) -> pa.DataType:
    """What a dictionary or an extension type holds."""
    if isinstance(type, pa.BaseExtensionType):
        return storage_of(type.storage_type)
    return storage_of(type.value_type) if kinds.is_dictionary(type) else type


def plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    return plain(array.dictionary_decode()) if kinds.is_dictionary(array.type) else array


def texts(array: pa.Array) -> list[bytes | None]:
    """As bytes: whether they are UTF-8 is for others to find out, since Parquet's strings need not be."""
    array = plain(array)
    texts: list[bytes | None] = (array.cast(pa.large_binary()) if is_text(array.type) else array).to_pylist()
    return texts


def keys_of(array: pa.Array) -> list[str | None]:
    if is_text(plain(array).type):
        return [None if text is None else text.decode("utf-8", "backslashreplace") for text in texts(array)]
    return [None if value is None else str(value) for value in values(array)]


def values(array: pa.Array) -> Sequence[Any]:
    array = plain(array)
    if _is_spelt(array.type):
        array = _spelt(array)
    if is_text(array.type):
        return [None if text is None else text.decode("utf-8", "replace") for text in texts(array)]
    if kinds.is_float16(array.type):
        array = array.cast(pa.float32())
    return array.to_pylist()


def _spelt(array: pa.Array) -> pa.Array:
    for type in (pa.string(), pa.int64()):  # a number for durations, and for times of zones that nobody knows
        with suppress(pa.ArrowException):
            return array.cast(type)
    return pa.nulls(len(array))
