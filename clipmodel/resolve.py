"""From what was asked for to verified files on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .checkpoint import OPEN_CLIP_WEIGHTS, weight_files
from .config import VARIANTS, variant
from .download import Progress, cache_folder, expected_hub_sha256, fetch, fetch_hub, sha256_of
from .errors import ModelError
from .sources import OPENAI_URL, Release, find, releases

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class ModelSpec:
    """What was asked for: a variant, a release's tag or `random[:SEED]` or a path; or a path alone."""

    variant: str | None
    weights: str | None


@dataclass(frozen=True)
class Resolved:
    """Where a model's weights are on this machine. Cheap to send to a worker that sees the same files."""

    variant: str | None
    weights: str  # in public words: a tag and its repository, or a file's name
    files: tuple[Path, ...]  # empty for random weights
    sha256: str | None  # of the files; None for random weights, which have to be made first
    release: Release | None = None
    seed: int = 0


def parse_spec(spec: str) -> ModelSpec:
    """`NAME`, `NAME=TAG`, `NAME=random[:SEED]`, `NAME=PATH` or `PATH`. ModelError when it is none of them."""
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


def _is_path(text: str) -> bool:
    return text.endswith(_SUFFIXES) or text.startswith(("/", "./", "../", "~")) or _exists(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, of nobody's home, with a null in it
        return False


def resolve(spec: str | ModelSpec, *, progress: Progress | None = None) -> Resolved:
    """Find, fetch and verify; the only step that may use the network. `progress` is told of a download's bytes."""
    if isinstance(spec, str):
        spec = parse_spec(spec)
    name, weights = spec.variant, spec.weights
    if name is None:
        assert weights is not None
        return _local(None, weights)
    if weights and (weights == "random" or weights.startswith("random:")):
        seed = weights.removeprefix("random").removeprefix(":") or "0"
        if not seed.isdecimal():
            raise ModelError(f"{name}={weights}: the seed must be a whole number")
        return Resolved(name, f"random:{int(seed)}", (), None, seed=int(seed))
    if weights and _is_path(weights) and weights not in releases(name):
        return _local(name, weights)
    return _released(name, *find(name, weights), progress)


def _local(name: str | None, path: str) -> Resolved:
    where = Path(path).expanduser()
    files = weight_files(where)
    try:
        return Resolved(name, where.resolve().name, files, sha256_of(files))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def _released(name: str, tag: str, release: Release, progress: Progress | None) -> Resolved:
    source, expected = tag, release.sha256
    if release.asset:
        path = Path(str(resources.files(f"{__package__}.assets") / release.asset))
        if not path.is_file():
            raise ModelError(f"{name}: this installation lacks {release.asset}; install clipmill again")
    elif release.file:
        assert release.sha256
        base = os.environ.get("CLIPMILL_OPENAI_URL") or OPENAI_URL
        target = cache_folder() / release.file
        path = fetch(f"{base.rstrip('/')}/{release.sha256}/{release.file}", target, release.sha256, progress, name=name)
    else:
        source = f"{tag} (hf:{release.repo})"
        path = fetch_hub(release.repo, OPEN_CLIP_WEIGHTS, progress, name=name)
        expected = expected_hub_sha256(path)
    sha256 = sha256_of([path])
    if expected and sha256 != expected:
        path = path.resolve()  # the hub's cache shows links
        raise ModelError(f"{path} has sha256 {sha256}, not {expected}: delete it and try again")
    return Resolved(name, source, (path,), sha256, release)
