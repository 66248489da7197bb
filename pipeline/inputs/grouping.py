"""What WebDataset tars and folders of images share: files of one stem are one sample."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

from ..records import Sample
from .tario import MAX_MEMBER

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2"})

_STARTS = (
    ("png", rb"\x89PNG"), ("gif", b"GIF8"), ("webp", b"RIFF....WEBP"), ("bmp", b"BM"), ("tiff", rb"II\*\0|MM\0\*"),
    ("avif", b"....ftypavi[fs]"), ("jp2", rb"....jP  |\xff\x4f\xff\x51"),
)  # fmt: skip

_KNOWN = IMAGE_EXTENSIONS | {"txt", "json"}


def utf8(key: str) -> str:
    """Keys become Parquet strings, which must be UTF-8: other bytes of a file's name are spelt out."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Group:
    """The files of one sample, as they come."""

    key: str
    extensions: set[str] = field(default_factory=set)
    image: bytes | None = None
    image_offset: int | None = None
    caption: bytes | str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def takes(self, key: str, extension: str) -> bool:
        return key == self.key and extension not in self.extensions

    def is_sample(self) -> bool:
        return not self.extensions.isdisjoint(_KNOWN)

    def add(self, extension: str, data: bytes | None, offset: int | None = None) -> None:
        """`extension` is lower-case; `data` is None where it is larger than what is held in memory."""
        first_image = extension in IMAGE_EXTENSIONS and self.extensions.isdisjoint(IMAGE_EXTENSIONS)
        self.extensions.add(extension)
        if not first_image and extension not in ("txt", "json"):
            return
        if data is None:
            self.error = too_large("image" if first_image else extension)
        elif extension == "txt":
            self.caption = data
        elif extension == "json":
            try:
                self.metadata = _parse_json(data)
            except (ValueError, RecursionError):
                self.error = "read: json is not valid"  # or the selected columns would be null without a word
        else:
            self.image, self.image_offset = data, offset

    def sample(self, row: int) -> Sample:
        caption = self.caption
        if "txt" not in self.extensions and isinstance(text := self.metadata.get("caption"), str):
            caption = text
        return Sample(row, self.key, self.image, caption, self.metadata, self.image_offset, self.error)


@dataclass(slots=True)
class WholeGroup(Group):
    """A sample that keeps all of its files, of whatever kind: extension, and contents unless too large to be held."""

    files: list[tuple[str, bytes | None]] = field(default_factory=list)

    @classmethod
    def of(cls, sample: Sample) -> WholeGroup:
        """A sample that never was files, as files."""
        group = cls(sample.key, error=sample.error)
        if sample.image is not None:
            group.add(_extension(sample.image), sample.image)
        if sample.caption is not None:
            group.add("txt", sample.caption.encode() if isinstance(sample.caption, str) else sample.caption)
        if sample.metadata:
            group.add("json", json.dumps(sample.metadata).encode())
        return group

    def add(self, extension: str, data: bytes | None, offset: int | None = None) -> None:
        Group.add(self, extension, data, offset)  # not super(), which dataclasses with slots break
        self.files.append((extension, data))


def _extension(image: bytes) -> str:
    """By the first bytes; jpg where they tell nothing."""
    return next((name for name, start in _STARTS if re.match(start, image, re.DOTALL)), "jpg")


def too_large(what: str) -> str:
    return f"read: {what} larger than {MAX_MEMBER >> 20} MiB"


def _parse_json(data: bytes) -> dict[str, Any]:
    """An object's fields. Raises ValueError for anything else."""
    text = data.decode("utf-8-sig")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("not an object")
    return cast(dict[str, Any], _without_surrogates(metadata)) if "\\u" in text else metadata


def _without_surrogates(value: Any) -> Any:
    """JSON's escapes can spell half a surrogate pair, which no Parquet string can hold."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(v) for v in value] if isinstance(value, list) else value
