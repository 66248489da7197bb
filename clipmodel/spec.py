"""A model as a user names it, understood and checked without PyTorch and without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .config import VARIANTS, variant
from .errors import ModelError
from .sources import find, releases

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
LIBRARIES = ("hf", "open_clip")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelSpec:
    """A variant, with a release's tag, `random[:SEED]` or a path; or a path alone. Another library's model has its
    library before its variant: `hf:REPO_OR_FOLDER`, `open_clip:NAME`."""

    variant: str | None
    weights: str | None
    library: str | None = None

    @property
    def is_random(self) -> bool:
        return self.weights == "random" or (self.weights or "").startswith("random:")

    def seed(self) -> int:
        """Of random weights. ModelError where it is not a whole number."""
        seed = (self.weights or "").removeprefix("random").removeprefix(":") or "0"
        if not seed.isdecimal():
            raise ModelError(f"{self.variant}={self.weights}: the seed must be a whole number")
        return int(seed)

    @property
    def path(self) -> str | None:
        """Of the weights, where the spec names a file or a folder."""
        if self.variant is None:
            return self.weights
        if self.library:
            named = self.weights or self.variant.removeprefix(f"{self.library}:")
            return named if _is_path(named) else None
        tags = releases(self.variant)
        return self.weights if self.weights and _is_path(self.weights) and self.weights not in tags else None


def parse_spec(spec: str) -> ModelSpec:
    """`NAME`, `NAME=TAG`, `NAME=random[:SEED]`, `NAME=PATH` or `PATH`; `hf:REPO` or `hf:FOLDER`; `open_clip:` before a
    name with weights, a repository or a folder. ModelError when it is none of them."""
    library, colon, named = spec.partition(":")
    if colon and library in LIBRARIES:
        return _of_open_clip(named) if library == "open_clip" else _of_hugging_face(named)
    name, equals, weights = spec.partition("=")
    if equals and name in VARIANTS:
        if not weights:
            raise ModelError(f"{spec}: nothing after the equals sign; give a release's tag or a path")
        return ModelSpec(name, weights)
    if spec in VARIANTS:
        return ModelSpec(spec, None)
    if not _exists(spec) and (equals or not _is_path(spec)):
        try:
            variant(name)
        except ModelError as error:
            raise ModelError(f"{error} (and there is no file {spec!r})") from None
    return ModelSpec(None, spec)


def _of_hugging_face(named: str) -> ModelSpec:
    if not _is_path(named) and not is_repository(named):
        raise ModelError(f"hf:{named}: name a repository on Hugging Face, hf:OWNER/NAME, or a local folder")
    return ModelSpec(f"hf:{named}", None, "hf")


def _of_open_clip(named: str) -> ModelSpec:
    """With or without the words that open_clip itself has before folders and repositories."""
    named = named.removeprefix("local-dir:").removeprefix("hf-hub:")
    name, equals, weights = (named, "", "") if _exists(named) else named.partition("=")
    if not name or "://" in name or (equals and not weights):
        raise ModelError(f"open_clip:{named}: name a model and its weights, open_clip:NAME=TAG or open_clip:NAME=FILE")
    return ModelSpec(f"open_clip:{name}", weights or None, "open_clip")


def spec_of(variant: str, weights: str) -> str:
    """What names a model again that a dataset was made with; of a file or folder of the user's own it does not say
    where that is. `tag (hf:…)` is how a release on a hub calls itself."""
    library, tag = variant.partition(":")[0], weights.split(" (", 1)[0]
    if library == "hf" or (library == "open_clip" and "/" in tag):  # a repository
        return f"{library}:{weights}"
    return f"{variant}={tag}"


def weights_option(variant: str) -> str:
    """How a user says where the weights are of a model that a dataset was made with."""
    options = {"hf": "hf:FOLDER", "open_clip": "open_clip:NAME=FILE or open_clip:FOLDER"}
    return f"--model {options.get(variant.partition(':')[0], 'PATH')}"


def check_spec(spec: str) -> None:
    """ModelError for a variant, a tag or a seed that does not exist. Takes milliseconds, so that a job can be refused
    before anything heavy is imported. Files and URLs, `NAME=s3://bucket/FILE`, are not opened; they may lie on another
    machine."""
    before, is_url, _ = spec.partition("://")
    if is_url:
        name, equals, _scheme = before.rpartition("=")
        if before.split(":")[0] in LIBRARIES:
            parse_spec(spec)
        elif equals:
            variant(name)
        return
    parsed = parse_spec(spec)
    if parsed.variant is None or parsed.path is not None:
        return
    if parsed.is_random:
        parsed.seed()
    elif not parsed.library:
        find(parsed.variant, parsed.weights)


def is_repository(text: str) -> bool:
    """Whether it looks like the name of one on Hugging Face."""
    return _REPOSITORY.fullmatch(text) is not None


def _is_path(text: str) -> bool:
    return text.endswith(_SUFFIXES) or text.startswith(("/", "./", "../", "~")) or _exists(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, of nobody's home, with a null in it
        return False
