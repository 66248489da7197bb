"""The image towers and the text tower in float32, against the reference (of CLIP) and transformers with the same
weights.

The limit is a float32 matrix product measured in each round. Texts are of the context's length, 77 tokens or
SigLIP's 64: what cutting captions brings is in bench_pairs.py.
"""

from __future__ import annotations

import benchkit
from benchkit import Row
from clipmill.clipmodel.config import VARIANTS
from contenders import Where, shallow
from tower_rows import towers

IMAGES = {"RN50": 32, "ViT-B/32": 32, "ViT-B/16": 16, "ViT-L/14": 4, "ViT-B-16-SigLIP": 16}  # a batch
ROUNDS = 5


def measure(quick: bool) -> list[Row]:
    if quick:
        return towers("ViT-B/32", shallow(VARIANTS["ViT-B/32"]), 2, 1, Where())
    return [
        row for variant, size in IMAGES.items() for row in towers(variant, VARIANTS[variant], size, ROUNDS, Where())
    ]


if __name__ == "__main__":
    benchkit.main(measure)
