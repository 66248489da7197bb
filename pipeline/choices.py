"""The few words and names that settings are made of. Light: the command line imports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..clipmodel.config import Decoding as Decoding
from ..clipmodel.config import Precision as Precision
from ..clipmodel.config import TrainingPrecision as TrainingPrecision

EmbeddingType = Literal["float16", "float32"]
Side = Literal["image", "text"]  # of a pair
Loss = Literal["softmax", "sigmoid"]  # of training
IndexKind = Literal["flat", "ivf", "ivfpq", "hnsw"]


@dataclass(frozen=True, slots=True)
class SampleKeys:
    """Names that the user gives for a sample's sides, in order of preference; the documented ones where empty.

    A name is an extension in tars and folders, a column in Parquet, a field of json; dots lead into what is nested.
    """

    image: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()


USUAL_KEYS = SampleKeys()
