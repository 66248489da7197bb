"""A repository on Hugging Face, as a folder on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..download import Progress, quiet_hub, silent_bar
from ..errors import ModelError, one_line
from ..network import why_unreachable


def downloaded(
    repo: str, kinds: Sequence[Sequence[str]], check: Callable[[Path], object], progress: Progress | None
) -> Path:
    """Some of its files; from the cache, without a request, where they are.

    kinds: patterns of names, what is wanted first: the first of them counts with which `check` raises no ModelError.
    ModelError, within seconds where the network is not reached.
    """
    import huggingface_hub
    from huggingface_hub import constants

    with suppress(Exception):  # it is not in the cache, or not all of it
        folder = Path(huggingface_hub.snapshot_download(repo, local_files_only=True))
        check(folder)
        return folder
    advice = "download it elsewhere and name the folder"
    if not constants.HF_HUB_OFFLINE and (reason := why_unreachable(constants.ENDPOINT)):
        raise ModelError(f"{repo} on Hugging Face: the network is not reached ({reason}): {advice}")
    try:
        with quiet_hub():
            for kind in kinds:
                folder = Path(
                    huggingface_hub.snapshot_download(repo, allow_patterns=list(kind), tqdm_class=silent_bar(progress))
                )
                with suppress(ModelError):
                    check(folder)
                    return folder
    except Exception as error:  # the client's own kinds and its transport's
        raise ModelError(f"cannot download {repo} from Hugging Face ({one_line(error)[:200]}): {advice}") from error
    raise ModelError(f"{repo} on Hugging Face has no {' or '.join(kind[0] for kind in kinds)}")


def check_one_of(folder: Path, names: Sequence[str], what: str) -> None:
    """The library would take defaults, which are those of another model."""
    if not any((folder / name).is_file() for name in names):
        raise ModelError(f"{folder}: there is no {what}, {' or '.join(names)}; put the model's own there")
