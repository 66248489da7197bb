"""The models of a run: found before workers start, sent to them with what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...clipmodel.download import Progress
from ..choices import Precision
from ..dataset import footer
from ..dataset.part import PartLayout
from ..dataset.plan import Fingerprint
from ..job.embed import EmbedJob
from .start_up import Stopwatch

if TYPE_CHECKING:  # with torch, which takes a second: what is missing is refused before
    from ...clipmodel.seams import Card
    from ..embedding.model_files import ModelFiles
    from ..embedding.settings import DatasetSettings


@dataclass(frozen=True)
class RunModels:
    """The run's models by alias: their files, and their cards."""

    files: Mapping[str, ModelFiles]
    cards: Mapping[str, Card]

    @classmethod
    def find(cls, job: EmbedJob, on_download: Progress | None, watch: Stopwatch) -> RunModels:
        """Files are looked into here too, so that broken ones are refused before workers start."""
        with watch.stage("models"):
            from ...clipmodel.models import describe  # with torch, as above
            from ..embedding.model_files import find_model

            files = {model.alias: find_model(model.spec, job.storage_options, on_download) for model in job.models}
            return cls(files, {alias: describe(file.resolved) for alias, file in files.items()})

    @property
    def names(self) -> str:
        return ", ".join(f"{card.variant} ({card.weights})" for card in self.cards.values())

    def settings(self, precision: Precision, layout: PartLayout, fingerprint: Fingerprint) -> DatasetSettings:
        from ..embedding.settings import DatasetSettings  # with torch, as above

        provenance = footer.provenance(fingerprint.digest, self.cards, precision)
        models = tuple((files, self.cards[alias]) for alias, files in self.files.items())
        return DatasetSettings(models, precision, layout, provenance)
