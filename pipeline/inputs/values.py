"""Values of json fields and table columns, as images and captions."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from ..records import Missing

_ABSENT = object()


def parse_json(data: bytes) -> dict[str, Any]:
    """The fields of a json object. Raises ValueError for anything else, however it is nested."""
    text = data.decode("utf-8-sig")
    try:
        fields = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    return cast(dict[str, Any], _without_surrogates(fields)) if "\\u" in text else fields


def _without_surrogates(value: Any) -> Any:
    """JSON's escapes can spell half a surrogate pair, which no Parquet string can hold."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(v) for v in value] if isinstance(value, list) else value


def has_field(fields: Mapping[str, Any], name: str) -> bool:
    return _lookup(fields, name) is not _ABSENT


def value_of(fields: Mapping[str, Any], name: str) -> Any:
    """The value under `name`; None where there is none. Dots lead into objects, and through the first of a list."""
    value = _lookup(fields, name)
    return None if value is _ABSENT else value


def _lookup(value: Any, name: str) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping):
        return _ABSENT
    if name in value:
        return value[name]
    for dot in (match.start() for match in re.finditer(r"\.", name)):  # names may hold dots themselves
        if name[:dot] in value and (inner := _lookup(value[name[:dot]], name[dot + 1 :])) is not _ABSENT:
            return inner
    return _ABSENT


def caption_of(value: Any) -> tuple[bytes | str | None, Missing | None]:
    """A value as a caption, and why it is none. Of a list, the first one is the caption."""
    while isinstance(value, list) and value:
        value = value[0]
    if value is None or value == []:
        return None, "empty"
    if not isinstance(value, (str, bytes)):
        return None, "not understood"
    return value, None if value.strip() else "empty"


def image_of(value: Any) -> tuple[bytes | None, Missing | None]:
    """A value as an image's bytes, and why it is none: bytes or their base64 text, a struct that holds such as
    `bytes`, or a list, of which the first one counts."""
    while True:
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, Mapping) and "bytes" in value:
            value = value["bytes"]
        else:
            break
    if value is None or value in ("", []):
        return None, "empty"
    if isinstance(value, str):
        value = _from_base64(value)
    if not isinstance(value, bytes):
        return None, "not understood"
    return value, None if value else "empty"


def _from_base64(text: str) -> bytes | None:
    """What base64 text stands for, with or without `data:image/…;base64,` before it; None for other text."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
