"""The root of clipmill's error tree; `pipeline.errors` grows the rest of it."""


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
