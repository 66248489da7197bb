"""The commands by name. A command lies in a file of its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def command_of(name: str) -> Callable[..., None]:
    """A step's command as a function of its job: it runs the step and shows the result."""
    command: Callable[..., None] = getattr(import_module(f".{name}", __package__), name)
    return command
