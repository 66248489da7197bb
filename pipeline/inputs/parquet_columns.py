"""What the columns of a Parquet file of samples are, and their values as plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from ..errors import ShardError
from ..records import Sample
from .grouping import too_large
from .tario import MAX_MEMBER

_IMAGES = ("image", "jpg", "png", "webp", "img", "image_bytes", "bytes")
_CAPTIONS = ("caption", "text", "txt", "TEXT")
_KEYS = ("key", "__key__", "id", "uid")


@dataclass(frozen=True)
class Columns:
    """Which column is what, by name. An image is bytes, or Hugging Face's struct of `bytes` and `path`."""

    image: str | None
    in_struct: bool  # the image's bytes
    caption: str | None
    key: str | None
    metadata: tuple[str, ...]  # every scalar column, those above included
    paths: list[str]  # what is to be read, as Parquet calls it

    @classmethod
    def of(cls, url: str, schema: pa.Schema) -> Columns:
        """ShardError for a schema with neither image nor caption, or where it is not clear which is the image."""
        try:
            types = {field.name: _storage(field.type) for field in reversed(schema)}  # of equal names the first
        except UnicodeDecodeError as error:
            raise ShardError(f"{url}: a column's name is not UTF-8") from error
        image = _image(url, types)
        caption = next((n for n in _CAPTIONS if n in types and n != image and _is_caption(types[n])), None)
        if image is None and caption is None:
            raise ShardError(f"{url}: no column of images or captions among {', '.join(schema.names) or 'none at all'}")
        key = next((name for name in _KEYS if name in types and _is_scalar(types[name])), None)
        metadata = tuple(name for name in dict.fromkeys(schema.names) if _is_scalar(types[name]))
        in_struct = image is not None and kinds.is_struct(types[image])
        images = [image] if image and not in_struct else []
        if image and in_struct:
            images = [f"{image}.{child.name}" for child in types[image] if child.name in ("bytes", "path")]
        paths = list(dict.fromkeys([*images, *([caption] if caption else []), *metadata]))
        return cls(image, in_struct, caption, key, metadata, paths)

    def samples(self, batch: pa.RecordBatch, first: int) -> Iterator[Sample]:
        """The rows of a batch, which begins at row `first` of the shard."""
        names = batch.schema.names
        column = {name: batch.column(names.index(name)) for name in dict.fromkeys(names)}
        captions = _texts(column[self.caption]) if self.caption else [None] * len(batch)
        keys = _keys(column[self.key]) if self.key else [None] * len(batch)
        metadata = {name: _values(column[name]) for name in self.metadata}
        images, paths = self._images(column[self.image]) if self.image else (None, None)
        for i in range(len(batch)):
            row, key, error = first + i, keys[i], None
            image = images[i].as_py() if images is not None else None
            if image is None and paths is not None and paths[i].is_valid:
                error = "read: image is a path, not bytes"
            elif image is not None and len(image) > MAX_MEMBER:
                image, error = None, too_large("image")
            fields = {name: values[i] for name, values in metadata.items()}
            yield Sample(row, str(row) if key is None else key, image, captions[i], fields, error=error)

    def _images(self, array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
        """The images' bytes, and their paths where there are such."""
        array = _plain(array)
        if not self.in_struct:
            return array, None
        children = dict(zip((child.name for child in array.type), array.flatten(), strict=True))
        return children["bytes"], children.get("path")


def _image(url: str, types: dict[str, pa.DataType]) -> str | None:
    candidates = [name for name, type in types.items() if _is_image(type)]
    named = [name for name in _IMAGES if name in candidates]
    others = [name for name in reversed(candidates) if name not in _CAPTIONS + _KEYS]
    if not named and len(others) > 1:
        raise ShardError(f"{url}: the image may be in {' or '.join(others)}; name one of these columns image")
    return next(iter(named + others), None)


def _is_image(type: pa.DataType) -> bool:
    if kinds.is_struct(type):
        field = type.get_field_index("bytes")
        return field >= 0 and _is_binary(type.field(field).type)
    return _is_binary(type)


def _is_binary(type: pa.DataType) -> bool:
    return kinds.is_binary(type) or kinds.is_large_binary(type) or kinds.is_binary_view(type)


def _is_text(type: pa.DataType) -> bool:
    return kinds.is_string(type) or kinds.is_large_string(type) or kinds.is_string_view(type)


def _is_caption(type: pa.DataType) -> bool:
    return _is_text(type) or _is_binary(type)


def _is_scalar(type: pa.DataType) -> bool:
    return _is_text(type) or _is_number(type) or _is_spelt(type)


def _is_number(type: pa.DataType) -> bool:
    return kinds.is_boolean(type) or kinds.is_integer(type) or kinds.is_floating(type)


def _is_spelt(type: pa.DataType) -> bool:
    """Values that JSON has no type for become text."""
    return kinds.is_decimal(type) or (kinds.is_temporal(type) and not kinds.is_interval(type))


def _storage(type: pa.DataType) -> pa.DataType:
    """What a dictionary or an extension type holds."""
    if isinstance(type, pa.BaseExtensionType):
        return _storage(type.storage_type)
    return _storage(type.value_type) if kinds.is_dictionary(type) else type


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    return _plain(array.dictionary_decode()) if kinds.is_dictionary(array.type) else array


def _texts(array: pa.Array) -> list[bytes | None]:
    """As bytes: whether they are UTF-8 is for others to find out, since Parquet's strings need not be."""
    array = _plain(array)
    texts: list[bytes | None] = (array.cast(pa.large_binary()) if _is_text(array.type) else array).to_pylist()
    return texts


def _keys(array: pa.Array) -> list[str | None]:
    if _is_text(_plain(array).type):
        return [None if text is None else text.decode("utf-8", "backslashreplace") for text in _texts(array)]
    return [None if value is None else str(value) for value in _values(array)]


def _values(array: pa.Array) -> Sequence[Any]:
    array = _plain(array)
    if _is_spelt(array.type):
        array = _spelt(array)
    if _is_text(array.type):
        return [None if text is None else text.decode("utf-8", "replace") for text in _texts(array)]
    if kinds.is_float16(array.type):
        array = array.cast(pa.float32())
    return array.to_pylist()


def _spelt(array: pa.Array) -> pa.Array:
    for type in (pa.string(), pa.int64()):  # a number for durations, and for times of zones that nobody knows
        with suppress(pa.ArrowException):
            return array.cast(type)
    return pa.nulls(len(array))
