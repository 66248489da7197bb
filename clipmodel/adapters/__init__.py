"""Models of other libraries, as those libraries load and run them: `hf:` is transformers.

No code that lies beside weights is run. The libraries are extras, imported when a model of theirs is named.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from ..download import Progress
from ..errors import ModelError
from ..resolve import Resolved
from ..spec import ModelSpec
from .card import Adapted

_MODULES = {"hf": ("hugging_face", "transformers")}


class Adapter(Protocol):
    """What a module for a library has."""

    def resolve(self, spec: ModelSpec, progress: Progress | None) -> Resolved:
        """As `resolve.resolve`."""
        ...

    def read(self, resolved: Resolved, device: Any) -> Adapted:
        """As `weights.read`."""
        ...


def adapter(library: str) -> Adapter:
    """ModelError where the library is not installed."""
    module, package = _MODULES[library]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ModelError(
            f"{library}: models are loaded by {package}, which cannot be imported ({error}): "
            f"pip install 'clipmill[{library}]'"
        ) from error
    found: Adapter = importlib.import_module(f"{__name__}.{module}")
    return found
