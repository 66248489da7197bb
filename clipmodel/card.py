"""What a dataset records of the model that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from .config import CLIPConfig
from .vocabulary import VocabularyFile


@dataclass(frozen=True)
class Sigmoid:
    """Of a model with a sigmoid loss: the probability of a pair is sigmoid(scale * cosine + bias)."""

    scale: float
    bias: float

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Sigmoid | None:
        if "logit_bias" not in tensors or "logit_scale" not in tensors:
            return None
        return cls(math.exp(float(tensors["logit_scale"])), float(tensors["logit_bias"]))


@dataclass(frozen=True)
class ModelCard:
    """A dataset's record of the model that made it."""

    variant: str
    weights: str
    weights_sha256: str
    config: CLIPConfig
    vocabulary: VocabularyFile | None = None  # None for CLIP's, which is ours; and with random weights
    sigmoid: Sigmoid | None = None

    def as_json(self) -> dict[str, Any]:
        """For files: without the tokenizer, of which the hash is enough."""
        values = asdict(self)
        del values["vocabulary"], values["sigmoid"]
        if self.vocabulary:
            values["vocabulary"] = {"file": self.vocabulary.name, "sha256": self.vocabulary.sha256}
        if self.sigmoid:
            values["sigmoid"] = asdict(self.sigmoid)
        return values
