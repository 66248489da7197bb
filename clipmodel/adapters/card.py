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
from .open_clip_texts import OpenClipTexts
from .texts import HuggingFaceTexts

Images = Preprocess | ProcessedImages
Texts = HuggingFaceTexts | OpenClipTexts


@dataclass(frozen=True)
class Origin:
    """Where a model comes from."""

    variant: str  # with the library before it, as in hf:CLIPModel
    weights: str
    weights_sha256: str
    library: str
    version: str  # the library's
    settings: str = ""  # a digest of the model's own, where neither its name nor its tensors tell them


@dataclass(frozen=True)
class AdaptedCard:
    """The `seams.Card` of another library's model."""

    origin: Origin
    embed_dim: int
    context_length: int
    flops: Flops
    image_input: Images
    text_input: Texts
    sigmoid: Sigmoid | None = None

    @property
    def variant(self) -> str:
        return self.origin.variant

    @property
    def weights(self) -> str:
        return self.origin.weights

    @property
    def weights_sha256(self) -> str:
        return self.origin.weights_sha256

    def words(self) -> tuple[str, str, str]:
        origin = self.origin
        settings = f", settings {origin.settings}" if origin.settings else ""
        model = f"{origin.variant} by {origin.library} {origin.version}{settings}"
        return model, self._preprocessing(), self.text_input.describe()

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
            **{name: value for name, value in asdict(self.origin).items() if value},
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
