"""A streaming reader of tar members: one pass, one member in memory.

The standard library's `tarfile` takes about ten times as long per member, and ends quietly at the first header that it
cannot read, which would lose the rest of a shard without a word. Here every archive either ends as POSIX says it must,
or raises `TarDamage` after the last complete member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from .tar_headers import BLOCK, Header, NotATar, SeekingSource, Source, TarDamage, next_header
from .tar_sparse import expanded

__all__ = ["BLOCK", "MAX_MEMBER", "Member", "NotATar", "TarDamage", "members"]

MAX_MEMBER = 256 << 20  # bytes of a member that are still held in memory


class Member(NamedTuple):
    """A regular file of an archive, or a link to one."""

    name: str  # bytes that are not UTF-8 stand as surrogate escapes
    offset: int | None  # of the data, in the (uncompressed) stream; None where it is in pieces, or elsewhere
    size: int
    data: bytes | None  # None for links, for files over the limit (skipped, never held), and for faults
    fault: str | None = None  # why the data is not there, where it is not its size
    link: str | None = None  # the target
    is_hard: bool = False  # a hard link names its target from the archive's root, a symbolic one from its own folder


def members(
    stream: BinaryIO, max_size: int = MAX_MEMBER, *, wanted: Callable[[str], bool] | None = None
) -> Iterator[Member]:
    """The regular files and links in `stream`, in archive order; folders and special files are passed over.

    wanted: files of other names come without their data, which is not read; the stream must be able to seek.

    Raises `NotATar` or `TarDamage`; errors of the stream itself (a lost connection, say) go through, except that
    a broken gzip stream counts as damage.
    """
    source = Source(stream) if wanted is None else SeekingSource(stream)
    while (header := next_header(source)) is not None:
        if header.link is not None:
            yield Member(header.name, None, 0, None, link=header.link, is_hard=header.is_hard)
            continue
        offset = source.position
        data: bytes | None = None
        if header.is_file and header.size <= max_size and (wanted is None or wanted(header.name)):
            data = source.take(header.size)
            complete = len(data) == header.size
        else:
            complete = source.skip(header.size)
        if not complete:
            raise TarDamage(source.trouble or "data cut short", header.start, header.name)
        if header.is_file:
            yield (
                Member(header.name, offset, header.size, data)
                if header.sparse is None
                else _sparse(header, data, max_size)
            )
        del data  # before the next one is read
        if not source.skip(-header.size % BLOCK):  # nameless: the member itself was complete
            raise TarDamage(source.trouble or "padding cut short", source.position)


def _sparse(header: Header, stored: bytes | None, max_size: int) -> Member:
    assert header.sparse is not None
    size = header.sparse.size
    if stored is None or size > max_size:
        return Member(header.name, None, size, None)
    try:
        return Member(header.name, None, size, expanded(stored, header.sparse))
    except ValueError:
        return Member(header.name, None, size, None, fault="sparse file with a broken map")
