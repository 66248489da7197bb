"""A library's own image processor: as our preprocessing where it computes the same pixels, else as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..config import Decoding, PreprocessConfig
from ..errors import ImageError, ModelError, one_line
from ..packed import PackedFiles
from ..pictures.limits import picture_bytes
from ..pictures.opening import opened
from ..pictures.orientation import turned
from ..preprocess import Preprocess, normalise
from . import adapter

_SIZES = ((331, 240), (240, 331), (97, 61), (500, 500))  # of the pictures by which processors are compared
_TOLERANCE = 1e-4  # of normalised pixels

Process = Callable[[Image.Image], npt.NDArray[Any]]  # a picture -> float [3, height, width]


class Processor(Protocol):
    """A library's image processor, as a `Process`."""

    def __call__(self, picture: Image.Image) -> npt.NDArray[Any]: ...

    @property
    def name(self) -> str:
        """For the fingerprint: its class, and what distinguishes its settings."""
        ...

    def config(self, size: int) -> PreprocessConfig | None:
        """Our own for images of that size, as far as its settings tell; None for what ours cannot do."""
        ...


def checked(process: Process, config: PreprocessConfig | None, size: int) -> Preprocess | None:
    """Our preprocessing with that configuration, if it makes the same pixels of pictures in RGB; else None."""
    if config is None:
        return None
    ours = Preprocess(size, config)
    for picture in _pictures():
        theirs = process(picture)
        if theirs.shape != (3, size, size):
            return None
        mine = normalise(_batch(ours(picture)), config)[0].numpy()
        if np.abs(mine - theirs).max() > _TOLERANCE:
            return None
    return ours


def blank_of(process: Process) -> npt.NDArray[np.float32]:
    """An image of zeros as that processor makes them. ModelError where its images are not all of one shape."""
    try:
        shapes = {process(picture).shape for picture in _pictures()}
    except Exception as error:  # whatever the library raises
        raise ModelError(f"its image processor fails: {one_line(error)[:150]}") from error
    if len(shapes) > 1 or len(shape := shapes.pop()) != 3:
        raise ModelError("its image processor makes images of several shapes; only one shape for all is supported")
    return np.zeros(shape, np.float32)


def _batch(pixels: npt.NDArray[np.uint8]) -> Any:
    import torch

    return torch.from_numpy(pixels[None])


def _pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in _SIZES]


@dataclass(frozen=True)
class ProcessedImages:
    """A processor as it is, run where images are decoded. Images are opened and limited as by `Preprocess`."""

    library: str  # as in `spec.LIBRARIES`
    files: PackedFiles  # of the processor
    name: str  # the processor's
    decoding: Decoding = "exact"  # there is one way only: the processor's
    turn: bool = False

    def describe(self) -> str:
        return self.name

    def with_size(self, image: bytes) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
        with opened(image, _bytes_of_rgb) as picture:
            upright = turned(picture.loaded(), picture.orientation if self.turn else 1)
            try:
                return np.asarray(_processor(self.library, self.files)(upright), dtype=np.float32), upright.size
            except MemoryError:
                raise
            except Exception as error:  # whatever the library raises
                raise ImageError(f"the model's image processor fails ({type(error).__name__})", upright.size) from error


def _bytes_of_rgb(size: tuple[int, int], mode: str, transparent: bool) -> int:
    """What is held beside the decoded image: copies in RGB, and as floats."""
    return 5 * picture_bytes(size, "RGB") + (16 * size[0] * size[1] if transparent or "A" in mode else 0)


@lru_cache(maxsize=16)
def _processor(library: str, files: PackedFiles) -> Processor:
    with files.unpacked() as folder:
        return adapter(library).processor(folder)
