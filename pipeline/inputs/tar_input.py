"""Samples out of a WebDataset tar, as a stream: one sample in memory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

from ..choices import USUAL_KEYS, SampleKeys
from ..errors import ShardError
from ..records import Shard
from ..storage.holes import FileWithHoles, Range
from ..storage.remote import RemoteFile
from ..storage.urls import is_web, open_storage, opening, scheme_of
from .grouping import File, Grouper, SampleFiles
from .names import split_name
from .tar_links import Links
from .tario import MAX_MEMBER, Member, NotATar, TarDamage, members

_READ_AHEAD = 8 << 20  # bytes a request to a web server
_BUFFER = 1 << 20
_SMALL = 1 << 12  # the same, where images are passed over

# A key's files that are held until it is known which samples they are. A key with more is split where its middle
# changes, as if the rest were a key of its own.
_MOST_FILES, _MOST_BYTES = 4096, 64 << 20

_REMEMBERED = 100_000  # keys of a shard, to notice those that come back: some 7 MB


def read_tar(
    shard: Shard,
    storage_options: Mapping[str, Any] | None,
    keys: SampleKeys,
    every_file: bool,
    images: Sequence[Range] | None = None,
) -> Iterator[SampleFiles]:
    """See `shards.read_files`. every_file: with the contents of those too that are neither image, caption nor json.
    images: where they are, if they are not to be read."""
    with _open(shard, storage_options, images) as file:
        with opening(shard.url):  # of remote files, only the first read tells whether they are there
            magic = file.peek(2)[:2]
        if not magic:
            raise ShardError(f"{shard.url}: empty file")
        # by content, not by name: web servers like to unpack .gz files on the way
        compressed = magic == b"\x1f\x8b"
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file) if compressed else file)
        try:
            without_images = images is not None and not compressed and not is_web(shard.url)
            yield from samples_in(stream, None if compressed else 0, keys, every_file, without_images)
        except NotATar as error:
            raise ShardError(f"{shard.url}: not a tar: {error}") from error
        except NothingUnderstood as error:
            raise ShardError(f"{shard.url}: {error}") from error


def _open(shard: Shard, storage_options: Mapping[str, Any] | None, images: Sequence[Range] | None) -> io.BufferedReader:
    """Buffered, since small reads are cheap there, and dear in fsspec's Python."""
    url = shard.url
    with opening(url):
        storage = open_storage(url, storage_options)
        if scheme_of(url) == "file":
            return io.BufferedReader(io.FileIO(storage._strip_protocol(url)), _BUFFER if images is None else _SMALL)
        size = None if is_web(url) else shard.size
        if size is None and not is_web(url):
            info = storage.info(url)
            if info["type"] == "directory":
                raise IsADirectoryError
            size = info.get("size")
        if size is not None and images is not None:
            return io.BufferedReader(FileWithHoles(storage, url, size, images), _SMALL)
        if size is not None:
            return io.BufferedReader(RemoteFile(storage, url, size), _BUFFER)
        return io.BufferedReader(storage.open(url, "rb", block_size=_READ_AHEAD, cache_type="readahead"), _BUFFER)


class NothingUnderstood(ShardError):
    """An archive that ended without one sample."""


def samples_in(
    stream: BinaryIO,
    start: int | None,
    keys: SampleKeys = USUAL_KEYS,
    every_file: bool = False,
    without_images: bool = False,
) -> Iterator[SampleFiles]:
    """Groups adjacent members of one key; an extension that comes back begins the next sample of that key.

    stream: an archive from a member's first header on, which is at byte `start` of it; None where nobody can seek. A
    stream that breaks off ends with a sample that has an `error`, and the key where that much could be read. Raises
    NothingUnderstood at its end where there were files, and not one sample among them. without_images: their data is
    not read, and their samples have an `error`; all else is the same.
    """
    grouper = Grouper(keys)
    reader = _Reader(stream, start, grouper, every_file, without_images)

    def is_read(name: str) -> bool:
        named = split_name(name)
        return named is not None and not grouper.roles.is_image(named[1])

    try:
        for member in members(stream, wanted=is_read if without_images else None):
            if (named := split_name(member.name)) is None:
                reader.passed_over = True
                continue
            if not reader.is_open_for(*named):
                yield from reader.begin(named[0])
            elif reader.is_full_before(named[1]):
                yield from reader.go_on()
            reader.add(named[1], member)
    except TarDamage as damage:
        broken = split_name(damage.name or "")
        if broken and reader.is_open_for(*broken):  # its sample breaks too, and is the failed row below
            yield from reader.close_without(broken[1])
        else:
            yield from reader.close()
        yield SampleFiles(broken[0] if broken else "", error=f"read: truncated tar ({damage.reason})")
        return
    yield from reader.close()
    reader.check()


class _Reader:
    """The key whose files are being collected, and what is known of those before it."""

    def __init__(
        self, stream: BinaryIO, start: int | None, grouper: Grouper, every_file: bool, without_images: bool
    ) -> None:
        self._start, self._grouper, self._every_file = start, grouper, every_file
        self._without_images = without_images
        self._links = Links(None if start is None else stream)
        self._key: str | None = None
        self._files: list[File] = []
        self._extensions: set[str] = set()
        self._bytes = 0
        self._parted = False  # files of this key were samples already
        self._came_back = False
        self._finished: set[int] = set()  # hashes of keys
        self._endings: dict[str, None] = {}  # of files of samples that are not understood
        self._understood = False
        self.passed_over = False  # a file without a key

    def is_open_for(self, key: str, extension: str) -> bool:
        """Whether such a file would belong to the key at hand."""
        return key == self._key and extension not in self._extensions

    def is_full_before(self, extension: str) -> bool:
        """Whether so much of the key at hand is held that it is split before such a file."""
        if len(self._files) < _MOST_FILES and self._bytes < _MOST_BYTES:
            return False
        return extension.rpartition(".")[0] != self._files[-1].middle

    def add(self, extension: str, member: Member) -> None:
        """Take a file of the key at hand."""
        needed = self._every_file or self._grouper.roles.needs(extension)
        passed_over = self._without_images and self._grouper.roles.is_image(extension)
        needed = needed and not passed_over
        if member.link is not None and needed:
            member = self._links.follow(member)
        self._extensions.add(extension)
        data = member.data if needed else None
        offset = None if self._start is None or member.offset is None else self._start + member.offset
        self._files.append(File(extension, data, offset, member.fault))
        size = member.size if passed_over and member.size <= MAX_MEMBER else 0
        self._bytes += len(data) if data else size

    def go_on(self) -> Iterator[SampleFiles]:
        """The samples of the files at hand; more of the same key follow."""
        yield from self._samples()
        self._files, self._bytes, self._parted = [], 0, True

    def close(self) -> Iterator[SampleFiles]:
        """The samples of the key at hand."""
        if self._key is not None:
            yield from self._samples()
        self._key = None

    def close_without(self, broken: str) -> Iterator[SampleFiles]:
        """The pairs at hand that are complete, whose middle is not that of the broken extension."""
        assert self._key is not None
        middle = broken.rpartition(".")[0]
        files = [file for file in self._files if file.middle != middle]
        if self._grouper.holds_pairs(files):
            yield from self._grouper.samples(self._key, files, parted=True)

    def check(self) -> None:
        """Raise NothingUnderstood for an archive of files that are no samples."""
        if not self._understood and (self._endings or self.passed_over):
            ends = f"its files end in {', '.join(self._endings)}" if self._endings else "its files have no extension"
            raise NothingUnderstood(
                f"no sample in it is understood: {ends[:200]}; name what holds the images and captions by --image-key "
                "and --caption-key"
            )

    def begin(self, key: str) -> Iterator[SampleFiles]:
        """The samples of the key at hand, which ends; its successor is another, or the same once more."""
        before = self._key
        yield from self.close()
        if before is not None and len(self._finished) < _REMEMBERED:
            self._finished.add(hash(before))
        self._came_back = key != before and hash(key) in self._finished
        self._key, self._files, self._bytes, self._parted = key, [], 0, False
        self._extensions.clear()

    def _samples(self) -> Iterator[SampleFiles]:
        assert self._key is not None
        for sample in self._grouper.samples(self._key, self._files, self._parted):
            if self._came_back and (sample.no_image or sample.no_caption):
                sample.notes += ("key came back",)
            if sample.understood:
                self._understood = True
            elif len(self._endings) < 9:
                self._endings |= dict.fromkeys(f".{file.extension}" for file in sample.files)
            yield sample
