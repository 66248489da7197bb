"""Spherical k-means: unit vectors into cells around unit centroids, nearest by cosine (Dhillon and Modha 2001)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...clipmodel.cpu import openblas_kernels
from ...clipmodel.products import products
from ..records import Vectors

_BLOCK = 1 << 26  # cosines held at once: 256 MiB


def sample(batches: Iterable[Vectors], most: int, seed: int = 0) -> Vectors:
    """`most` of the vectors, or all if there are fewer: float32 [n, dim], in their order. Each is equally likely to be
    taken, and which ones are does not depend on the batches. No batches give [0, 0]."""
    random = np.random.default_rng(seed)
    kept: list[Vectors] = []
    draws: list[npt.NDArray[np.float64]] = []
    bar = 1.0  # vectors that draw more are not among the lowest
    for batch in batches:
        drawn = random.random(len(batch))
        kept.append(batch[drawn < bar])
        draws.append(drawn[drawn < bar])
        if sum(map(len, draws)) >= 2 * most:
            vectors, lowest = _lowest(kept, draws, most)
            kept, draws, bar = [vectors], [lowest], float(lowest.max())
    return _lowest(kept, draws, most)[0] if kept else np.empty((0, 0), np.float32)


def _lowest(
    vectors: list[Vectors], draws: list[npt.NDArray[np.float64]], most: int
) -> tuple[Vectors, npt.NDArray[np.float64]]:
    together, drawn = np.concatenate(vectors), np.concatenate(draws)
    if len(drawn) <= most:
        return together, drawn
    lowest = np.sort(np.argpartition(drawn, most - 1)[:most])
    return together[lowest], drawn[lowest]


def train(vectors: Vectors, cells: int, seed: int = 0, rounds: int = 20) -> Vectors:
    """Centroids of at most `cells` cells, as many as there are vectors: float32 [cells, dim], of length one.

    vectors: float32 [n, dim] of length one, 40 or more a cell for cells that mean something. They begin at vectors
    drawn by `seed`; an empty cell moves to the vector that is furthest from its own centroid. Ends early when
    no vector changes its cell. The same input gives the same centroids on the same kind of device.
    """
    random = np.random.default_rng(seed)
    cells = min(cells, len(vectors))
    centroids = vectors[np.sort(random.choice(len(vectors), cells, replace=False))]
    before: npt.NDArray[np.int32] = np.full(len(vectors), -1, np.int32)
    for _ in range(rounds):
        cells_of, cosines = assign(vectors, centroids)
        nearest = cells_of[:, 0]
        if np.array_equal(nearest, before):
            break
        before = nearest
        # summed on the CPU, one after the other: a GPU's order of adding varies, and with it the last bits
        sums = torch.zeros(centroids.shape).index_add_(0, torch.from_numpy(nearest), torch.from_numpy(vectors)).numpy()
        empty = np.flatnonzero(np.bincount(nearest, minlength=cells) == 0)
        sums[empty] = vectors[np.argsort(cosines[:, 0], kind="stable")[: len(empty)]]
        centroids = unit(sums)
    return centroids


def train_fast(vectors: Vectors, cells: int, seed: int = 0, rounds: int = 20) -> Vectors:
    """As `train`, by FAISS where that is installed and no GPU is here: on CPUs it takes less time."""
    cells = min(cells, len(vectors))
    if device().type == "cuda" or (faiss := _faiss()) is None:
        return train(vectors, cells, seed, rounds)
    options = {"niter": rounds, "seed": seed + 1, "spherical": True, "min_points_per_centroid": 1}
    # all of the vectors: the caller chose how many
    means = faiss.Kmeans(vectors.shape[1], cells, max_points_per_centroid=len(vectors), **options)
    means.train(np.ascontiguousarray(vectors))
    return unit(means.centroids)


def _faiss() -> Any:
    try:
        with openblas_kernels():
            import faiss
    except ImportError:
        return None
    return faiss


def assign(
    vectors: Vectors, centroids: Vectors, probes: int = 1
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The `probes` nearest centroids of each vector, nearest first, and the cosines: int32 and float32 [n, probes].

    vectors: float32 [n, dim]; centroids: float32 [cells, dim]; both of length one. On a GPU where there is one, in
    blocks whose cosines fit memory whatever n is.
    """
    probes = min(probes, len(centroids))
    target = device()
    means = torch.from_numpy(centroids).to(target)
    cells = np.empty((len(vectors), probes), np.int32)
    cosines = np.empty((len(vectors), probes), np.float32)
    rows = max(1, _BLOCK // len(centroids))
    for start in range(0, len(vectors), rows):
        block = slice(start, start + rows)
        best = torch.topk(products(torch.from_numpy(vectors[block]).to(target), means), probes)
        cells[block], cosines[block] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return cells, cosines


def device() -> torch.device:
    """The device for products of many vectors."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def cores_for(items: int) -> Iterator[None]:
    """In threads of this process that start meanwhile, a product uses one core if there are at least as many items as
    cores, and all cores otherwise. The threads of one product wait for each other actively, and keep their cores from
    other items."""
    before = torch.get_num_threads()
    if items >= before:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unit(vectors: Vectors) -> Vectors:
    """The vectors divided by their lengths, float32; zeros stay zeros."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
