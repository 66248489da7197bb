"""A dataset's labels, as the steps after labelling see them."""

from __future__ import annotations

from dataclasses import dataclass

from .dataset import Dataset
from .derived import begun
from .errors import InputError
from .output import Output


@dataclass(frozen=True)
class Labels:
    """Labels that are there. Cheap to send to workers."""

    output: Output
    parts: tuple[str, ...]  # labelled, in the dataset's order

    @classmethod
    def open(cls, url: str, dataset: Dataset) -> Labels:
        """InputError where there are none, or those of another dataset, or where parts are not labelled yet."""
        output = Output.at(url, dataset.output.storage_options)
        started = begun(output)
        if started is None or started[0] != "label":
            raise InputError(f"{url}: no labels here; name the folder given to `clipmill label --out`")
        said = started[1]
        if (said["fingerprint"], said["dataset"]) != (dataset.settings.digest, dataset.url):
            raise InputError(f"{url}: labels of {said['dataset']}, not of {dataset.url}")
        there = output.parts()
        missing = [part for part in dataset.parts if part not in there]
        if missing:
            raise InputError(
                f"{url}: {len(missing):,} of {len(dataset.parts):,} parts have no labels; run `clipmill label` again"
            )
        return cls(output, dataset.parts)

    def url_of(self, part: str) -> str:
        return f"{self.output.url}/{part}"
