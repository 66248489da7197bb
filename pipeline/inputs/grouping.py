"""Files of one key as samples: which of them is the image, which the caption, and how many samples they are.

Tars and folders share it. A file's extension begins at the first dot of its name; its last part, the kind, says what
the file is, and what stands before that is the middle: `0.left.jpg` is a jpg of the key `0` whose middle is `left`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..choices import USUAL_KEYS, SampleKeys
from ..records import Missing, Note, Sample
from .names import (
    CAPTION_NAMES,
    IMAGE_EXTENSIONS,
    JSON_CAPTION,
    JSON_EXTENSION,
    looks_like_caption,
)
from .roles import RoleFinder, Roles
from .tario import MAX_MEMBER
from .values import caption_of, has_field, image_of, parse_json, value_of


class File(NamedTuple):
    """A file of a sample. data: None where nobody needs it, or where `fault` says why it is not there."""

    extension: str  # from the first dot of the name on, lower-cased
    data: bytes | None
    offset: int | None = None  # of the data in the shard
    fault: str | None = None

    @property
    def kind(self) -> str:
        return self.extension.rpartition(".")[2]

    @property
    def middle(self) -> str:
        return self.extension.rpartition(".")[0]


@dataclass(slots=True)
class SampleFiles:
    """A sample as its files, with what they are."""

    key: str
    files: list[File] = field(default_factory=list)
    image: bytes | None = None
    image_offset: int | None = None
    caption: bytes | str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    no_image: Missing | None = "no file"
    no_caption: Missing | None = "no file"
    notes: tuple[Note, ...] = ()
    fields: tuple[str, ...] = ()  # of the metadata, that image and caption were taken from
    understood: bool = True  # False where no file is an image, a caption or json

    def sample(self, row: int) -> Sample:
        return Sample(
            row,
            self.key,
            self.image,
            self.caption,
            self.metadata,
            self.image_offset,
            self.error,
            self.no_image,
            self.no_caption,
            self.notes,
        )


def too_large(content: str) -> str:
    return f"{content} larger than {MAX_MEMBER >> 20} MiB"


class Grouper:
    """Makes samples of the files of one key."""

    def __init__(self, keys: SampleKeys = USUAL_KEYS) -> None:
        self._keys, self.roles = keys, RoleFinder(keys)

    def samples(self, key: str, files: list[File], parted: bool = False) -> Iterable[SampleFiles]:
        """The samples of all files of one key, in archive order.

        Files that share a middle and make a pair are a sample of their own, whose key has that middle added:
        `a.1.jpg`, `a.1.txt`, `a.2.jpg`, `a.2.txt` are the samples `a.1` and `a.2`. Then so are other middles with an
        image or a caption, and what remains (`a.json`) belongs to each. Where no middle makes a pair, all files are one
        sample: `0.image.jpg`, `0.caption.txt`. parted: other files of this key were samples of their own already.
        """
        if not parted and self._roles_of(files).one_middle:
            return [self.sample(key, files)]
        own, shared = self._parts(files, parted)
        if len(own) < 2 and not (parted and own):
            return [self.sample(key, files)]
        return [
            self.sample(f"{key}.{middle}" if middle else key, self._with_shared(part, shared))
            for middle, part in own.items()
        ]

    def holds_pairs(self, files: list[File]) -> bool:
        """Whether some of the files make samples of their own."""
        return bool(self._parts(files)[0])

    def sample(self, key: str, files: list[File], metadata: dict[str, Any] | None = None) -> SampleFiles:
        """All of `files` as one sample. metadata: what a table beside the files says of it; its json adds to that."""
        sample, roles = SampleFiles(key, files), self._roles_of(files)
        sample.notes = roles.notes
        if metadata:
            sample.metadata = metadata
        if roles.json is not None:
            _read_json(sample, files[roles.json])
        self._take_image(sample, roles)
        self._take_caption(sample, roles, table=metadata is not None)
        if roles.image is roles.caption is roles.json is None and not metadata:
            ends = ", ".join(f".{extension}" for extension in dict.fromkeys(file.extension for file in files))
            sample.error = f"read: no file of this sample is an image, a caption or json ({ends[:200]})"
            sample.no_image = sample.no_caption = "not understood"
            sample.understood = False
        return sample

    def _roles_of(self, files: list[File]) -> Roles:
        return self.roles.of(tuple([file.extension for file in files]))

    def _parts(self, files: list[File], parted: bool = False) -> tuple[dict[str, list[File]], list[File]]:
        """The files of each sample by middle, and those that belong to all; no samples where all files are one."""
        parts: dict[str, list[File]] = {}
        for file in files:
            parts.setdefault(file.middle, []).append(file)
        if not parted and not any(middle and self._is_pair(part) for middle, part in parts.items()):
            return {}, files
        own = {middle: part for middle, part in parts.items() if self._stands_alone(middle, part)}
        return own, [file for middle, part in parts.items() if middle not in own for file in part]

    def _is_pair(self, files: list[File]) -> bool:
        if not any(self.roles.is_image(file.extension) for file in files):
            return False
        return any(self.roles.is_caption(file.extension) or self._has_caption(file) for file in files)

    def _has_caption(self, file: File) -> bool:
        if file.kind != JSON_EXTENSION or file.data is None:
            return False
        try:
            fields = parse_json(file.data)
        except ValueError:
            return False
        return any(has_field(fields, name) for name in self._keys.caption or [JSON_CAPTION])

    def _stands_alone(self, middle: str, files: list[File]) -> bool:
        if any(self.roles.is_image(file.extension) for file in files):
            return True
        return bool(middle) and any(self.roles.is_caption(file.extension) for file in files)

    def _with_shared(self, files: list[File], shared: Iterable[File]) -> list[File]:
        """A sample's files, and those that it shares with others; its own caption and json go before such."""
        captions = any(self.roles.is_caption(file.extension) for file in files)
        jsons = any(file.kind == JSON_EXTENSION for file in files)
        return files + [
            file
            for file in shared
            if not (captions and self.roles.is_caption(file.extension)) and not (jsons and file.kind == JSON_EXTENSION)
        ]

    def _take_image(self, sample: SampleFiles, roles: Roles) -> None:
        for name in self._keys.image[: roles.rank_of_image]:
            if has_field(sample.metadata, name):
                sample.image, sample.no_image = image_of(value_of(sample.metadata, name))
                if sample.image is not None:
                    sample.fields += (name,)
                    return
        if roles.image is None:
            if sample.no_image == "no file" and any(file.kind in IMAGE_EXTENSIONS for file in sample.files):
                sample.no_image = "not understood"
            return
        chosen = sample.files[roles.image]
        if chosen.data is None:
            sample.no_image = "not understood"
            sample.error = sample.error or f"read: {chosen.fault or too_large('image')}"
            return
        sample.image, sample.image_offset = chosen.data, chosen.offset
        sample.no_image = None if chosen.data else "empty"

    def _take_caption(self, sample: SampleFiles, roles: Roles, table: bool) -> None:
        names = self._keys.caption[: roles.rank_of_caption]
        if not self._keys.caption and roles.caption is None:
            names = CAPTION_NAMES if table else (JSON_CAPTION,)
        for name in names:
            if has_field(sample.metadata, name):
                sample.caption, sample.no_caption = caption_of(value_of(sample.metadata, name))
                if sample.caption is not None:
                    sample.fields += (name,)
                    return
        if roles.caption is None:
            others = [*(file.extension for file in sample.files if file.kind != JSON_EXTENSION), *sample.metadata]
            if sample.no_caption == "no file" and any(map(looks_like_caption, others)):
                sample.no_caption = "not understood"
            return
        chosen = sample.files[roles.caption]
        if chosen.data is None:
            sample.no_caption = "not understood"
            sample.error = sample.error or f"read: {chosen.fault or too_large(chosen.extension)}"
        else:
            sample.caption, sample.no_caption = caption_of(chosen.data)


def _read_json(sample: SampleFiles, file: File) -> None:
    if file.data is None:
        sample.error = f"read: {file.fault or too_large('json')}"
        return
    try:
        sample.metadata = {**sample.metadata, **parse_json(file.data)}
    except ValueError:
        sample.error = "read: json is not valid"  # or the selected columns would be null without a word
