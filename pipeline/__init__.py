"""What happens to one shard, and how many shards are spread over a cluster.

The functions behind the commands are here by name, with their jobs and results: `from clipmill.pipeline import embed,
EmbedJob`. They are imported at first use, since Ray and torch take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .steps import STEPS

# No module in this folder is called as a function here: importing one makes it the package's attribute of that name.
_HOMES = {
    "Dataset": "dataset.dataset",
    "Encoder": "embedding.ray_data",
    "Status": "dataset.summary",
    "Summary": "dataset.summary",
    "status": "dataset.summary",
}
for _step in STEPS:
    _HOMES[_step.job_name] = f"job.{_step.name}"
    if _step.home.startswith("pipeline."):
        _HOMES.update(dict.fromkeys((_step.name, *_step.results), _step.home.removeprefix("pipeline.")))

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
