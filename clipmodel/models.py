"""Models by name: our own (`weights.py`), and other libraries' (`adapters/`).

The same two steps for all: `resolve` finds the files, `read` makes a model of them. `load` is both; `describe` is what
a driver needs of the second step.
"""

from __future__ import annotations

import torch

from . import weights
from .adapters import adapter
from .adapters.card import Adapted
from .download import Progress
from .resolve import Resolved
from .seams import Card
from .spec import parse_spec
from .weights import Loaded

AnyModel = Loaded | Adapted


def resolve(spec: str, *, progress: Progress | None = None) -> Resolved:
    """As `resolve.resolve`. ModelError where the library of another's model is not installed."""
    parsed = parse_spec(spec)
    if parsed.library:
        return adapter(parsed.library).resolve(parsed, progress)
    return weights.resolve(parsed, progress=progress)


def read(resolved: Resolved, *, device: str | torch.device = "cpu") -> AnyModel:
    """The model in float32, ready to encode, and what makes its inputs; never uses the network for our own."""
    if resolved.library:
        return adapter(resolved.library).read(resolved, device)
    return weights.read(resolved, device=device)


def describe(resolved: Resolved) -> Card:
    """The card that `read` would give. Of our own models tensors' names and shapes are read, others are loaded."""
    if resolved.library:
        return adapter(resolved.library).read(resolved, "cpu").card
    return weights.describe(resolved)


def load(
    spec: str | Resolved,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> AnyModel:
    """A model, its tokenizer, its preprocessing and its card, of a spec as in `parse_spec`. dtype: of our own models'
    weights; others stay in float32. ModelError, one line that says what to do, for every fault of the spec or files."""
    resolved = spec if isinstance(spec, Resolved) else resolve(spec, progress=progress)
    return read(resolved, device=device) if resolved.library else weights.read(resolved, device=device, dtype=dtype)
