"""Images like those of a reference set: the image-based baseline of DataComp (Gadre et al. 2023, appendix N)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..dataset.dataset import Dataset, vectors_of
from ..deduplication import kmeans
from ..errors import InputError
from ..records import Vectors
from ..running.scatter import scatter
from .row_functions import RowFunction, near

_A_CELL, _CELLS = 40, 4096  # embeddings a cell that k-means sees, and most cells: 160,000 embeddings, 0.5 GB of 768
_SPARE = 4  # times as many go by as are sampled, where the dataset has them


def near_reference(
    dataset: Dataset, alias: str | None, reference: Dataset, cells: int | None, address: str = "auto"
) -> RowFunction:
    """True where an image's nearest centroid is also the nearest one of some image of the reference.

    The centroids are those of a sample of the dataset's images, always the same one. InputError for a reference of
    another model.
    """
    model = dataset.model(alias)
    there = next((each for each in reference.models if each.weights_sha256 == model.weights_sha256), None)
    if there is None:
        made = ", ".join(f"{each.variant} ({each.weights})" for each in reference.models)
        raise InputError(
            f"--reference {reference.url}: made with {made}, and {dataset.url} with {model.variant} ({model.weights})"
        )
    sampled = kmeans.sample(_sampled_from(dataset, f"{model.prefix}image_embedding"), _A_CELL * (cells or _CELLS))
    if not len(sampled):
        return near(np.zeros((1, model.dim), np.float32), np.zeros(1, np.bool_))
    centroids = kmeans.train(sampled, cells or max(1, min(_CELLS, len(sampled) // _A_CELL)))
    wanted = np.zeros(len(centroids), np.bool_)
    visit = _VisitedCells(reference, f"{there.prefix}image_embedding", centroids)
    for _, visited in scatter(visit, reference.parts, address):
        wanted |= visited
    return near(centroids, wanted)


def _sampled_from(dataset: Dataset, column: str) -> Iterator[Vectors]:
    """Embeddings of parts in random order, until there are enough to sample from."""
    left = _SPARE * _A_CELL * _CELLS
    for place in np.random.default_rng(0).permutation(len(dataset.parts)):
        for vectors in _vectors(dataset, dataset.parts[place], column):
            yield vectors
            left -= len(vectors)
        if left <= 0:
            return


@dataclass(frozen=True)
class _VisitedCells:
    """Which centroids are the nearest of some image of a part: bool [cells]."""

    dataset: Dataset
    column: str
    centroids: Vectors

    def __call__(self, part: str) -> np.ndarray:
        visited = np.zeros(len(self.centroids), np.bool_)
        centroids = np.require(self.centroids, requirements="W")  # Ray's are read-only, which torch minds
        for vectors in _vectors(self.dataset, part, self.column):
            visited[kmeans.assign(vectors, centroids)[0][:, 0]] = True
        return visited


def _vectors(dataset: Dataset, part: str, column: str) -> Iterator[Vectors]:
    for batch in replace(dataset, parts=(part,)).batches([column]):
        vectors, present = vectors_of(batch[column])
        yield kmeans.unit(vectors[present])
