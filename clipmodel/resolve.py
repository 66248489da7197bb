"""From a model's name to verified files on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .checkpoint import OPEN_CLIP_WEIGHTS, weight_files
from .config import variant
from .download import Progress, cache_folder, expected_hub_sha256, fetch, fetch_hub
from .errors import ModelError
from .packed import PackedFiles
from .remembered import remembered_sha256
from .sources import OPENAI_URL, Release, find
from .spec import ModelSpec, parse_spec
from .vocabulary import FILES


@dataclass(frozen=True)
class Resolved:
    """Where a model's weights are on this machine. Cheap to send to a worker that sees the same files."""

    variant: str | None
    weights: str  # in public words: a tag and its repository, or a file's name
    files: tuple[Path, ...]  # empty for random weights
    sha256: str | None  # of the files; None for random weights, which have to be made first
    release: Release | None = None
    seed: int = 0
    library: str | None = None  # whose model it is, see `adapters/`; None for our own
    packed: PackedFiles | None = None  # the settings and tokenizer, where they do not lie beside the weights


def resolve(spec: str | ModelSpec, *, progress: Progress | None = None) -> Resolved:
    """Find, fetch and verify; the only step that may use the network. `progress` is told of a download's bytes."""
    if isinstance(spec, str):
        spec = parse_spec(spec)
    if spec.is_random:
        return Resolved(spec.variant, f"random:{spec.seed()}", (), None, seed=spec.seed())
    if spec.path is not None:
        return _local(spec.variant, spec.path)
    assert spec.variant is not None
    return _released(spec.variant, *find(spec.variant, spec.weights), progress)


def _local(name: str | None, path: str) -> Resolved:
    location = Path(path).expanduser()
    files = weight_files(location)
    try:
        return Resolved(name, location.resolve().name, files, remembered_sha256(files))
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
        if variant(name).text.vocabulary != "clip":
            fetch_hub(release.repo, FILES, progress, name=name)
    return Resolved(name, source, (path,), verified(path, expected), release)


def verified(path: Path, expected: str | None) -> str:
    """Its sha256. ModelError where another is expected."""
    sha256 = remembered_sha256([path])
    if expected and sha256 != expected:
        path = path.resolve()  # the hub's cache shows links
        raise ModelError(f"{path} has sha256 {sha256}, not {expected}: delete it and try again")
    return sha256
