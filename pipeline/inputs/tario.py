"""A streaming reader of tar members: one pass, no seeking, one member in memory.

The standard library's `tarfile` takes about ten times as long per member, and ends quietly at the first header that it
cannot read, which would lose the rest of a shard without a word. Here every archive either ends as POSIX says it must,
or raises `TarDamage` after the last whole member.

Format: POSIX.1-2001 ustar and pax interchange format; GNU tar's long names, base-256 numbers and old magic.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ..errors import ShardError

BLOCK = 512
MAX_MEMBER = 256 << 20  # bytes of a member that are still held in memory
_MAX_EXTENSION = 1 << 20  # a long name or a pax record beyond this is nonsense
_CHUNK = 1 << 20
_ZEROS = bytes(BLOCK)


class NotATar(ShardError):
    """The first block is no tar header: this was never a tar."""


class TarDamage(ShardError):
    """The archive breaks off here; every whole member before it has been yielded.

    `offset` is where the broken member's first header begins, `name` its name where that much could be read.
    """

    def __init__(self, reason: str, offset: int, name: str | None = None) -> None:
        super().__init__(f"{reason} in the member {name or '(unknown)'} at byte {offset}")
        self.reason, self.offset, self.name = reason, offset, name


class Member(NamedTuple):
    """One regular file of an archive."""

    name: str  # bytes that are not UTF-8 stand as surrogate escapes
    offset: int  # of the data, in the (uncompressed) stream
    size: int
    data: bytes | None  # None when larger than the limit: read past, never held


def members(stream: BinaryIO, max_size: int = MAX_MEMBER) -> Iterator[Member]:
    """The regular files in `stream`, in archive order; folders, links and special files are passed over.

    Raises `NotATar` or `TarDamage`; what the stream itself raises (a lost connection, say) goes through, except that
    a broken gzip stream counts as damage.
    """
    source = _Source(stream)
    while (header := _next_header(source)) is not None:
        offset = source.position
        data: bytes | None = None
        if header.regular and header.size <= max_size:
            data = source.take(header.size)
            whole = len(data) == header.size
        else:
            whole = source.skip(header.size)
        if not whole:
            raise TarDamage(source.trouble or "data cut short", header.start, header.name)
        if header.regular:
            yield Member(header.name, offset, header.size, data)
        del data  # before the next one is read
        if not source.skip(-header.size % BLOCK):  # nameless: the member itself was whole
            raise TarDamage(source.trouble or "padding cut short", source.position)


class _Source:
    """Counts what is read, and turns the end of a stream, clean or not, into short reads."""

    __slots__ = ("position", "stream", "trouble")

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.position = 0
        self.trouble = ""  # why the stream ended, where it did not simply end

    def take(self, size: int) -> bytes:
        """`size` bytes; fewer only at the end of the stream."""
        data = self._read(size)
        if len(data) < size:  # raw streams may hand out less than was asked for
            pieces, missing = [data], size - len(data)
            while missing and (more := self._read(missing)):
                pieces.append(more)
                missing -= len(more)
            data = b"".join(pieces)
        self.position += len(data)
        return data

    def skip(self, size: int) -> bool:
        """Reads past `size` bytes without holding them; False when the stream ends before that."""
        while size > 0:
            step = min(size, _CHUNK)
            if len(self.take(step)) < step:
                return False
            size -= step
        return True

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.trouble = "broken gzip stream"
            return b""


class _Header(NamedTuple):
    start: int  # of the member's first block, extension headers included
    name: str
    size: int  # of the data that follows
    regular: bool


def _next_header(source: _Source) -> _Header | None:
    """The next member's header with its extension headers folded in, or None at the end of the archive."""
    start, zeros = source.position, 0
    name: str | None = None
    size: int | None = None
    while True:
        at = source.position
        block = source.take(BLOCK)
        if block == _ZEROS and at == start:
            zeros += 1
            start = source.position
            if zeros == 2:
                _expect_zeros(source)
                return None
            continue
        if len(block) < BLOCK:
            _expect_end(source, block, at, name, extended=at != start)
            return None
        kind, own_name, own_size = _parse(block, at)
        if kind == b"L":
            name = _text(_extension(source, own_size, start))
        elif kind in b"xX":
            records = _pax_records(_extension(source, own_size, start), start)
            name = _text(records["path"]) if "path" in records else name
            size = _decimal(records["size"], start) if "size" in records else size
        elif kind in b"gK":  # global pax records hold no names; K is the long target of a link
            if not source.skip(own_size + -own_size % BLOCK):
                raise TarDamage(source.trouble or "header cut short", start)
        elif kind == b"S":
            raise TarDamage("sparse file", start, name or own_name)
        else:
            name = own_name if name is None else name
            regular = kind in b"07" or (kind == b"\0" and not name.endswith("/"))
            # links, devices, folders and pipes have no data, whatever their size field says
            return _Header(start, name, 0 if kind in b"123456" else own_size if size is None else size, regular)


def _expect_end(source: _Source, block: bytes, at: int, name: str | None, extended: bool) -> None:
    """A short block is the end of the archive when nothing but the end mark can have stood there."""
    if at == 0 and (block or source.trouble):
        raise NotATar(source.trouble or "shorter than one tar header")
    if extended or source.trouble or block.strip(b"\0"):
        raise TarDamage(source.trouble or "header cut short", at, name)


def _expect_zeros(source: _Source) -> None:
    """Only padding may follow the end mark: what else stands there would be lost without a word."""
    while chunk := source.take(_CHUNK):
        if chunk.count(0) < len(chunk):
            raise TarDamage("data after the end mark", source.position - len(chunk))
    if source.trouble:
        raise TarDamage(source.trouble, source.position)


def _parse(block: bytes, at: int) -> tuple[bytes, str, int]:
    """A header block -> type, name, size."""
    try:
        # The checksum counts its own field as eight spaces. Adler-32's low half is 1 + the sum of the bytes modulo
        # 65521, which saves summing them in Python.
        stored = _number(block[148:156])
        total = stored + sum(block[148:156]) - 8 * ord(" ")
        if (total + 1) % 65521 != zlib.adler32(block) & 0xFFFF and not _checks_out(block, stored):
            raise ValueError("checksum")
        size = _number(block[124:136])
        if size < 0:
            raise ValueError("size")
    except ValueError:
        raise NotATar("the first block is no tar header") if at == 0 else TarDamage("bad header", at) from None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's older magic keeps other things in the prefix's place
        name = f"{_text(block[345:500])}/{name}"
    return block[156:157], name, size


def _checks_out(block: bytes, stored: int) -> bool:
    """The checksum in full; some old archivers summed signed bytes."""
    blanked = block[:148] + b" " * 8 + block[156:]
    return stored in (sum(blanked), sum(struct.unpack("512b", blanked)))


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set (GNU tar, beyond 8 GiB). Raises ValueError."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise ValueError("negative")
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    return int(digits, 8) if digits else 0


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _extension(source: _Source, size: int, start: int) -> bytes:
    """The payload of an extension header."""
    if size > _MAX_EXTENSION:
        raise TarDamage("absurd extension header", start)
    data = source.take(size)
    if len(data) < size or not source.skip(-size % BLOCK):
        raise TarDamage(source.trouble or "header cut short", start)
    return data


def _pax_records(data: bytes, start: int) -> dict[str, bytes]:
    """`length key=value\\n` records; the length counts the whole record, itself included."""
    records, at = {}, 0
    while at < len(data) and data[at]:  # some writers pad with zeros
        length = data[at : at + 20].partition(b" ")[0]
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise TarDamage("bad pax header", start)
        records[key.decode("utf-8", "replace")] = value
        at = end
    return records


def _decimal(value: bytes, start: int) -> int:
    if not value.isdigit():
        raise TarDamage("bad pax header", start)
    return int(value)
