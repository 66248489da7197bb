"""The headers of a tar, one after another, with their extension headers folded in.

Format: POSIX.1-2001 ustar and pax interchange format; GNU tar's long names, base-256 numbers, old magic and sparse
files.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import BinaryIO, NamedTuple

from ..errors import ShardError
from .tar_sparse import OLD_SPARSE, SparseMap, old_map, pax_map

BLOCK = 512
_MAX_EXTENSION = 1 << 20  # a long name or a pax record beyond this is nonsense
_CHUNK = 1 << 20
_ZEROS = bytes(BLOCK)


class NotATar(ShardError):
    """The first block is no tar header: this was never a tar."""


class TarDamage(ShardError):
    """The archive breaks off here; every complete member before it has been yielded.

    `offset` is where the broken member's first header begins, `name` its name where that much could be read.
    """

    def __init__(self, reason: str, offset: int, name: str | None = None) -> None:
        super().__init__(f"{reason} in the member {name or '(unknown)'} at byte {offset}")
        self.reason, self.offset, self.name = reason, offset, name


class Source:
    """A stream that counts what is read, and answers its end, clean or not, with short reads."""

    __slots__ = ("position", "stream", "trouble")

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.position = 0
        self.trouble = ""  # why the stream ended, where it did not simply end

    def take(self, size: int) -> bytes:
        """`size` bytes; fewer only at the end of the stream."""
        data = self._read(size)
        if len(data) < size:  # raw streams may return less than requested
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


class SeekingSource(Source):
    """Passes over data without reading it. The stream can seek, and ends where it says."""

    __slots__ = ("end",)

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        at = stream.tell()
        self.end = stream.seek(0, 2) - at
        stream.seek(at)

    def skip(self, size: int) -> bool:
        passed = min(size, self.end - self.position)
        self.position += passed
        self.stream.seek(passed, 1)
        return passed == size


class Header(NamedTuple):
    """A member: a file, a link to one (with its target), or something that holds no data of its own."""

    start: int  # of the member's first block, extension headers included
    name: str  # bytes that are not UTF-8 stand as surrogate escapes
    size: int  # of the data that follows
    is_file: bool
    link: str | None = None
    is_hard: bool = False  # a hard link names its target from the archive's root, a symbolic one from its own folder
    sparse: SparseMap | None = None


def next_header(source: Source) -> Header | None:
    """The next member's header, or None at the end of the archive. Raises NotATar or TarDamage."""
    start, zeros = source.position, 0
    name = target = None
    records: list[tuple[str, bytes]] = []
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
        elif kind == b"K":
            target = _text(_extension(source, own_size, start))
        elif kind in b"xX":
            records += _pax_records(_extension(source, own_size, start), start)
        elif kind == b"g":  # global records hold no names
            if not source.skip(own_size + -own_size % BLOCK):
                raise TarDamage(source.trouble or "header cut short", start)
        elif kind in b"0\0" and at == start and own_name[-1:] != "/":  # nearly all are
            return Header(start, own_name, own_size, True)
        else:
            header = Header(start, own_name if name is None else name, own_size, False)
            return _complete(source, block, header, target, records)


def _complete(
    source: Source, block: bytes, header: Header, target: str | None, records: list[tuple[str, bytes]]
) -> Header:
    """A member's header with what its extension headers say. target: of a link, where an extension header names it."""
    pax, kind, start = dict(records), block[156:157], header.start
    name = _text(pax["path"]) if "path" in pax else header.name
    size = _decimal(pax["size"], start) if "size" in pax else header.size
    try:
        sparse = pax_map(records)
        if kind == OLD_SPARSE:
            sparse = old_map(block, source.take)
    except ValueError as error:
        raise TarDamage(source.trouble or str(error), start, name) from error
    if kind in b"12":  # no data follows, whatever the size field says; nor does it for devices, folders and pipes
        link = _text(pax["linkpath"]) if "linkpath" in pax else target or _text(block[157:257])
        return Header(start, name, 0, False, link, kind == b"1")
    if kind in b"3456":
        return Header(start, name, 0, False)
    if sparse and sparse.name:
        name = _text(sparse.name)
    is_file = kind in b"07" or kind == OLD_SPARSE or (kind == b"\0" and not name.endswith("/"))
    return Header(start, name, size, is_file, sparse=sparse)


def _expect_end(source: Source, block: bytes, at: int, name: str | None, extended: bool) -> None:
    """A short block is the end of the archive when nothing but the end mark can have stood there."""
    if at == 0 and (block or source.trouble):
        raise NotATar(source.trouble or "shorter than one tar header")
    if extended or source.trouble or block.strip(b"\0"):
        raise TarDamage(source.trouble or "header cut short", at, name)


def _expect_zeros(source: Source) -> None:
    """Only padding may follow the end mark: anything else would be lost without a word."""
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
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's older magic uses the prefix's bytes for other fields
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


def _extension(source: Source, size: int, start: int) -> bytes:
    """The payload of an extension header."""
    if size > _MAX_EXTENSION:
        raise TarDamage("absurd extension header", start)
    data = source.take(size)
    if len(data) < size or not source.skip(-size % BLOCK):
        raise TarDamage(source.trouble or "header cut short", start)
    return data


def _pax_records(data: bytes, start: int) -> list[tuple[str, bytes]]:
    """`length key=value\\n` records; the length counts the whole record, itself included."""
    records: list[tuple[str, bytes]] = []
    at = 0
    while at < len(data) and data[at]:  # some writers pad with zeros
        length = data[at : at + 20].partition(b" ")[0]
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise TarDamage("bad pax header", start)
        records.append((key.decode("utf-8", "replace"), value))
        at = end
    return records


def _decimal(value: bytes, start: int) -> int:
    if not value.isdigit():
        raise TarDamage("bad pax header", start)
    return int(value)
