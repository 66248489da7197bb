"""Folders that other steps made of a dataset, without what they hold of its forgotten rows.

Files that hold something are deleted, and the same command of that step makes them again; new shards are rewritten.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.derived import STEP, begun
from ..dataset.layout import DATA, OWN
from ..dataset.local_copies import index_copies
from ..dataset.output import Output
from ..dataset.plan import PLAN
from ..dataset.subset import FUNNEL
from ..errors import InputError
from ..storage.urls import open_storage
from .held import held_rows
from .new_shards import rewritten

_CLEAN = f"{OWN}/clean-of"  # identity of what was forgotten when files that tell no rows were deleted last
_WHOLE = ("index", "lance", "iceberg")  # whose files do not tell which rows they are of


@dataclass(frozen=True)
class Cleaned:
    folder: str
    step: str  # whose output it is
    deleted: int  # files; the step's same command makes them again
    rewritten: int  # files
    rows: int  # samples taken out of those


@dataclass(frozen=True)
class Folder:
    """The output of a step over the dataset. kind: the step, or an export's layout."""

    output: Output
    step: str
    kind: str

    @classmethod
    def open(cls, url: str, dataset: Dataset) -> Folder:
        """InputError for any other folder."""
        output = Output.at(url, dataset.output.storage_options)
        if output.read(PLAN) is not None:
            raise InputError(f"--also {url} is a dataset of its own: run `clipmill forget {url}`")
        started = begun(output)
        if started is None:
            raise InputError(f"--also {url} is no output of a clipmill step: name a folder given to --out")
        step, settings = started
        if settings.get("dataset") != dataset.url:
            raise InputError(f"--also {url} was made of {settings.get('dataset')}, not of {dataset.url}")
        return cls(output, step, settings.get("to") or step)

    def clean(self, dataset: Dataset) -> Cleaned:
        """Run again to resume. Nothing happens where the folder is clean."""
        self.output.prepare()  # files that killed runs left unfinished may hold anything
        if self.step == "reshard":
            files, rows = rewritten(self.output, dataset)
            return Cleaned(self.output.url, self.step, 0, files, rows)
        going = sorted(self._whole(dataset) if self.kind in _WHOLE else self._with_rows(dataset))
        if going and self.kind in ("filter", "dedup"):
            self.output.delete(FUNNEL)  # first: then the subset is not finished
        for name in going:
            self.output.delete(name)
        if self.kind in (*_WHOLE, "dedup"):
            self._end(dataset)
        return Cleaned(self.output.url, self.step, len(going), 0, 0)

    def _whole(self, dataset: Dataset) -> set[str]:
        return set() if self._is_clean(dataset) else {name for name in self._tree() if name not in (STEP, _CLEAN)}

    def _with_rows(self, dataset: Dataset) -> set[str]:
        """Tables with forgotten rows, what belongs to them, and what `dedup` keeps for its next run."""
        tree = sorted(self._tree())
        held = {name for name in tree if name.endswith(".parquet") and self._holds(name, dataset)}
        if held and self.kind == "clip-retrieval":
            return {name for name in tree if not name.startswith(f"{OWN}/")}
        held |= {npz for name in held if (npz := f"{name.removesuffix('.parquet')}.npz") in tree}
        if self.kind == "dedup" and not self._is_clean(dataset):
            held |= {name for name in tree if name.startswith((f"{OWN}/cells/", f"{OWN}/dedup-"))}
        return held

    def _holds(self, name: str, dataset: Dataset) -> bool:
        folder, _, part = name.rpartition("/")
        if folder == DATA and part not in dataset.forgotten.parts:
            return False
        with self.output.open(name) as file:
            return any(len(rows) for rows in held_rows(pq.ParquetFile(file), dataset))

    def _is_clean(self, dataset: Dataset) -> bool:
        return self.output.read(_CLEAN) == dataset.forgotten.identity.encode()

    def _end(self, dataset: Dataset) -> None:
        """From here on the step reads nothing of what is forgotten, and so writes nothing of it."""
        self.output.write(_CLEAN, dataset.forgotten.identity.encode())
        for path in index_copies(self.output.url).glob("*/*"):
            path.unlink(missing_ok=True)

    def _tree(self) -> Collection[str]:
        """All files of the folder, by their paths in it."""
        storage = open_storage(self.output.url, self.output.storage_options)
        root = str(storage._strip_protocol(self.output.url)).rstrip("/")
        return {str(path).removeprefix(f"{root}/") for path in storage.find(root)}
