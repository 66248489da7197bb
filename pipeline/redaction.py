"""Secrets do not get into what is shown or kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "********"
_SECRET = re.compile(
    r"secret|token|password|passwd|credential|signature|api_?key|^key$|access_?key|_key$", re.IGNORECASE
)
_USERINFO = re.compile(r"(?<=://)[^/@\s:]+:[^/@\s]+(?=@)")  # no colon in the first part: else quadratic time
_QUERY = re.compile(
    r"(?i)([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|sig|signature|token|access_token|key)=)[^&\s]+"
)


def is_secret(name: str) -> bool:
    """Whether what is called so is likely to be one."""
    return bool(_SECRET.search(name))


def shows_secret(variable: str) -> bool:
    """Of NAME=VALUE."""
    return is_secret(variable.partition("=")[0]) or redacted_text(variable) != variable


def redacted(value: Any) -> Any:
    """A copy without secrets: values whose name gives them away, passwords and signatures within URLs."""
    if isinstance(value, Mapping):
        return {key: HIDDEN if is_secret(str(key)) and entry else redacted(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(entry) for entry in value]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """Text in which URLs have lost their passwords and signatures."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(HIDDEN, text))
