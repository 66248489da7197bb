"""A table's row as the files that an image-text shard would hold for it, to write new shards."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..records import Sample
from .grouping import File, SampleFiles

_STARTS = (
    ("png", rb"\x89PNG"), ("gif", b"GIF8"), ("webp", b"RIFF....WEBP"), ("bmp", b"BM"), ("tiff", rb"II\*\0|MM\0\*"),
    ("avif", b"....ftypavi[fs]"), ("jp2", rb"....jP  |\xff\x4f\xff\x51"),
)  # fmt: skip


def as_files(sample: Sample) -> SampleFiles:
    """The image with an extension by its first bytes, the caption as txt, the columns as json."""
    files = []
    if sample.image is not None:
        files.append(File(_extension(sample.image), sample.image))
    if sample.caption is not None:
        files.append(File("txt", sample.caption.encode() if isinstance(sample.caption, str) else sample.caption))
    if sample.metadata:
        files.append(File("json", json.dumps({k: _finite(v) for k, v in sample.metadata.items()}).encode()))
    return SampleFiles(
        sample.key, files, sample.image, None, sample.caption, sample.metadata, sample.error,
        sample.no_image, sample.no_caption, sample.notes,
    )  # fmt: skip


def files_of_table(sample: SampleFiles) -> list[File]:
    """What only the table of a folder says of a sample: its caption as txt, its columns as json, where there are no
    such files."""
    kinds = {file.kind for file in sample.files}
    files = []
    if isinstance(sample.caption, str) and "txt" not in kinds:
        files.append(File("txt", sample.caption.encode()))
    if sample.metadata and "json" not in kinds:
        files.append(File("json", json.dumps({k: _finite(v) for k, v in sample.metadata.items()}).encode()))
    return files


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _extension(image: bytes) -> str:
    """jpg where the first bytes tell nothing."""
    return next((name for name, start in _STARTS if re.match(start, image, re.DOTALL)), "jpg")
