"""Sparse members of tars: files whose runs of zeros are left out. GNU's old format, and pax 0.0, 0.1 and 1.0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

OLD_SPARSE = b"S"  # the header's type
_BLOCK = 512
_MAX_PIECES = 1 << 16
_MAX_DIGITS = 20

Piece = tuple[int, int]  # offset in the file, and bytes


class SparseMap(NamedTuple):
    """Where the stored bytes belong."""

    size: int  # of the file
    pieces: list[Piece] | None  # None: the map stands before the stored bytes (pax 1.0)
    name: bytes = b""  # of the file, where the header has another


def old_map(header: bytes, take: Callable[[int], bytes]) -> SparseMap:
    """GNU's old format: the map is in the header and in blocks after it, which are taken. ValueError where broken."""
    fields, more = header[386:482], header[482]
    while more:
        block = take(_BLOCK)
        if len(block) < _BLOCK or len(fields) > 24 * _MAX_PIECES:
            raise ValueError("bad sparse map")
        fields, more = fields + block[:504], block[504]
    numbers = [_old_number(fields[at : at + 12]) for at in range(0, len(fields), 12)]
    pieces = [piece for piece in zip(numbers[::2], numbers[1::2], strict=True) if piece[1]]
    return SparseMap(_old_number(header[483:495]), pieces)


def pax_map(records: Sequence[tuple[str, bytes]]) -> SparseMap | None:
    """The map of pax headers, None where the member is not sparse. ValueError where broken."""
    values = {key.removeprefix("GNU.sparse."): value for key, value in records if key.startswith("GNU.sparse.")}
    if not values:
        return None
    name = values.get("name", b"")
    if values.get("major") == b"1":
        return SparseMap(_number(values.get("realsize", b"")), None, name)
    size = _number(values.get("size", values.get("realsize", b"")))
    if "map" in values:  # 0.1
        numbers = [_number(text) for text in values["map"].split(b",") if text]
    else:  # 0.0 repeats two records
        numbers = [_number(value) for key, value in records if key in ("GNU.sparse.offset", "GNU.sparse.numbytes")]
    return SparseMap(size, _pairs(numbers), name)


def expanded(stored: bytes, sparse: SparseMap) -> bytes:
    """The file. ValueError where map and bytes do not fit each other."""
    pieces, at = (sparse.pieces, 0) if sparse.pieces is not None else _map_before(stored)
    ends = [offset + size for offset, size in pieces]
    ordered = all(end <= offset for end, (offset, _) in zip(ends, pieces[1:], strict=False))
    if not ordered or max(ends, default=0) > sparse.size or at + sum(size for _, size in pieces) > len(stored):
        raise ValueError("bad sparse map")
    file = bytearray(sparse.size)
    for offset, size in pieces:
        file[offset : offset + size] = stored[at : at + size]
        at += size
    return bytes(file)


def _map_before(stored: bytes) -> tuple[list[Piece], int]:
    """pax 1.0: how many pieces, then offset and size of each, a number a line, filled up to a block."""
    count, at = _line(stored, 0)
    if count > _MAX_PIECES:
        raise ValueError("bad sparse map")
    numbers = []
    for _ in range(2 * count):
        number, at = _line(stored, at)
        numbers.append(number)
    return _pairs(numbers), at + -at % _BLOCK


def _line(stored: bytes, at: int) -> tuple[int, int]:
    end = stored.find(b"\n", at, at + _MAX_DIGITS + 1)
    return _number(stored[at : max(end, at)]), end + 1


def _pairs(numbers: list[int]) -> list[Piece]:
    if len(numbers) % 2 or len(numbers) > 2 * _MAX_PIECES:
        raise ValueError("bad sparse map")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise ValueError("bad sparse map")
    return int(digits)


def _old_number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    return int(digits, 8) if digits else 0
