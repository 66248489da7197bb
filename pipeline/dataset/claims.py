"""Several runs into one output share its shards: each claims blocks of them before it gives them to its workers.

A claim is a file that only one run can create. It saves work and is not what makes runs exact: two runs with the same
shard are safe. A block is of the shards whose hashes begin alike: there are 4,096, so a million shards cost no more
claims than that, and it does not matter which shards a run knows of. A claim stays until the last run has ended; whose
run died, or gave shards up, is claimed anew by a file whose name names the claim before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..errors import ClipmillError
from ..records import Shard
from .layout import OWN
from .lock import Patience
from .output import Output
from .runs import Holder, Runs, renewed

CLAIMS = f"{OWN}/claims"
_DIGITS = 3  # of a shard's hash, hexadecimal
_AT_ONCE = 16  # blocks claimed
_SHARE = 10  # times as long as a look took pass before the next
_OTHERS_DIGITS = 8  # of a run's name, in the name of the claim after its


@dataclass
class _Block:
    shards: list[Shard]
    name: str  # of the claim to make next
    owner: str = ""  # the run that has it, where another one does


class Claims:
    """One run's claims, among those of the others."""

    def __init__(self, output: Output, runs: Runs, look: float) -> None:
        self._output, self._runs, self._look = output, runs, look
        self._free: dict[str, _Block] = {}
        self._mine: dict[str, set[str]] = {}  # block -> its shards that are not done
        self._others: dict[str, _Block] = {}
        self._elsewhere: list[Shard] = []  # done by other runs, and not told yet
        self._left = 0  # shards of blocks that are free, or others'
        self._replaced: frozenset[str] = frozenset()
        self._next_look = 0.0

    def plan(self, shards: Sequence[Shard], committed: Collection[str] = ()) -> None:
        """The shards that this run is to embed. Where others are at work it begins anywhere among them, as they do.
        committed: parts that are there; of a shard that is to be embedded again, that says nothing."""
        self._replaced = frozenset(shard.part_name for shard in shards if shard.part_name in committed)
        blocks: dict[str, list[Shard]] = {}
        for shard in shards:
            blocks.setdefault(shard.digest[:_DIGITS], []).append(shard)
        names = list(blocks)
        start = random.randrange(len(names)) if names and self.others else 0
        self._left = len(shards)
        self._free = {name: _Block(blocks[name], name) for name in names[start:] + names[:start]}

    @property
    def others(self) -> list[Holder]:
        """The other runs that are at work."""
        return self._runs.alive()

    def wait(self, stop: Callable[[], bool]) -> Iterator[Holder]:
        """Let the others end first; each look gives one that is still at work. For runs that replace parts."""
        self._runs.waits = True
        self._runs.beat()
        self._runs.look()
        while (ahead := self._runs.ahead()) and not stop():
            yield ahead[0]
            time.sleep(self._look)
        self._runs.waits = False
        self._runs.beat()

    @property
    def left(self) -> int:
        """Shards that this run may still have to embed, besides those it has in hand."""
        return self._left

    @property
    def waits(self) -> bool:
        """Whether other runs have what is left."""
        return bool(self._others) and not self._free

    def take(self, wanted: int = 1) -> list[Shard]:
        """The shards of the next blocks, so many at least; fewer where other runs have what is left."""
        if not self._free:
            self._look_again()
        taken: list[Shard] = []
        while self._free and len(taken) < wanted:
            taken += self._claim_some(wanted - len(taken))
        return taken

    def _claim_some(self, wanted: int) -> list[Shard]:
        """Claim about so many shards, several blocks at a time: each takes a request, and may have one shard."""
        blocks: dict[str, _Block] = {}
        while self._free and len(blocks) < _AT_ONCE and sum(len(block.shards) for block in blocks.values()) < wanted:
            name = next(iter(self._free))
            blocks[name] = self._free.pop(name)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="claims") as pool:
            claimed = list(pool.map(self._claim, blocks.values()))
        taken: list[Shard] = []
        for (name, block), is_mine in zip(blocks.items(), claimed, strict=True):
            if is_mine:
                self._left -= len(block.shards)
                self._mine[name] = {shard.url for shard in block.shards}
                taken += block.shards
            else:
                self._others[name] = block
        return taken

    def done(self, shard: Shard) -> None:
        """This run has embedded a shard, or given it up."""
        name = shard.digest[:_DIGITS]
        left = self._mine.get(name, set())
        left.discard(shard.url)
        if not left and self._mine.pop(name, None) is not None:
            self._runs.close(name)

    def elsewhere(self) -> list[Shard]:
        """The shards that were planned here and are done by other runs; each is told once."""
        told, self._elsewhere = self._elsewhere, []
        return told

    def give_up(self) -> None:
        """Claim no more."""
        self._free, self._others, self._left = {}, {}, 0

    def _claim(self, block: _Block) -> bool:
        """Whether the block is this run's now. Else its owner is noted."""
        name = f"{CLAIMS}/{block.name}"
        if self._output.write_new(name, self._runs.me.encode()):
            return True
        block.owner = (self._output.read(name) or b"").decode(errors="replace")
        return block.owner == self._runs.me  # an answer got lost

    def _look_again(self) -> None:
        """What others have done is told, and what they have in hand no longer is free again. Listing a large output
        takes a while: then there are fewer looks."""
        began = time.monotonic()
        if not self._others or began < self._next_look:
            return
        in_hand = {name for name, block in self._others.items() if self._runs.has_in_hand(block.owner, name)}
        parts = self._output.parts() - self._replaced  # afterwards: whoever closed a block had committed its parts
        for name, block in list(self._others.items()):
            left = [shard for shard in block.shards if shard.part_name not in parts]
            self._elsewhere += [shard for shard in block.shards if shard.part_name in parts]
            self._left -= len(block.shards) - len(left)
            block.shards = left
            if not left or name not in in_hand:
                del self._others[name]
            if left and name not in in_hand:
                self._free[name] = _Block(left, f"{block.name}.{block.owner[:_OTHERS_DIGITS]}")
        now = time.monotonic()
        self._next_look = now + max(self._look, _SHARE * (now - began))


@contextmanager
def shared(output: Output, patience: Patience = Patience()) -> Iterator[Claims]:  # frozen
    """Be one of the runs that are at work in an output. What runs left that ended or died is deleted by the next run
    that is alone."""
    runs, left = Runs(output, patience), _claims_in(output)
    runs.beat()
    runs.look()
    if not runs.alive():
        runs.forget(left)
    try:
        with renewed(runs, patience.renew):
            yield Claims(output, runs, patience.look)
    finally:
        with suppress(ClipmillError, OSError):  # it expires, too
            _leave(output, runs)


def _leave(output: Output, runs: Runs) -> None:
    """The last one puts the lights out. A run that begins at this moment has its file there before its claims."""
    claims = _claims_in(output)
    runs.look()
    if runs.alive():
        runs.beat(ended=True)
        runs.look()
    if not runs.alive():
        runs.forget([*claims, runs.own_file])


def _claims_in(output: Output) -> list[str]:
    return [f"{CLAIMS}/{name}" for name in output.names(CLAIMS)]
