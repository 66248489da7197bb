"""How many times the reference's tokens a second the tokenizer makes, on real captions.

Both run on one core, alternating, in one process. Cold: new tokenizers, to which every word is new. Warm: the same
captions once more. Exits with 1 if any id differs, or if cold is below `--at-least`; other figures are not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "clipmodel"))  # for `reference`, which the tests share

import reference
import torch
from clipmill.clipmodel.tokenizer import TokenIds, Tokenizer

DATA = Path(__file__).parent.parent / "data"
BATCH = 256  # texts a call of ours; the reference takes one at a time

Encode = Callable[[Sequence[str]], Sequence[Sequence[int] | TokenIds]]  # without [SOS] and [EOS]


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
    """Tokens a second."""
    started = time.perf_counter()
    rows = encode(texts)
    return sum(map(len, rows)) / (time.perf_counter() - started)


def measure(texts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Medians of tokens a second; and of the ratios of neighbouring runs, which a busy machine moves least."""
    makers = {"ours": ours, "reference": theirs}
    rates: dict[tuple[str, str], list[float]] = {}
    for maker in makers.values():  # what a process does once
        maker()(texts[:1])
    for _ in range(repeats):
        for name, maker in makers.items():
            encode = maker()  # reading the merge table is not timed
            for state in ("cold", "warm"):
                rates.setdefault((name, state), []).append(rate(encode, texts))
    figures: dict[str, Any] = {f"{name}_{state}": statistics.median(found) for (name, state), found in rates.items()}
    for state in ("cold", "warm"):
        pairs = zip(rates["ours", state], rates["reference", state], strict=True)
        figures[state] = statistics.median(mine / other for mine, other in pairs)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", default="random", choices=["random", "hard"], help="which of tests/data")
    parser.add_argument("--times", type=int, default=1, help="the captions this many times over")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--at-least", type=float, default=5.0, help="the cold ratio that is expected")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()

    lines = (DATA / f"captions_{options.captions}.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line) for line in lines if line] * options.times
    print(f"on CPU, 1 of {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}")
    if [list(ids) for ids in ours()(texts)] != [list(ids) for ids in theirs()(texts)]:
        print("tokenizer: the ids differ from the reference's", file=sys.stderr)
        return 1
    figures = measure(texts, options.repeats)
    print(f"tokenizer: cold {figures['cold']:.1f}× warm {figures['warm']:.1f}× the reference")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(figures["cold"] < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
