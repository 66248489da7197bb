"""A model of another library, loaded, and what a dataset records of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..card import Sigmoid
from ..config import Decoding, Precision
from ..errors import ModelError
from ..flops import Flops
from ..preprocess import Preprocess
from .images import ProcessedImages
from .model import AdaptedModel
from .texts import HuggingFaceTexts

Images = Preprocess | ProcessedImages
Texts = HuggingFaceTexts


@dataclass(frozen=True)
class AdaptedCard:
    """The `seams.Card` of another library's model."""

    variant: str  # with the library before it, as in hf:CLIPModel
    weights: str
    weights_sha256: str
    library: str
    version: str  # the library's
    embed_dim: int
    context_length: int
    flops: Flops
    image_input: Images
    text_input: Texts
    sigmoid: Sigmoid | None = None

    def words(self) -> tuple[str, str, str]:
        return f"{self.variant} by {self.library} {self.version}", self._preprocessing(), self.text_input.describe()

    def _preprocessing(self) -> str:
        own = self.image_input
        return own.config.describe(own.size) if isinstance(own, Preprocess) else own.describe()

    def images(self, decoding: Decoding = "exact", turn: bool = False) -> Images:
        return replace(self.image_input, decoding=decoding, turn=turn)

    def texts(self) -> Texts:
        return self.text_input

    def tokens(self) -> Hashable:
        return self.text_input

    def check_precision(self, precision: Precision) -> None:
        if precision == "fp8":
            raise ModelError(f"--precision fp8 is for our own VisionTransformers, and {self.variant} is not: use bf16")

    def as_json(self) -> dict[str, Any]:
        """Without the tokenizer and the processor, of which the words are enough."""
        _, preprocessing, text = self.words()
        return {
            "variant": self.variant,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "library": self.library,
            "version": self.version,
            "config": {"embed_dim": self.embed_dim, "context_length": self.context_length},
            "preprocessing": preprocessing,
            "text": text,
            **({"sigmoid": asdict(self.sigmoid)} if self.sigmoid else {}),
        }


@dataclass(frozen=True)
class Adapted:
    """As `weights.Loaded`."""

    model: AdaptedModel
    tokenizer: Texts
    preprocess: Images
    card: AdaptedCard
