"""What a job asks for, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..dataset.columns import check_column_names
from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..dataset.side_table import check_sides, identity_of
from ..dataset.subset import Subset, version_of
from ..errors import InputError
from ..job.dedup import DedupJob
from .against import Reference


@dataclass(frozen=True)
class Request:
    """A job, with the dataset and the rest that it names."""

    job: DedupJob
    dataset: Dataset
    output: Output
    content: str  # column that is equal for exact copies
    vectors: str  # column of embeddings
    keep_by: str
    within: Subset | None
    references: tuple[Reference, ...]

    @classmethod
    def of(cls, job: DedupJob) -> Request:
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options).join(job.joins)
        prefix = dataset.model(job.alias).prefix
        if job.near and f"{job.side}s" not in dataset.settings.embeds:
            raise InputError(f"{dataset.url} has no embeddings of {job.side}s; use --no-near, or the other --for")
        keep_by = _sortable(dataset, job.keep_by or f"{prefix}similarity")
        within = Subset.within(job.within, dataset)
        content, vectors = "sha256" if job.side == "image" else "caption", f"{job.side}_embedding"
        compared = (content if job.exact else None, vectors if job.near else None)
        references = tuple(Reference.open(url, dataset, job.alias, *compared) for url in job.against)
        if side := dataset.side_of(keep_by):
            check_sides(dataset, [side[0]])
        version = " against ".join([version_of(dataset, within), *(other.dataset.version for other in references)])
        dataset = replace(dataset, version=version + identity_of(dataset.sides))
        output = Output.at(job.out, job.storage_options).prepare()
        return cls(job, dataset, output, content, f"{prefix}{vectors}", keep_by, within, references)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the subset depends on."""
        near = {"threshold": self.job.threshold, "cells": self.job.cells, "probes": self.job.probes}
        against = {"against": [other.dataset.url for other in self.references]} if self.references else {}
        alone = {"only against": True} if self.job.only_against else {}
        joined = {"joined": [side.option for side in self.dataset.sides]} if self.dataset.sides else {}
        return {
            "for": self.job.side,
            "model": self.dataset.model(self.job.alias).alias,
            "exact": self.job.exact,
            "near": near if self.job.near else False,
            "keep by": self.keep_by,
            "within": self.within.output.url if self.within else None,
            **against,
            **alone,
            **joined,
        }

    @property
    def kept_settings(self) -> dict[str, Any]:
        """All that what is kept for the next run depends on, but for the parts."""
        return {
            **self.settings,
            "dataset": self.dataset.url,
            "fingerprint": self.dataset.settings.digest,
            "within": self.within.identity if self.within else None,
            "against": [other.dataset.version for other in self.references],
        }


def _sortable(dataset: Dataset, column: str) -> str:
    """The column itself. UserError where there is no such column, or where it has no highest value."""
    columns = [name for name in dataset.types if not name.endswith("_embedding")]
    check_column_names([column], columns, "--keep-by")
    return column
