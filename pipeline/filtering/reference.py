"""Images like those of a reference set: the image-based baseline of DataComp (Gadre et al. 2023, appendix N)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..dataset.dataset import Dataset, vectors_of
from ..deduplication import kmeans
from ..records import Vectors
from ..running.scatter import scatter
from .row_functions import RowFunction, near

_A_CELL, _CELLS = 40, 4096  # embeddings per cell for k-means, and most cells: 160,000 embeddings, 0.5 GB of 768
_SPARE = 4  # embeddings read for one that is sampled, where the dataset has as many


def near_reference(
    dataset: Dataset, alias: str | None, reference: Dataset, cells: int | None, address: str = "auto"
) -> RowFunction:
    """True where an image's nearest centroid is also the nearest one of some image of the reference.

    The centroids are those of a sample of the dataset's images, always the same one. InputError for a reference of
    another model.
    """
    model = dataset.model(alias)
    same = reference.same_model(model, f"--reference {reference.url}", dataset.url)
    sampled = kmeans.sample(_sampled_from(dataset, f"{model.prefix}image_embedding"), _A_CELL * (cells or _CELLS))
    if not len(sampled):
        return near(np.zeros((1, model.dim), np.float32), np.zeros(1, np.bool_))
    centroids = kmeans.train(sampled, cells or max(1, min(_CELLS, len(sampled) // _A_CELL)))
    wanted = np.zeros(len(centroids), np.bool_)
    visit = _VisitedCells(reference, f"{same.prefix}image_embedding", centroids)
    for _, visited in scatter(visit, reference.parts, address):
        wanted |= visited
    return near(centroids, wanted)


def _sampled_from(dataset: Dataset, column: str) -> Iterator[Vectors]:
    """Embeddings of parts in random order, until there are enough to sample from."""
    left = _SPARE * _A_CELL * _CELLS
    for index in np.random.default_rng(0).permutation(len(dataset.parts)):
        for vectors in _vectors(dataset, dataset.parts[index], column):
            yield vectors
            left -= len(vectors)
        if left <= 0:
            return


@dataclass(frozen=True)
class _VisitedCells:
    """Marks the centroids that are the nearest ones of some image in a part: bool [cells]."""

    dataset: Dataset
    column: str
    centroids: Vectors

    def __call__(self, part: str) -> np.ndarray:
        visited = np.zeros(len(self.centroids), np.bool_)
        centroids = np.require(self.centroids, requirements="W")  # Ray's arrays are read-only, of which torch warns
        for vectors in _vectors(self.dataset, part, self.column):
            visited[kmeans.assign(vectors, centroids)[0][:, 0]] = True
        return visited


def _vectors(dataset: Dataset, part: str, column: str) -> Iterator[Vectors]:
    for batch in replace(dataset, parts=(part,)).batches([column]):
        vectors, present = vectors_of(batch[column])
        yield kmeans.unit(vectors[present])
