"""Which workers and machines are trusted, told by what fails on them and does not fail elsewhere. Pure.

One machine with a broken GPU, disk or network takes shards faster than the good ones do, since it fails at once: left
alone, it would use up the attempts of everybody's shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

STRIKES = 2  # failures without a success between them: of a worker, and of workers of a machine,
FEW = 2  # machines that do well, beside one that never has
PROVEN_STRIKES = 4  # or of one that has done shards before: processes die for other reasons, too


@dataclass
class _Record:
    """Of a worker or a machine, since its last success."""

    failures: int = 0  # that brought a shard which had not failed there before: one bad shard proves nothing
    shards: set[str] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)

    def failed(self, shards: Collection[str], reason: str) -> None:
        if not shards or not self.shards.issuperset(shards):
            self.failures += 1
        self.shards.update(shards)
        self.reasons[reason] += 1


class Judge:
    """Machines are judged against one another: where most of them fail, storage or the job is to blame."""

    def __init__(self) -> None:
        self._workers: dict[Hashable, _Record] = {}
        self._machines: dict[str, _Record] = {}  # of those that have tried anything; failures are of whole workers
        self._successes: Counter[str] = Counter()
        self._proven: set[Hashable] = set()  # workers whose last shard was done
        self.left_out: dict[str, str] = {}  # machines that get no more workers, and why

    def succeeded(self, worker: Hashable, machine: str) -> None:
        """It has done a shard."""
        self._workers.pop(worker, None)
        self._proven.add(worker)
        self._machines[machine] = _Record()
        self._successes[machine] += 1

    def may_try_again(self, worker: Hashable, workers: Iterable[Hashable]) -> bool:
        """Whether it may try what has failed elsewhere. workers: all of them.

        Those may whose last shard was done; before there is one, those that have not failed; where all have, all. Who
        fails at once asks for shards most often, and would else get what others have failed, too.
        """
        if self._proven:
            return worker in self._proven
        return worker not in self._workers or all(other in self._workers for other in workers)

    def failed(self, worker: Hashable, machine: str, shard: str, reason: str) -> bool:
        """It could not do a shard. Whether it should be replaced."""
        self._proven.discard(worker)
        record = self._workers.setdefault(worker, _Record())
        record.failed([shard], reason)
        return record.failures >= STRIKES

    def gone(self, worker: Hashable, machine: str, shards: Collection[str], reason: str) -> str | None:
        """It did not start, died, hung with these shards in hand, or is replaced. The reason why its machine is left
        out from now on, if it is."""
        record = self._workers.pop(worker, _Record())
        self._proven.discard(worker)
        reasons = record.reasons or Counter([reason])
        its_machine = self._machines.setdefault(machine, _Record())
        its_machine.failed({*shards, *record.shards}, reasons.most_common(1)[0][0])
        if machine in self.left_out or not machine:
            return None
        strikes = PROVEN_STRIKES if self._successes[machine] else STRIKES
        if its_machine.failures < strikes or not self._others_fare_better(machine):
            return None
        why = f"{its_machine.failures} workers in a row: {its_machine.reasons.most_common(1)[0][0]}"
        self.left_out[machine] = why
        return why

    def _others_fare_better(self, machine: str) -> bool:
        """Most of the others; where it has never done a shard, a few: storage would not fail there alone."""
        others = [name for name in self._machines if name != machine and name not in self.left_out]
        good = sum(self._machines[name].failures == 0 and self._successes[name] > 0 for name in others)
        return good * 2 > len(others) or (good >= FEW and not self._successes[machine])
