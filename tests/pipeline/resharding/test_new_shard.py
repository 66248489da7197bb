"""Names of files in new shards: of their kind, whatever the sample was called."""

from __future__ import annotations

import pytest
from clipmill.pipeline.resharding.new_shard import _extensions


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["jpg", "txt", "json"], ["jpg", "txt", "json"]),
        (["exe.jpg", "exe.txt"], ["jpg", "txt"]),  # `x.exe.jpg` is a file of the key `x`
        (["05.png", "05.txt"], ["png", "txt"]),
        (["jpg", "seg.png", "txt"], ["jpg", "seg.png", "txt"]),
        (["image.jpg", "caption.txt"], ["image.jpg", "caption.txt"]),
        (["jpg", "$(touch x).png"], ["jpg", "__touch_x_.png"]),
        (["a$.jpg", "a%.jpg", "txt"], ["0.jpg", "1.jpg", "2.txt"]),
    ],
)
def test_a_files_kind_stays_and_what_is_shared_or_unusual_goes(before: list[str], after: list[str]) -> None:
    assert _extensions(before) == after
