"""Which images a report compares with each other, and what it has found among them: the next report that would compare
the same ones finds it in `.clipmill/report/`, a cache."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from ..dataset.dataset import Dataset
from ..dataset.layout import REPORT
from ..dataset.output import Output
from ..dataset.subset import Subset, rows_digest
from ..errors import ClipmillError
from ..package import __version__
from .shown_rows import Place

_PARTS = 64  # that a sample is from, at most


@dataclass(frozen=True)
class Kept:
    """looked_at: how many of the sample's parts. compared: how many images. largest: the largest groups' sizes, and
    some rows of each with their cosines with the first."""

    looked_at: int
    compared: int
    groups: int
    rows: int
    largest: tuple[tuple[int, tuple[tuple[Place, float | None], ...]], ...]


@dataclass(frozen=True)
class Sample:
    """parts: names, and what changes when their images do, in an order that new parts do not change; as many of them
    are looked at as it takes. images: that are wanted. of_a_part: of each, at most."""

    name: str
    parts: tuple[tuple[str, str], ...]
    images: int
    of_a_part: int

    @classmethod
    def of(cls, dataset: Dataset, within: Subset | None, column: str, images: int, of_a_part: int) -> Sample:
        facts = (__version__, column, within.output.url if within else None)
        stamps = dict(zip(dataset.parts, map(str, dataset.stamps), strict=True))
        chosen = sorted(dataset.parts, key=lambda part: hashlib.sha256(part.encode()).digest())[:_PARTS]
        if within is not None:
            inside = set(within.parts)
            stamps |= {part: f"{stamps[part]} {rows_digest(within, part)}" for part in chosen if part in inside}
        name = f"alike-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
        return cls(name, tuple((part, stamps[part]) for part in chosen), images, of_a_part)

    def recalled(self, output: Output) -> Kept | None:
        """What an earlier report has found among the same images."""
        with suppress(ClipmillError, OSError, ValueError, KeyError, TypeError):
            told = json.loads(output.read(f"{REPORT}/{self.name}") or b"null")
            largest = tuple(
                (size, tuple(((shard, row), figure) for (shard, row), figure in rows))
                for size, rows in told["kept"].pop("largest")
            )
            kept = Kept(**told["kept"], largest=largest)
            is_whole = kept.compared == self.images or kept.looked_at == len(self.parts)
            if is_whole and told["sample"] == self._facts(kept):
                return kept
        return None

    def keep(self, output: Output, kept: Kept) -> None:
        """For the next report, where it can be written."""
        content = json.dumps({"sample": self._facts(kept), "kept": asdict(kept)})
        with suppress(ClipmillError, OSError):
            output.write(f"{REPORT}/{self.name}", content.encode())

    def looked_at(self, last: str | None, images: int) -> int:
        """How many of the parts were looked at. last: of those that had images; images: how many these were."""
        if images < self.images:
            return len(self.parts)
        return [part for part, _ in self.parts].index(str(last)) + 1

    def _facts(self, kept: Kept) -> list[object]:
        return [self.images, self.of_a_part, [list(part) for part in self.parts[: kept.looked_at]]]
