"""A repository on Hugging Face, as a folder on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..checkpoint import weight_files
from ..download import Progress, quiet_hub, silent_bar
from ..errors import ModelError, one_line
from ..hub_configs import FILES_BESIDE
from ..network import why_unreachable


def downloaded(repo: str, weights: Sequence[Sequence[str]], progress: Progress | None) -> Path:
    """Its settings, tokenizer and weights; from the cache, without a request, where they are. weights: patterns of
    names, of which the first that the repository has are taken. ModelError, within seconds where the network is not
    reached."""
    import huggingface_hub
    from huggingface_hub import constants

    beside = list(FILES_BESIDE)
    with suppress(Exception):  # it is not in the cache, or not all of it
        folder = Path(huggingface_hub.snapshot_download(repo, local_files_only=True))
        if all(path.is_file() for path in weight_files(folder)):
            return folder
    advice = "download it elsewhere and name the folder"
    if not constants.HF_HUB_OFFLINE and (reason := why_unreachable(constants.ENDPOINT)):
        raise ModelError(f"{repo} on Hugging Face: the network is not reached ({reason}): {advice}")
    try:
        with quiet_hub():
            for kind in weights:
                folder = Path(
                    huggingface_hub.snapshot_download(
                        repo, allow_patterns=[*beside, *kind], tqdm_class=silent_bar(progress)
                    )
                )
                with suppress(ModelError):
                    weight_files(folder)
                    return folder
    except Exception as error:  # the client's own kinds and its transport's
        raise ModelError(f"cannot download {repo} from Hugging Face ({one_line(error)[:200]}): {advice}") from error
    raise ModelError(f"{repo} on Hugging Face has no {' or '.join(kind[0] for kind in weights)}")
