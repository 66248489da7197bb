"""What all parts of a dataset have in common: made by the run, sent to every worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...clipmodel.seams import Card
from ..choices import Precision
from ..dataset.part import PartLayout
from .model_files import ModelFiles


@dataclass(frozen=True)
class DatasetSettings:
    """Picklable, and small."""

    models: tuple[tuple[ModelFiles, Card], ...]
    precision: Precision
    layout: PartLayout
    provenance: Mapping[str, str]  # goes into every part's footer
