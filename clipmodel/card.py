"""What a dataset records of the model that made it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from .config import CLIPConfig, Decoding, Precision
from .flops import Flops
from .inference import check_precision
from .preprocess import Preprocess
from .tokenizer import Tokenizer
from .vocabulary import PieceTokenizer, VocabularyFile


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
    """The `seams.Card` of our own towers."""

    variant: str
    weights: str
    weights_sha256: str
    config: CLIPConfig
    vocabulary: VocabularyFile | None = None  # None for CLIP's, which is ours; and with random weights
    sigmoid: Sigmoid | None = None

    @property
    def embed_dim(self) -> int:
        return self.config.embed_dim

    @property
    def context_length(self) -> int:
        return self.config.text.context_length

    @property
    def flops(self) -> Flops:
        return Flops.of(self.config)

    def words(self) -> tuple[str, str, str]:
        return self.variant, self.config.preprocess.describe(self.config.vision.image_size), self._text()

    def _text(self) -> str:
        text = self.config.text
        if text.vocabulary == "clip":
            return f"first {text.context_length} tokens of a vocabulary of {text.vocab_size}"
        file = self.vocabulary.sha256[:16] if self.vocabulary else "none"
        return (
            f"first {text.context_length} tokens of {text.vocabulary}'s vocabulary of {text.vocab_size}, sha256 {file}"
        )

    def images(self, decoding: Decoding = "exact", turn: bool = False) -> Preprocess:
        return Preprocess(self.config.vision.image_size, self.config.preprocess, decoding, turn)

    def texts(self) -> Tokenizer | PieceTokenizer:
        text = self.config.text
        if text.vocabulary == "clip":
            return Tokenizer(text.vocab_size, text.context_length)
        return PieceTokenizer(text, self.vocabulary)

    def tokens(self) -> Hashable:
        text = self.config.text
        return text.vocabulary, text.vocab_size, text.context_length, text.pooling, self.vocabulary

    def check_precision(self, precision: Precision) -> None:
        check_precision(precision, self.config)

    def as_json(self) -> dict[str, Any]:
        """Without the tokenizer, of which the hash is enough."""
        values = asdict(self)
        del values["vocabulary"], values["sigmoid"]
        if self.vocabulary:
            values["vocabulary"] = {"file": self.vocabulary.name, "sha256": self.vocabulary.sha256}
        if self.sigmoid:
            values["sigmoid"] = asdict(self.sigmoid)
        return values
