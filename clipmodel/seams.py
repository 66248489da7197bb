"""What the rest of clipmill needs of a model, of our own towers or of another library's (`adapters/`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .config import Decoding, Precision
from .flops import Flops

TokenIds = npt.NDArray[np.int32]


class ImageInput(Protocol):
    """Encoded images -> what the image tower takes. Picklable, and hashable."""

    def with_size(self, image: bytes) -> tuple[npt.NDArray[Any], tuple[int, int]]:
        """An array of one shape and type for all images, and the image's own (width, height). ImageError when there is
        no image in those bytes."""
        ...


class TextInput(Protocol):
    """Captions -> token ids. Picklable."""

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text, int32 [length], not truncated."""
        ...

    def truncate(self, ids: TokenIds) -> TokenIds:
        """Of what `encode` gives, what the text tower takes."""
        ...


class Towers(Protocol):
    """A model, ready to encode."""

    padding: int  # the id that fills up shorter captions of a batch

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of the inverse temperature."""
        ...

    @property
    def embed_dim(self) -> int: ...

    def encode_text(self, text: Tensor) -> Tensor:
        """int64 [n, length] -> features [n, embed_dim], not L2-normalised."""
        ...


class Card(Protocol):
    """A dataset's record of a model that made it, and how samples are made ready for that model. Picklable."""

    @property
    def variant(self) -> str: ...

    @property
    def weights(self) -> str:
        """In public words: a tag and its repository, or a file's name."""
        ...

    @property
    def weights_sha256(self) -> str: ...

    @property
    def embed_dim(self) -> int: ...

    @property
    def context_length(self) -> int:
        """Tokens of a caption that are read, at most."""
        ...

    @property
    def flops(self) -> Flops: ...

    def words(self) -> tuple[str, str, str]:
        """For the fingerprint, all that embeddings depend on besides the weights: model, preprocessing, text."""
        ...

    def images(self, decoding: Decoding = "exact", turn: bool = False) -> ImageInput:
        """As `Preprocess`, whose fields these are."""
        ...

    def texts(self) -> TextInput: ...

    def tokens(self) -> Hashable:
        """All that a model's tokens depend on."""
        ...

    def check_precision(self, precision: Precision) -> None:
        """ModelError where the model has nothing of what that precision is about."""
        ...

    def as_json(self) -> dict[str, Any]:
        """For files."""
        ...
