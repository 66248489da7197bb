"""The inputs that the user names, as a list of shards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from ..errors import InputError
from ..records import Shard
from ..storage.retry import retry
from ..storage.streams import is_stream, read_whole
from ..storage.urls import canonical_url, is_web, open_storage, scheme_of, url_of
from . import folder_files
from .braces import expand, is_pattern
from .entries import DeniedInput, Entry, NoSuchInput, asking, etag_of, listed
from .first_look import look_into as look_into
from .names import utf8
from .shards import is_shard_name, sidecars

_ATTEMPTS = 5  # a second and a half: the user is waiting
_FEW = 16  # up to so many, a request for each file is cheaper than listing their folder


def list_shards(inputs: Sequence[str], storage_options: Mapping[str, Any] | None = None) -> list[Shard]:
    """The shards that `inputs` name: in the order of the inputs, sorted by URL within each, every URL once.

    An input is a shard file, a glob (`*`, `?`, `[…]`, `**`), a brace range (`{00000..12895}`, `{a,b}`), a folder (the
    shards in it, or where it has none, those below it) or a list of inputs (`@FILE`, a .txt or .list file, or a pipe;
    one a line, relative to the list's own folder, `#` begins a comment). A folder that holds images and no shard files
    is a shard itself; its URL ends with a slash. Names that begin with `_` or `.` are passed over, and so are
    img2dataset's tables beside its tars, unless named outright.
    Raises InputError with one line that says what to change; InfrastructureError when the storage does not answer.
    """
    lister = _Lister(storage_options)
    texts = [inputs] if isinstance(inputs, str) else inputs
    requests = [request for text in texts for request in _read(str(text), lister)]
    if not requests:
        raise InputError("no input: name at least one shard, folder, glob or list")
    lister.look_up(name for request in requests for name in request.names if not is_pattern(name))
    shards: dict[str, Shard] = {}
    for request in requests:
        for entry in sorted(lister.find(request), key=lambda entry: entry.url):
            if (name := utf8(entry.url)) != entry.url:
                raise InputError(f"{name}: the name is not UTF-8, as URLs in Parquet must be; rename it")
            shards.setdefault(entry.url, Shard(entry.url, entry.size, entry.etag))
    return list(shards.values())


def look_again(shards: Sequence[Shard], storage_options: Mapping[str, Any] | None = None) -> list[Shard | None]:
    """What shards that were listed once are now, None for those that are gone. InfrastructureError when the storage
    does not answer."""
    lister = _Lister(storage_options)
    lister.look_up(shard.url for shard in shards)
    return [None if entry is None else Shard(entry.url, entry.size, entry.etag) for entry in map(lister.now, shards)]


class _Request(NamedTuple):
    text: str  # an input, or a line of a list
    names: list[str]  # canonical URLs and patterns, braces expanded


def _read(text: str, lister: _Lister, within: tuple[str, ...] = ()) -> Iterator[_Request]:
    """Opens lists and expands braces."""
    is_list = text.startswith("@") or text.lower().endswith((".txt", ".list")) or is_stream(text)
    if not is_list:
        try:
            yield _Request(text, [canonical_url(name) for name in expand(text)])
        except ValueError as error:
            raise InputError(str(error)) from error
        return
    url = canonical_url(text.removeprefix("@"))
    if url in within:
        raise InputError(f"{text}: the list includes itself")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lister.read_text(url).splitlines()]
    if not any(lines):
        raise InputError(f"{text}: the list is empty; write one input a line")
    folder = "." if is_stream(url) else url.rpartition("/")[0]
    for line in filter(None, lines):
        mark, name = line[: line.startswith("@")], line.removeprefix("@")
        if "://" not in name and not name.startswith(("/", "~")):
            name = f"{folder}/{name}"
        yield from _read(mark + name, lister, (*within, url))


class _Lister:
    """Asks the storage, each folder once."""

    def __init__(self, storage_options: Mapping[str, Any] | None) -> None:
        self._options = storage_options
        self._stores: dict[str, fsspec.AbstractFileSystem] = {}
        self._folders: dict[str, list[Entry]] = {}
        self._entries: dict[str, Entry | None] = {}

    def find(self, request: _Request) -> list[Entry]:
        """The shards of one input."""
        entries: list[Entry] = []
        missing: list[str] = []
        for name in request.names:
            matches = self._matches(name) if is_pattern(name) else []
            if not matches:
                self.look_up([name])  # known already, unless it is a pattern: a file may be called a[1].tar
                matches = [entry] if (entry := self._entries[name]) else []
            if matches:
                entries += self._shards_among(matches, name)
            elif is_pattern(name):
                raise InputError(f"{name}: matches nothing; check the folder and the pattern")
            else:
                missing.append(name)
        if missing:
            count = f"; {len(missing):,} of the {len(request.names):,} files that {request.text} names are missing"
            raise InputError(self._no_such(missing[0]) + (count if len(request.names) > 1 else ""))
        self.look_up(bare := [entry.url for entry in entries if entry.etag is None])  # index pages list only names
        return [self._entries.get(entry.url) or entry for entry in entries] if bare else entries

    def now(self, shard: Shard) -> Entry | None:
        """The current state of a shard, after it was looked up."""
        entry = self._entries[shard.url]
        if entry is None or not shard.url.endswith("/"):
            return entry
        return next(iter(self._shards_in(shard.url)), None)  # a folder of images changes with what is in it

    def look_up(self, urls: Iterable[str]) -> None:
        """Learns about explicit names: few of a folder one by one, many by listing the folder."""
        by_folder: dict[str, dict[str, None]] = defaultdict(dict)
        for url in urls:
            if url not in self._entries:
                by_folder[_folder_of(url)][url] = None
        single: list[str] = []
        for folder, names in by_folder.items():
            if len(names) <= _FEW or is_web(folder) or folder.endswith(":/"):  # no index page; a bucket
                single += names
                continue
            try:
                listed = {entry.url: entry._replace(is_sidecar=False) for entry in self._folder(folder)}
                self._entries |= {name: listed.get(name) for name in names}
            except NoSuchInput:
                self._entries |= dict.fromkeys(names)
            except DeniedInput:  # who may read objects need not be allowed to list them
                single += names
        if single:
            with ThreadPoolExecutor(_FEW) as pool:
                self._entries |= zip(single, pool.map(self._ask, single), strict=True)

    def read_text(self, url: str) -> str:
        """A list of inputs."""
        with asking(url):
            return read_whole(url, self._options, _ATTEMPTS).decode("utf-8-sig")

    def _matches(self, pattern: str) -> list[Entry]:
        try:
            return self._glob(pattern)
        except NoSuchInput as error:
            raise NoSuchInput(f"{pattern}: matches nothing; {error}") from error

    def _glob(self, pattern: str) -> list[Entry]:
        """Level by level; fsspec's own glob leaves out folders that it may not read, and with them their rows."""
        parts = pattern.split("/")
        fixed = next(i for i, part in enumerate(parts) if is_pattern(part))
        level = [Entry(_folder_of("/".join([*parts[:fixed], ""])), is_folder=True)]
        for part in parts[fixed:]:
            folders = [entry for entry in level if entry.is_folder]
            if part == "**":
                level = folders + [entry for folder in folders for entry in self._below(folder.url)]
            elif not part:
                level = [Entry(f"{folder.url}//", is_folder=True) for folder in folders]
            else:
                level = [entry for folder in folders for entry in self._folder(folder.url) if entry.matches(part)]
        return level

    def _shards_among(self, entries: list[Entry], name: str) -> list[Entry]:
        """The shards among the files and folders of a name; where it names only folders, the shards in them."""
        shards = [entry for entry in entries if entry.is_shard()]
        for entry in [] if shards else entries:
            if entry.is_folder or is_web(entry.url):  # on the web, a folder's index page looks like a file
                with suppress(NoSuchInput):
                    below = (child for child in self._below(entry.url) if child.is_folder)
                    shards += self._shards_in(entry.url) or [s for child in below for s in self._shards_in(child.url)]
        if not shards:
            if any(entry.is_folder for entry in entries):
                fault = "holds no .tar shards, Parquet files or images"
            elif any(entry.is_sidecar for entry in entries):
                fault = "is only the table beside a tar"
            else:
                fault = "does not have a shard's name"
            known = ".tar, .tar.gz, .tgz or .parquet files"
            raise InputError(f"{name} {fault}; name {known}, a folder that holds some, or a folder of images")
        return shards

    def _shards_in(self, url: str) -> list[Entry]:
        """The shards directly in a folder; where it has none but images, the folder itself."""
        entries = self._folder(url)
        shards = [entry for entry in entries if entry.is_shard() and entry.matches()]
        if shards or is_web(url) or not any(entry.is_image() for entry in entries):
            return shards
        etag = folder_files.etag_of((entry.name, entry.size, entry.etag) for entry in entries if not entry.is_folder)
        return [Entry(url if url.endswith("/") else f"{url}/", is_folder=True, etag=etag)]

    def _below(self, url: str) -> Iterator[Entry]:
        for entry in self._folder(url):
            if entry.matches():
                yield entry
                if entry.is_folder:
                    yield from self._below(entry.url)

    def _folder(self, url: str) -> list[Entry]:
        """The files and folders directly in a folder, by one call."""
        if url not in self._folders:
            with asking(url):
                infos = retry(lambda: listed(self._store(url), url), _ATTEMPTS)
            listing = (self._entry(url_of(scheme_of(url), info["name"]), info) for info in infos)
            entries = [entry for entry in listing if entry and entry.url != url]
            tables = sidecars(entry.url for entry in entries if not entry.is_folder)
            self._folders[url] = [
                entry._replace(is_sidecar=True) if entry.url in tables else entry for entry in entries
            ]
        return self._folders[url]

    def _ask(self, url: str) -> Entry | None:
        """The file or folder of a name, by one call; None where there is none."""
        with suppress(NoSuchInput), asking(url):
            return self._entry(url, retry(lambda: self._store(url).info(url), _ATTEMPTS))
        return None

    def _entry(self, url: str, info: Mapping[str, Any]) -> Entry | None:
        """A file or folder as the storage lists it; None for anything else."""
        if info.get("islink") and info["type"] == "other":  # a local listing shows the link, not its target
            target = Path(url).resolve()
            if not target.exists() and is_shard_name(url):
                raise InputError(f"{url}: a link to a file that is not there; restore the file or remove the link")
            if not target.exists() or Path(url).is_relative_to(target):  # or a folder within itself
                return None
            info = self._store(url).info(url)
        is_folder = {"file": False, "directory": True}.get(info["type"])
        return None if is_folder is None else Entry(url, is_folder, info.get("size"), etag_of(info))

    def _no_such(self, url: str) -> str:
        top = url.rpartition("/")[0] if scheme_of(url) == "file" else "/".join(url.split("/")[:3])  # or the bucket
        known = not top or is_web(url) or self._store(url).exists(top)
        return f"{url}: no such file or folder" + ("" if known else f", nor is there a {top}")

    def _store(self, url: str) -> fsspec.AbstractFileSystem:
        scheme = scheme_of(url)
        if scheme not in self._stores:
            self._stores[scheme] = open_storage(url, self._options)
            self._stores[scheme].invalidate_cache()  # files may have changed since an earlier run in this process
        return self._stores[scheme]


def _folder_of(url: str) -> str:
    """The folder of a file. Object stores' keys may hold `//`: then it ends with both slashes."""
    folder = url.rpartition("/")[0] or "/"
    is_store = scheme_of(url) != "file" and not is_web(url)
    return f"{folder}/" if is_store and folder.endswith("/") and not folder.endswith("//") else folder
