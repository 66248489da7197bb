"""Sums that a report leaves for the next one, in `.clipmill/report/`: a file for some parts, which it names.

A file counts as long as all of its parts are as they were. Its name begins with a digest of all else that the sums
depend on. It is a cache: what is gone or damaged is added up again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.layout import REPORT
from ..dataset.output import Output
from ..errors import ClipmillError
from .frame import Frame

_FOOTER = b"clipmill.report"
_AT_ONCE = 16  # files read
_TROUBLE = (ClipmillError, OSError, pa.ArrowException, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class KeptSums:
    """The sums of some parts, in a file on this machine. stamps: of the parts, all that the sums depend on."""

    path: Path
    parts: tuple[str, ...]
    stamps: tuple[str, ...]
    rows: int
    frame: Frame

    @property
    def name(self) -> str:
        """The same for the same sums."""
        facts = repr((self.parts, self.stamps, self.frame.as_json()))
        return f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.parquet"


def write_sums(table: pa.Table, sums: KeptSums) -> None:
    """To its path. table: as `sums.add_up` makes it."""
    told = {"parts": sums.parts, "stamps": sums.stamps, "rows": sums.rows, "frame": sums.frame.as_json()}
    table = table.replace_schema_metadata({_FOOTER: json.dumps(told).encode()})
    pq.write_table(table, sums.path, compression="zstd", write_page_checksum=True)


def kept_sums(output: Output, identity: str, stamps: Mapping[str, str], folder: Path) -> list[KeptSums]:
    """What earlier reports have kept of the parts with these stamps, no part in two of them, and all of one frame: the
    one that most rows have. They are copied into a folder of this machine."""
    names = sorted(name for name in output.names(REPORT) if name.startswith(_prefix(identity)))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sums") as pool:
        read = pool.map(partial(_fetched, output, folder), names)
        current = [sums for sums in read if sums is not None and _is_current(sums, stamps)]
    by_frame: dict[str, list[KeptSums]] = {}
    for sums in current:
        by_frame.setdefault(repr(sums.frame), []).append(sums)
    return max(map(_apart, by_frame.values()), key=lambda of: sum(sums.rows for sums in of), default=[])


def keep(output: Output, identity: str, made: Iterable[KeptSums]) -> None:
    """For the next report; what is of no use to it is deleted. Where nothing can be written, nothing is kept."""
    wanted = {f"{_prefix(identity)}{sums.name}": sums.path for sums in made}
    new = {name for name, path in wanted.items() if path.name != name}  # the others were copied from there
    with suppress(*_TROUBLE):
        there = {name for name in output.names(REPORT) if name.startswith(_prefix(identity))}
        for name in sorted(new):
            output.write(f"{REPORT}/{name}", wanted[name].read_bytes())
        for name in sorted(there - wanted.keys()):
            output.delete(f"{REPORT}/{name}")


def _prefix(identity: str) -> str:
    return f"{identity[:16]}-"


def _fetched(output: Output, folder: Path, name: str) -> KeptSums | None:
    with suppress(*_TROUBLE):
        content = output.read(f"{REPORT}/{name}") or b""
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True, pre_buffer=False)
        told = json.loads(file.read(use_threads=False).schema.metadata[_FOOTER])  # all is read: it may be damaged
        path = folder / name
        path.write_bytes(content)
        return KeptSums(path, tuple(told["parts"]), tuple(told["stamps"]), told["rows"], Frame.read(told["frame"]))
    return None


def _is_current(sums: KeptSums, stamps: Mapping[str, str]) -> bool:
    return all(stamps.get(part) == stamp for part, stamp in zip(sums.parts, sums.stamps, strict=True))


def _apart(files: Sequence[KeptSums]) -> list[KeptSums]:
    """The largest first where several have a part."""
    taken, chosen = set[str](), []
    for sums in sorted(files, key=lambda sums: (-sums.rows, sums.name)):
        if taken.isdisjoint(sums.parts):
            taken.update(sums.parts)
            chosen.append(sums)
    return chosen
