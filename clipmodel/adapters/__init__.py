"""Models of other libraries, as those libraries load and run them: `hf:` is transformers, `open_clip:` is open_clip.

No code that lies beside weights is run. The libraries are extras, imported when a model of theirs is named.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ModelError, one_line

if TYPE_CHECKING:  # which import this
    from ..download import Progress
    from ..resolve import Resolved
    from ..spec import ModelSpec
    from .card import Adapted
    from .images import Processor

_MODULES = {"hf": ("hugging_face", "transformers"), "open_clip": ("open_clip", "open_clip")}


class Adapter(Protocol):
    """What a module for a library has."""

    def resolve(self, spec: ModelSpec, progress: Progress | None) -> Resolved:
        """As `resolve.resolve`."""
        ...

    def read(self, resolved: Resolved, device: Any) -> Adapted:
        """As `weights.read`."""
        ...

    def processor(self, folder: Path) -> Processor:
        """The image processor whose files lie in that folder."""
        ...


def adapter(library: str) -> Adapter:
    """ModelError where the library is not installed."""
    module, package = _MODULES[library]
    try:
        importlib.import_module(package)
    except Exception as error:  # a torchvision of another torch raises what it likes
        raise ModelError(
            f"{library}: models are loaded by {package}, which cannot be imported ({one_line(error)[:200]}): "
            f"pip install 'clipmill[{library}]'"
        ) from error
    found: Adapter = importlib.import_module(f"{__name__}.{module}")
    return found
