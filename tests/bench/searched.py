"""What the benchmarks of search and of the page begin with: a dataset of embeddings alone, and actions on the page."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchkit import Row, Spread
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.web.site import Site
from clipmill.pipeline.dataset.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from made import make_dataset
from made import unit_vectors as unit_vectors

Action = Callable[[int], Any]  # its number makes each one new


@dataclass(frozen=True)
class Parts(Sequence[Any]):
    """Made when they are asked for: all together fill the memory."""

    number: int
    columns_of: Callable[[int], dict[str, Any]]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: Any) -> dict[str, Any]:
        if number >= self.number:
            raise IndexError
        return self.columns_of(number)


@contextmanager
def dataset_of(parts: Parts, loaded: Loaded, row_group: int = 1 << 20) -> Iterator[tuple[Path, Dataset]]:
    """A folder of one's own with the dataset in it; the searchable copies go there, too."""
    card = loaded.card
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMILL_CACHE"] = f"{folder}/cache"
        yield (
            Path(folder),
            make_dataset(
                Path(folder) / "in",
                parts,
                dim=card.config.embed_dim,
                embeds="images",
                models=(("", card.variant),),
                weights_sha256=card.weights_sha256,
                row_group=row_group,
            ),
        )


def actions(site: Site, asked: Mapping[str, Action], rounds: int, rest: float = 0.0) -> Iterator[Row]:
    """How long each takes, the first time left out. rest: seconds before each, as people rest."""
    for name, ask in asked.items():
        times = []
        for number in range(rounds + 1):
            time.sleep(rest)
            times.append(seconds(lambda ask=ask, number=number: ask(number)))  # type: ignore[misc]
        yield Row(f"the page: {name}, {site.rows.rows:,} rows", "s", Spread.of(times[1:]))


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
