"""What machines cost: one price a worker, or one a machine by its kind. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UserError

HEAD = "head"  # the machine of Ray's own processes, where no work is

Names = Sequence[str]  # that a machine goes by, the most particular first: its group, its kind of GPU, gpu or cpu


@dataclass(frozen=True)
class Prices:
    """An hour's, in any currency."""

    worker: float | None = None
    machines: Mapping[str, float] = field(default_factory=dict)  # by a name in small letters

    @classmethod
    def of(cls, given: float | Sequence[str] | None) -> Prices:
        """given: a worker's price, or `PRICE` alone, or `KIND=PRICE` each. UserError for anything else."""
        if given is None:
            return cls()
        if isinstance(given, (int, float)):
            return cls(worker=_price(str(given), given))
        machines: dict[str, float] = {}
        for text in given:
            kind, equals, price = text.rpartition("=")
            if not equals:
                if len(given) > 1:
                    raise UserError(f"--price-per-hour {text}: name one price of a worker, or KIND=PRICE each time")
                return cls(worker=_price(text, text))
            if not kind or kind.lower() in machines:
                raise UserError(f"--price-per-hour {text}: {'names no kind' if not kind else 'that kind has a price'}")
            machines[kind.lower()] = _price(text, price)
        return cls(machines=machines)

    def __bool__(self) -> bool:
        return self.worker is not None or bool(self.machines)

    def an_hour(self, machines: Iterable[Names], workers: int) -> float:
        """Of all machines, or all workers."""
        if self.worker is not None:
            return self.worker * workers
        return sum(self._of(names) or 0.0 for names in machines)

    def missing(self, machines: Iterable[Names]) -> list[str]:
        """Kinds of machines without a price, which count as free."""
        if not self.machines:
            return []
        return sorted({names[0] for names in machines if names[0] != HEAD and self._of(names) is None})

    def _of(self, names: Names) -> float | None:
        return next((self.machines[name.lower()] for name in names if name.lower() in self.machines), None)


def _price(text: str, price: str | float) -> float:
    try:
        value = float(price)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"--price-per-hour {text}: must be a number, and not negative; alone, or as KIND=PRICE")
    return value
