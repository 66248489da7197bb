"""Options of `score`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..choices import Side
from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Overwrite, StorageOptions, WeightsOf
from .flags import Flag
from .readable import Readable

ACTIVATIONS = ("none", "relu", "gelu", "silu", "tanh", "sigmoid")
LAST = (*ACTIVATIONS, "softmax")  # after the last layer
TAKEN = ("key", "shard", "row", "error")  # columns of their own

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, repr=False)
class ScoreJob(Readable):
    """What a dataset's embeddings are scored with, and where the scores go."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for the scores: one file for each part."), Flag(("--out", "-o"))]
    heads: Annotated[
        Sequence[str],
        Doc(
            "A head and the column that it fills: a preset (aesthetic=laion-aesthetic-l14), a file (safetensors, "
            "PyTorch, ONNX), or both (NAME=PRESET=FILE), where you have the preset's file. Repeatable."
        ),
        Flag(("--head",), metavar="NAME=WEIGHTS"),
    ] = ()
    activations: Annotated[
        Sequence[str],
        Doc(
            "For a head from a file: what is between its layers, and perhaps after the last: none, relu, gelu, silu, "
            "tanh, sigmoid; or softmax at the end. Repeatable."
        ),
        Flag(("--activation",), metavar="NAME=BETWEEN[+LAST]", default="relu, and none after the last"),
    ] = ()
    functions: Annotated[
        Sequence[str],
        Doc("A function of your own: from float32 [n, dim] to an array, or to a dict of arrays by column. Repeatable."),
        Flag(("--function",), metavar="MODULE:FUNCTION"),
    ] = ()
    prompts: Annotated[
        Sequence[str],
        Doc(
            "A text, and the column for its cosine with each embedding; texts under one name are averaged. Repeatable."
        ),
        Flag(("--prompt",), metavar="NAME=TEXT"),
    ] = ()
    pixels: Annotated[
        bool,
        Doc("Give --function images, read from the shards again: uint8 [n, side, side, 3], as the model saw them."),
    ] = False
    side: Annotated[Side, Doc("Whose embeddings are scored."), Flag(("--for",))] = "image"
    alias: Alias = None
    model: WeightsOf = None
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, str]:
        """Of the heads, by their columns."""
        return dict(_pair("--head", head, "aesthetic=laion-aesthetic-l14") for head in self.heads)

    @property
    def texts(self) -> dict[str, list[str]]:
        """Of the prompts, by their columns."""
        texts: dict[str, list[str]] = {}
        for prompt in self.prompts:
            name, text = _pair("--prompt", prompt, "watermark='a picture with a watermark'")
            texts.setdefault(name, []).append(text)
        return texts

    @property
    def layers(self) -> Mapping[str, tuple[str, str]]:
        """What is between the layers and after the last, by head."""
        pairs = (_pair("--activation", named, "quality=relu+sigmoid") for named in self.activations)
        return {name: _between_and_last(name, words) for name, words in pairs}

    def check(self) -> None:
        """UserError for values that no run could use."""
        if not self.heads and not self.functions and not self.prompts:
            raise UserError(
                "nothing to score with: give --head NAME=WEIGHTS, --prompt NAME=TEXT or --function MODULE:FUNCTION"
            )
        if self.pixels and (self.heads or self.prompts):
            raise UserError("--pixels is for --function: run `clipmill score` for --head and --prompt apart")
        if self.pixels and self.side != "image":
            raise UserError("--pixels gives images: leave out --for text")
        names = [_pair("--head", head, "aesthetic=laion-aesthetic-l14")[0] for head in self.heads]
        for number, name in enumerate(names):
            check_column(name, f"--head {self.heads[number]}")
            if name in names[:number]:
                raise UserError(f"--head {self.heads[number]}: {name} is there twice; give each head its own name")
        for name, texts in self.texts.items():
            check_column(name, f"--prompt {name}={texts[0]}")
        if unknown := [name for name in self.layers if name not in names]:
            raise UserError(f"--activation {unknown[0]}=…: no --head is called {unknown[0]}")
        for function in self.functions:
            module, colon, name = function.partition(":")
            if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
                raise UserError(f"--function {function}: must be MODULE:FUNCTION, such as my_scores:score")


def check_column(name: str, named_by: str) -> None:
    """UserError for what no column of scores can be called."""
    if not _COLUMN.fullmatch(name):
        raise UserError(f"{named_by}: {name!r} cannot be a column; take letters, digits and _")
    if name in TAKEN:
        raise UserError(f"{named_by}: {name} is a column that every table of scores has; choose another name")


def _pair(option: str, text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError(f"{option} {text}: must be NAME=…, such as {example}")
    return name, value


def _between_and_last(name: str, words: str) -> tuple[str, str]:
    between, plus, last = words.partition("+")
    if between not in ACTIVATIONS or (plus and last not in LAST):
        known = f"{', '.join(ACTIVATIONS)}; softmax after the last layer alone"
        raise UserError(f"--activation {name}={words}: must be BETWEEN or BETWEEN+LAST, of {known}")
    return between, last or "none"
