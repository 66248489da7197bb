"""A dataset's labels, as the steps after labelling read them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ..errors import InputError
from .derived import begun
from .layout import part_path
from .output import Output
from .source import PART, source_of

if TYPE_CHECKING:
    from .dataset import Dataset

FLOATS = ("probability", "margin", "entropy", "label_similarity", "background")  # columns of floating-point numbers

_AT_ONCE = 16  # parts whose footers are read


@dataclass(frozen=True)
class Labels:
    """Labels of all parts of a dataset. Cheap to send to workers."""

    output: Output
    parts: tuple[str, ...]  # names, in the dataset's order
    identity: str  # changes with the classes, and when parts are labelled anew
    background: tuple[str, ...] = ()  # names given to `label --background`: what fits them better is labelled none
    floats: tuple[str, ...] = FLOATS  # those of these columns that there are: earlier versions wrote fewer
    sizes: tuple[int, ...] = ()  # of the parts of labels, in bytes
    settings: str = ""  # a digest of all that a part's labels depend on besides the part

    @classmethod
    def open(cls, url: str, dataset: Dataset) -> Labels:
        """InputError for a folder without labels, for labels of another dataset, and where parts have none yet."""
        output = Output.at(url, dataset.output.storage_options)
        started = begun(output)
        if started is None or started[0] != "label":
            raise InputError(f"{url} does not hold labels: name the folder given to `clipmill label --out`")
        settings = started[1]
        if (settings["fingerprint"], settings["dataset"]) != (dataset.settings.digest, dataset.url):
            raise InputError(f"{url} holds labels of {settings['dataset']}, not of {dataset.url}")
        labelled = output.part_sizes()
        missing = [part for part in dataset.parts if part not in labelled]
        if missing:
            raise InputError(
                f"{url}: {len(missing):,} of {len(dataset.parts):,} parts have no labels; run `clipmill label` again"
            )
        sizes = [(part, labelled[part]) for part in dataset.parts]
        identity, digest = _digest([settings, sizes]), _digest(settings)
        background, floats = tuple(settings.get("background", ())), _floats(output, dataset.parts)
        return cls(output, dataset.parts, identity, background, floats, tuple(size for _, size in sizes), digest)

    def url_of(self, part: str) -> str:
        return self.output.url_of(part)

    def check_fits(self, dataset: Dataset) -> None:
        """InputError where a part was embedded anew since it was labelled, or rows of it were forgotten."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="labels") as pool:
            list(pool.map(lambda part: check_part(self, dataset, part), self.parts))


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _floats(output: Output, parts: tuple[str, ...]) -> tuple[str, ...]:
    if not parts:
        return FLOATS
    with output.open(part_path(parts[0])) as file:
        names = pq.read_schema(file).names
    return tuple(name for name in FLOATS if name in names)


def check_part(labels: Labels, dataset: Dataset, part: str) -> None:
    """As `check_fits`, for one part."""
    with labels.output.open(part_path(part)) as file:
        footer: dict[bytes, bytes] = pq.ParquetFile(file).metadata.metadata or {}
    if footer.get(PART) != source_of(dataset, part, None).encode():
        changed = "rows of it were forgotten" if part in dataset.forgotten.parts else "it was embedded again"
        raise InputError(f"{labels.output.url}: {part} was labelled before {changed}; run `clipmill label` again")
