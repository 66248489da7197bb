"""The root of clipmill's error tree; `pipeline.errors` grows the rest of it."""

from __future__ import annotations


class ClipmillError(Exception):
    """Anything clipmill reports in one line instead of a traceback.

    `exit_code` is what the command line ends with when this error reaches it.
    """

    exit_code = 1


class UserError(ClipmillError):
    """What was asked for is wrong; no retry can help. Raised before work starts."""

    exit_code = 2


class ModelError(UserError):
    """An unknown variant, or a weights file that is missing, broken or of another shape."""


class ImageError(ClipmillError):
    """An image that cannot be decoded. Its text is the bare reason; `size` is (width, height) where the header told."""

    def __init__(self, reason: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.size = size


def one_line(error: object) -> str:
    """An error's text on one line, for a message of ours; the name of its type where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
