"""Which columns of a Parquet file are a sample's image, caption, key and further fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.types as kinds

from ..choices import SampleKeys
from ..errors import ShardError
from ..records import Missing, Sample
from .grouping import too_large
from .names import CAPTION_NAMES, IMAGE_NAMES, KEY_NAMES, looks_like_caption, looks_like_image
from .parquet_values import (
    has_list,
    is_caption,
    is_image,
    is_scalar,
    is_text,
    item_of,
    keys_of,
    storage_at,
    storage_of,
    values,
    values_at,
)
from .tario import MAX_MEMBER
from .values import caption_of, image_of

_Types = dict[str, pa.DataType]


class _Cell(NamedTuple):
    """Where a value is: the column, and the names that lead on through its structs; of lists, the first counts."""

    column: str
    steps: tuple[str, ...]
    type: pa.DataType  # of what they lead to

    @property
    def has_bytes(self) -> bool:
        """Whether it is a struct that holds an image as `bytes`."""
        return kinds.is_struct(self.type) and self.type.get_field_index("bytes") >= 0


@dataclass(frozen=True)
class Columns:
    """Which column is what. images and captions: in order of preference; of each row, the first with a value counts."""

    images: tuple[_Cell, ...]
    captions: tuple[_Cell, ...]
    key: str | None
    metadata: tuple[str, ...]  # every scalar column, those above included
    paths: list[str]  # what is to be read, as Parquet calls it
    unused_images: tuple[str, ...]  # columns that may hold images by name and type
    unused_captions: tuple[str, ...]

    @classmethod
    def of(cls, url: str, schema: pa.Schema, keys: SampleKeys) -> Columns:
        """ShardError for a schema with neither image nor caption, or where it is not clear which is the image."""
        try:
            types = {field.name: storage_of(field.type) for field in reversed(schema)}  # of equal names the first
        except UnicodeDecodeError as error:
            raise ShardError(f"{url}: a column's name is not UTF-8; rename it") from error
        images = _cells(types, keys.image or _image(url, types))
        used = {cell.column for cell in images}
        captions = _cells(types, keys.caption or _caption(types, used))
        if not images and not captions:
            wanted = [*keys.image, *keys.caption]
            options = f" named {' or '.join(wanted)}" if wanted else ""
            among = ", ".join(schema.names) or "none at all"
            raise ShardError(
                f"{url}: no column of images or captions{options} among {among}; name them by --image-key and "
                "--caption-key"
            )
        used |= {cell.column for cell in captions}
        key = next((name for name in KEY_NAMES if name in types and is_scalar(types[name])), None)
        metadata = tuple(name for name in dict.fromkeys(schema.names) if is_scalar(types[name]))
        paths = [*_paths(types, images, ("bytes", "path")), *_paths(types, captions, ()), *metadata]
        return cls(
            images,
            captions,
            key,
            metadata,
            list(dict.fromkeys(paths)),
            tuple(n for n in schema.names if n not in used and looks_like_image(n) and _may_be_image(types[n])),
            tuple(n for n in schema.names if n not in used and looks_like_caption(n) and _may_be_caption(types[n])),
        )

    def of_images(self) -> Columns:
        """To read nothing but the images."""
        columns = [f"{cell.column}." for cell in self.images]
        paths = [path for path in self.paths if any(f"{path}.".startswith(column) for column in columns)]
        return replace(self, captions=(), key=None, metadata=(), paths=paths)

    def of_fields(self, names: Sequence[str]) -> Columns:
        """To read the key and these fields. One column is read at least, or there would be no rows."""
        metadata = tuple(name for name in self.metadata if name in names)
        paths = [*([self.key] if self.key else []), *metadata] or self.paths[:1]
        return replace(self, images=(), captions=(), metadata=metadata, paths=list(dict.fromkeys(paths)))

    def samples(self, batch: pa.RecordBatch, first: int) -> Iterator[Sample]:
        """The rows of a batch, which begins at row `first` of the shard."""
        names = batch.schema.names
        column = {name: batch.column(names.index(name)) for name in dict.fromkeys(names)}
        keys = keys_of(column[self.key]) if self.key else [None] * len(batch)
        metadata = {name: values(column[name]) for name in self.metadata}
        captions = [values_at(column[cell.column], cell.steps) for cell in self.captions]
        images = [_images_in(column[cell.column], cell) for cell in self.images]
        for i in range(len(batch)):
            row, key = first + i, keys[i]
            image, no_image = _first(images, image_of, "not understood" if self.unused_images else "no file")
            caption, no_caption = _first(captions, caption_of, "not understood" if self.unused_captions else "no file")
            error = None
            if image is not None and len(image) > MAX_MEMBER:
                image, no_image, error = None, "not understood", f"read: {too_large('image')}"
            elif image is None and self._has_path(column, i):
                no_image, error = "not understood", "read: image is a path, not bytes"
            fields = {name: column_values[i] for name, column_values in metadata.items()}
            yield Sample(
                row,
                str(row) if key is None else key,
                image,
                caption,
                fields,
                error=error,
                no_image=no_image,
                no_caption=no_caption,
            )

    def _has_path(self, column: dict[str, pa.Array], row: int) -> bool:
        """Whether the image of a row is named by a path where its bytes should be."""
        return any(
            next(values_at(column[cell.column].slice(row, 1), (*cell.steps, "path"))) is not None
            for cell in self.images
            if cell.has_bytes and cell.type.get_field_index("path") >= 0
        )


def _first(cells: Sequence[Iterator[Any]], side: Any, otherwise: Missing) -> tuple[Any, Missing | None]:
    """The first of the cells' values in this row that is an image or a caption, or why there is none."""
    result: tuple[Any, Missing | None] = None, otherwise
    for value in [next(cell) for cell in cells]:
        if result[0] is None:
            result = side(value)
    return result


def _images_in(column: pa.Array, cell: _Cell) -> Iterator[Any]:
    """Of each row, bytes or the text that spells them."""
    images = values_at(column, (*cell.steps, "bytes") if cell.has_bytes else cell.steps)
    return (image and image.decode("ascii", "replace") for image in images) if is_text(cell.type) else images


def _cells(types: _Types, names: Sequence[str]) -> tuple[_Cell, ...]:
    """Where the named values are, of those that exist. Names may hold dots themselves, or lead into structs by them."""
    cells = (_cell(types, name) for name in names)
    return tuple(cell for cell in cells if cell is not None)


def _cell(types: _Types, name: str) -> _Cell | None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        column, steps = ".".join(parts[:end]), tuple(parts[end:])
        if column in types and (type := storage_at(types[column], steps)) is not None:
            return _Cell(column, steps, type)
    return None


def _paths(types: _Types, cells: Sequence[_Cell], children: Sequence[str]) -> Iterator[str]:
    """What to read of the cells' columns: nothing but the value where no list is on the way."""
    for cell in cells:
        if has_list(types[cell.column], cell.steps):
            yield cell.column
        elif cell.has_bytes and children:
            for child in cell.type:
                if child.name in children:
                    yield ".".join((cell.column, *cell.steps, child.name))
        else:
            yield ".".join((cell.column, *cell.steps))


def _image(url: str, types: _Types) -> list[str]:
    """The column of images: known by name, or the only one of its type; lists of images where there is none."""
    for candidates in (
        [name for name, type in types.items() if is_image(type)],
        [name for name, type in types.items() if (item := item_of(type)) is not None and is_image(item)],
    ):
        named = [name for name in IMAGE_NAMES if name in candidates]
        others = [name for name in reversed(candidates) if name not in CAPTION_NAMES + KEY_NAMES]
        if not named and len(others) > 1:
            raise ShardError(f"{url}: the image may be in {' or '.join(others)}; name it by --image-key {others[0]}")
        if named or others:
            return (named + others)[:1]
    return []


def _caption(types: _Types, used: set[str]) -> list[str]:
    names = [name for name in CAPTION_NAMES if name in types and name not in used]
    texts = [name for name in names if is_caption(types[name])]
    lists = [name for name in names if (item := item_of(types[name])) is not None and is_caption(item)]
    return (texts + lists)[:1]


def _may_be_image(type: pa.DataType) -> bool:
    inner = storage_at(type, ())
    return is_image(inner) or is_text(inner)


def _may_be_caption(type: pa.DataType) -> bool:
    inner = storage_at(type, ())
    return is_caption(inner) or kinds.is_struct(inner)
