"""The CLIP model, tensors in and tensors out: architectures, weights, tokenizer, preprocessing, training.

    from clipmill.clipmodel import load

    loaded = load("ViT-B/32")  # or NAME=TAG, NAME=PATH, NAME=random:SEED, PATH, hf:REPO, open_clip:NAME=TAG
    features = loaded.model.encode_text(loaded.tokenizer(["a photo of a cat"]))

Knows nothing of Ray, Parquet or object storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load` when it is asked for: the error tree and the table of variants are read without PyTorch."""
    if name == "load":
        from .models import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
