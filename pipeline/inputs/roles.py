"""What the files of a sample are for, by their extensions: the image, the caption, the json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from ..choices import USUAL_KEYS, SampleKeys
from ..records import Note
from .names import (
    CAPTION_EXTENSION,
    CAPTION_NAMES,
    IMAGE_EXTENSIONS,
    IMAGE_NAMES,
    JSON_EXTENSION,
    USUAL_IMAGES,
)

_NEVER = 1 << 30  # rank of a file that does not have the role
_MOST_KNOWN = 1024  # extensions, or combinations of them, whose roles are remembered


class Roles(NamedTuple):
    """Which of some files is what, by position."""

    image: int | None
    caption: int | None
    json: int | None
    notes: tuple[Note, ...]
    rank_of_image: int  # so many of the user's names go before it
    rank_of_caption: int
    one_middle: bool


class RoleFinder:
    """Tells roles by extensions. Few extensions and combinations occur in a shard, each often: they are remembered."""

    def __init__(self, keys: SampleKeys = USUAL_KEYS) -> None:
        self.keys = keys
        self._roles: dict[tuple[str, ...], Roles] = {}
        self._needed: dict[str, bool] = {}

    def needs(self, extension: str) -> bool:
        """Whether the contents of such a file are part of a sample."""
        if (needed := self._needed.get(extension)) is None:
            is_json = extension.rpartition(".")[2] == JSON_EXTENSION
            needed = is_json or self.is_image(extension) or self.is_caption(extension)
            _remember(self._needed, extension, needed)
        return needed

    def is_image(self, extension: str) -> bool:
        return self._image_rank(extension) < _NEVER

    def is_caption(self, extension: str) -> bool:
        return self._caption_rank(extension) < _NEVER

    def of(self, extensions: tuple[str, ...]) -> Roles:
        """The roles of a sample's files."""
        if (roles := self._roles.get(extensions)) is None:
            roles = self._new_roles(extensions)
            _remember(self._roles, extensions, roles)
        return roles

    def _new_roles(self, extensions: tuple[str, ...]) -> Roles:
        image_ranks = [self._image_rank(extension) for extension in extensions]
        caption_ranks = [self._caption_rank(extension) for extension in extensions]
        jsons = [i for i, extension in enumerate(extensions) if extension.rpartition(".")[2] == JSON_EXTENSION]
        best_image, best_caption = min(image_ranks, default=_NEVER), min(caption_ranks, default=_NEVER)
        notes: tuple[Note, ...] = ()
        if sum(rank < _NEVER for rank in image_ranks) > 1:
            notes += ("another image",)
        if sum(rank < _NEVER for rank in caption_ranks) > 1:
            notes += ("another caption",)
        return Roles(
            image=image_ranks.index(best_image) if best_image < _NEVER else None,
            caption=caption_ranks.index(best_caption) if best_caption < _NEVER else None,
            json=min(jsons, key=lambda i: "." in extensions[i]) if jsons else None,
            notes=notes,
            rank_of_image=best_image,
            rank_of_caption=best_caption,
            one_middle=len({extension.rpartition(".")[0] for extension in extensions}) < 2,
        )

    def _image_rank(self, extension: str) -> int:
        """Of a sample's images the one with the lowest rank counts, of equal ones the first: the one that the user
        names first; else a usual format before a rare one, and a plain or telling middle before another."""
        if self.keys.image:
            return _named(extension, self.keys.image)
        middle, _, kind = extension.rpartition(".")
        if kind not in IMAGE_EXTENSIONS:
            return _NEVER
        return 2 * (kind not in USUAL_IMAGES) + (middle not in ("", *IMAGE_NAMES))

    def _caption_rank(self, extension: str) -> int:
        if self.keys.caption:
            return _named(extension, self.keys.caption)
        middle, _, kind = extension.rpartition(".")
        return int(middle not in ("", *CAPTION_NAMES)) if kind == CAPTION_EXTENSION else _NEVER


_Name = TypeVar("_Name")
_Known = TypeVar("_Known")


def _remember(known: dict[_Name, _Known], name: _Name, value: _Known) -> None:
    if len(known) >= _MOST_KNOWN:  # every file has another extension: nothing to gain
        known.clear()
    known[name] = value


def _named(extension: str, names: Sequence[str]) -> int:
    """The place of the first name that means a file of this extension: all of it, its kind or its middle."""
    middle, _, kind = extension.rpartition(".")
    means = (extension, kind, middle) if kind != JSON_EXTENSION else (extension,)
    return next((rank for rank, name in enumerate(names) if name.lower() in means), _NEVER)
