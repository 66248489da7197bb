"""Secrets are hidden by their names, and in URLs; everything else is shown as it is."""

from __future__ import annotations

import pytest
from clipmill.pipeline.redaction import HIDDEN, redacted, redacted_text


@pytest.mark.parametrize(
    "name", ["secret", "aws_secret_access_key", "token", "PASSWORD", "key", "api_key", "account_key"]
)
def test_what_is_called_a_secret_is_hidden(name: str) -> None:
    assert redacted({"storage_options": {name: "hush", "anon": True}}) == {
        "storage_options": {name: HIDDEN, "anon": True}
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/key=1/a.tar", "s3://bucket/key=1/a.tar"),
        ("http://user:hush@host/a", f"http://{HIDDEN}@host/a"),
        ("https://h/a?X-Amz-Signature=hush&b=1", f"https://h/a?X-Amz-Signature={HIDDEN}&b=1"),
        ("https://h/a?sig=hush", f"https://h/a?sig={HIDDEN}"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_urls_lose_passwords_and_signatures(text: str, shown: str) -> None:
    assert redacted_text(text) == shown
    assert redacted([text, 3]) == [shown, 3]
