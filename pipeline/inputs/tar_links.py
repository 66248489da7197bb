"""Links within a tar, followed to the bytes of their targets."""

from __future__ import annotations

import posixpath
from typing import BinaryIO, NamedTuple

from .tar_headers import NotATar, Source, TarDamage, next_header
from .tario import MAX_MEMBER, Member

_MOST_NAMES = 200_000  # of a tar that holds links, kept to find their targets: some 40 MB
_MOST_HOPS = 8  # links that lead to links


class _Target(NamedTuple):
    offset: int
    size: int
    link: str | None  # the name that it leads to, where it is a link itself


class Links:
    """Reads the targets of a tar's links, wherever they stand in it. `stream` must be able to seek; it is left where
    it was. The first link costs a pass over the headers."""

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream = stream
        self._targets: dict[str, _Target] | None = None

    def follow(self, member: Member) -> Member:
        """The member with its target's bytes, or with the fault that says why there are none."""
        shown = f"link to {member.link}"
        if self._stream is None or not self._stream.seekable():
            return member._replace(fault=f"link, which cannot be followed in a compressed tar ({shown})")
        back = self._stream.tell()
        try:
            if self._targets is None:
                self._targets = _targets(self._stream)
            target = self._find(_path(member.name, member.link or "", member.is_hard))
            if target is None:
                return member._replace(fault=f"link to a file that is not in this tar ({shown})")
            if target.size > MAX_MEMBER:
                return member._replace(size=target.size)
            self._stream.seek(target.offset)
            data = Source(self._stream).take(target.size)
        finally:
            self._stream.seek(back)
        return member._replace(offset=target.offset, size=target.size, data=data)

    def _find(self, name: str) -> _Target | None:
        for _ in range(_MOST_HOPS):
            target = (self._targets or {}).get(name)
            if target is None or target.link is None:
                return target
            name = target.link
        return None


def _targets(stream: BinaryIO) -> dict[str, _Target]:
    """The files and links of a tar by name, of equal ones the last."""
    stream.seek(0)
    source = _Seeking(stream)
    targets: dict[str, _Target] = {}
    try:
        while len(targets) < _MOST_NAMES and (header := next_header(source)) is not None:
            if header.link is not None:
                link = _path(header.name, header.link, header.is_hard)
                targets[posixpath.normpath(header.name)] = _Target(0, 0, link)
            elif header.is_file and header.sparse is None:
                targets[posixpath.normpath(header.name)] = _Target(source.position, header.size, None)
            source.skip(header.size + -header.size % 512)
    except (TarDamage, NotATar):
        pass  # the reader of the members tells that; what stands before it can be found
    return targets


class _Seeking(Source):
    """Passes over data without reading it."""

    __slots__ = ()

    def skip(self, size: int) -> bool:
        self.position += size
        self.stream.seek(size, 1)
        return True


def _path(name: str, target: str, is_hard: bool) -> str:
    """The name that a link leads to, from the archive's root."""
    return posixpath.normpath(target if is_hard else posixpath.join(posixpath.dirname(name), target))
