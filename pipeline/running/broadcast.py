"""Weights on their way from the driver to machines that lack them: through Ray's object store, once a machine.

Machines that have a piece already pass it on to others, so a thousand of them load neither the driver's network nor a
hub's. Nothing is sent where all workers are on the driver's machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from ..embedding.model_files import ModelFiles
from ..embedding.settings import DatasetSettings
from ..errors import InfrastructureError, one_line
from .cluster import has_other_machines

_PIECE = 64 << 20  # bytes


@dataclass(frozen=True)
class Broadcast:
    """`model_files.Copies`. Picklable, and small."""

    pieces: Mapping[str, list[Any]]  # references, by the file's name
    size: int  # bytes of each piece but the last

    @property
    def names(self) -> list[str]:
        return list(self.pieces)

    def write(self, name: str, path: Path) -> None:
        """InfrastructureError where the driver, and all who had a piece, are gone."""
        pieces = self.pieces[name]
        with path.open("wb") as file:
            for number in random.sample(range(len(pieces)), len(pieces)):  # so that machines have different ones
                try:
                    data = ray.get(pieces[number])
                except RayError as error:
                    raise InfrastructureError(f"{name} did not come from the driver: {one_line(error)}") from error
                file.seek(number * self.size)
                file.write(data)


def with_weights(settings: DatasetSettings, is_growing: bool) -> DatasetSettings:
    """The same, with the weights in the cluster's object store where workers may be on other machines. is_growing:
    machines are asked for that are not here yet."""
    if not (is_growing or has_other_machines()):
        return settings
    models = tuple((_sent(files), card) for files, card in settings.models)
    return replace(settings, models=models)


def _sent(files: ModelFiles) -> ModelFiles:
    try:
        return replace(files, copies=Broadcast({path.name: _pieces(path) for path in files.needed}, _PIECE))
    except RayError as error:
        raise InfrastructureError(
            f"{files.spec}: the weights cannot be sent to the workers: {one_line(error)}; start Ray with a larger "
            "--object-store-memory on the driver's machine"
        ) from error


def _pieces(path: Path) -> list[Any]:
    references = []
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            references.append(ray.put(piece))
    return references
