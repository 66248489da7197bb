"""Tokens a second on captions from the web, on one core, against the reference's tokenizer.

Cold: new tokenizers, to which every word is new. Warm: the same captions once more. Every id must be the reference's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import benchkit
from benchkit import Row, expect

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))  # for `reference`, which the tests share

import reference
from clipmill.clipmodel.tokenizer import TokenIds, Tokenizer

DATA = Path(__file__).parent.parent / "data"
BATCH = 256  # texts a call of ours; the reference takes one at a time
ROUNDS = 15

Encode = Callable[[Sequence[str]], Sequence[Sequence[int] | TokenIds]]  # without [SOS] and [EOS]


def measure(quick: bool) -> list[Row]:
    return [row for kind in ("random", "hard") for row in _rows(kind, quick)]


def _rows(kind: str, quick: bool) -> list[Row]:
    lines = (DATA / f"captions_{kind}.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line) for line in lines if line][: 100 if quick else None]
    same = [list(ids) for ids in ours()(texts)] == [list(ids) for ids in theirs()(texts)]
    expect(same, f"the ids of the {kind} captions differ from the reference's")
    warm: dict[str, list[float]] = {"ours": [], "reference": []}

    def cold(name: str, maker: Callable[[], Encode]) -> float:
        encode = maker()  # reading the merge table is not timed
        first = rate(encode, texts)
        warm[name].append(rate(encode, texts))
        return first

    turns = {"ours": partial(cold, "ours", ours), "reference": partial(cold, "reference", theirs)}
    rates = benchkit.in_turn(turns, 2 if quick else ROUNDS)
    return [
        benchkit.compared(f"tokenizer, {kind} captions, {state}", "tokens/s", found)
        for state, found in (("cold", rates), ("warm", warm))
    ]


def ours() -> Encode:
    tokenizer = Tokenizer()

    def encode(texts: Sequence[str]) -> list[TokenIds]:
        batches = [tokenizer.encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return [ids[1:-1] for batch in batches for ids in batch]

    return encode


def theirs() -> Encode:
    tokenizer = reference.tokenizer()
    return lambda texts: [tokenizer.encode(text) for text in texts]


def rate(encode: Encode, texts: Sequence[str]) -> float:
    started = time.process_time()
    rows = encode(texts)
    return sum(map(len, rows)) / (time.process_time() - started)


if __name__ == "__main__":
    benchkit.main(measure)
