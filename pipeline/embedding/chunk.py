"""What goes from reading to encoding: samples as columns, so that a row costs its receiver no object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..dataset.sample_columns import with_values
from ..records import Decoded, Positions

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """Arrays of different lengths in one buffer."""

    values: Array  # [total]
    ends: npt.NDArray[np.int64]  # [n]

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Ragged:
        return cls(np.concatenate(arrays), np.cumsum([len(array) for array in arrays], dtype=np.int64))

    @classmethod
    def of_bytes(cls, pieces: Sequence[bytes]) -> Ragged:
        joined = np.frombuffer(b"".join(pieces), np.uint8)
        return cls(joined, np.cumsum([len(piece) for piece in pieces], dtype=np.int64))

    def where(self, kept: npt.NDArray[np.bool_]) -> Ragged:
        """kept: [n], of which one at least is true."""
        return Ragged.of([array for array, keep in zip(self, kept.tolist(), strict=True) if keep])

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[Array]:
        start = 0
        for end in self.ends.tolist():
            yield self.values[start:end]
            start = end


def _nothing() -> Ragged:
    return Ragged(np.empty(0, np.uint8), np.empty(0, np.int64))


def _nowhere() -> Positions:
    return np.empty(0, np.int32)


@dataclass(frozen=True)
class Failure:
    """Why an image could not be decoded, and the size that its header told, if it did."""

    error: str
    width: int | None
    height: int | None


@dataclass(frozen=True)
class Chunk:
    """Some samples, in the shard's order. Positions count from the chunk's first sample, and ascend."""

    samples: pa.RecordBatch  # `PartLayout.samples`
    pixels: tuple[Any, ...]  # for each way of preprocessing uint8 [n, size, size, 3], of the samples at
    pixels_of: Positions
    tokens: tuple[Ragged, ...]  # for each tokenizer int32 [length] of each of the samples at
    tokens_of: Positions
    encoded: Ragged = field(default_factory=_nothing)  # images left to the GPU, uint8 [bytes] of each of the samples at
    encoded_of: Positions = field(default_factory=_nowhere)

    @classmethod
    def of(cls, rows: Sequence[Decoded[Any, Any]], samples: pa.RecordBatch) -> Chunk:
        """Of rows whose pixels and tokens are tuples, one of each for each way of making them."""
        images = [i for i, row in enumerate(rows) if row.pixels is not None]
        texts = [i for i, row in enumerate(rows) if row.tokens is not None]
        files = {i: row.encoded for i, row in enumerate(rows) if row.encoded is not None}
        return cls(
            samples,
            tuple(np.stack(way) for way in zip(*(rows[i].pixels for i in images), strict=True)),
            np.array(images, np.int32),
            tuple(Ragged.of(way) for way in zip(*(rows[i].tokens for i in texts), strict=True)),
            np.array(texts, np.int32),
            Ragged.of_bytes(list(files.values())),
            np.array(list(files), np.int32),
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __reduce__(self) -> Any:
        """Images are buffers of their own, which Ray leaves where they lie until they are encoded. The rest waits for
        the end of a window and would keep the images in the object store as long, so it goes as bytes."""
        positions = [_packed(array) for array in (self.pixels_of, self.tokens_of, self.encoded_of)]
        tokens = [(_packed(way.values), _packed(way.ends)) for way in self.tokens]
        return _unpacked, (_packed_samples(self.samples), positions, tokens, self.pixels, self.encoded)

    def decoded(self, pixels: tuple[Any, ...], failed: Mapping[int, Failure]) -> Chunk:
        """Once nothing is encoded any more. pixels: of all samples that have any now, in order. failed: what could not
        be decoded, by position."""
        positions = np.union1d(self.pixels_of, self.encoded_of).astype(np.int32)
        done = replace(self, pixels=pixels, pixels_of=positions, encoded=_nothing(), encoded_of=_nowhere())
        if not failed:
            return done
        gone = np.array(list(failed), np.int32)
        kept = ~np.isin(self.tokens_of, gone)
        samples = self.samples
        for name in ("error", "width", "height"):
            samples = with_values(samples, name, {at: getattr(failure, name) for at, failure in failed.items()})
        for name in ("caption_tokens", "caption_truncated"):
            samples = with_values(samples, name, dict.fromkeys(failed))
        return replace(
            done,
            samples=samples,
            pixels_of=np.setdiff1d(positions, gone, assume_unique=True).astype(np.int32),
            tokens=tuple(way.where(kept) for way in self.tokens) if kept.any() else (),
            tokens_of=self.tokens_of[kept],
        )


def _packed_samples(samples: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, samples.schema) as stream:
        stream.write_batch(samples)
    return sink.getvalue().to_pybytes()


def _packed(array: Array) -> tuple[str, bytes]:
    """Of one dimension."""
    return array.dtype.str, array.tobytes()


def _array(packed: tuple[str, bytes]) -> Array:
    kind, content = packed
    return np.frombuffer(bytearray(content), np.dtype(kind))


def _unpacked(samples: bytes, positions: Any, tokens: Any, pixels: Any, encoded: Any) -> Chunk:
    pixels_of, tokens_of, encoded_of = map(_array, positions)
    ways = tuple(Ragged(_array(values), _array(ends)) for values, ends in tokens)
    with pa.ipc.open_stream(samples) as stream:
        return Chunk(stream.read_next_batch(), pixels, pixels_of, ways, tokens_of, encoded, encoded_of)


class Waiting:
    """One side of the chunks at hand: arrays that wait until there are enough of them for the encoder."""

    def __init__(self) -> None:
        self._positions: list[Positions] = []
        self._ways: list[list[Any]] = []

    def add(self, positions: Positions, ways: Sequence[Iterable[Any]]) -> None:
        """positions: in the window. ways: for each way of making them, one array for each position."""
        if len(positions):
            self._positions.append(positions)
            self._ways = self._ways or [[] for _ in ways]
            for waiting, arrays in zip(self._ways, ways, strict=True):
                waiting.extend(arrays)

    def take(self, count: int) -> tuple[Positions, list[list[Any]]]:
        """The first ones, which wait no longer."""
        positions = np.concatenate(self._positions)
        taken = [way[:count] for way in self._ways]
        self._positions, self._ways = [positions[count:]], [way[count:] for way in self._ways]
        return positions[:count], taken

    def __len__(self) -> int:
        return len(self._ways[0]) if self._ways else 0
