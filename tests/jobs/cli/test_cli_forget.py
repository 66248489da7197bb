"""What `clipmill forget` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console import console
from forget_kit import derived, embedded, url_of


def test_it_says_what_goes_from_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, clipmill = embedded(tmp_path), console(monkeypatch, capsys)
    folders = derived(dataset, tmp_path / "derived")
    listed = tmp_path / "urls.txt"
    listed.write_text(f"{url_of(1, 4)}\n{url_of(9, 9)}\n")
    request = ("forget", dataset.url, "--urls", listed)
    assert clipmill(*request, "--count").out == "1 row in 1 part would be forgotten, of 2 values\n"
    said = clipmill(*request).out.splitlines()
    assert said[:3] == [
        "forgot      1 row more in 1 part, of 2 values",
        "forgotten   1 row",
        "parts hold  1 row of them still; --purge deletes them",
    ]
    also = [word for folder in (folders[0], folders[3]) for word in ("--also", folder)]
    said = clipmill("forget", dataset.url, "--purge", *also).out.splitlines()
    assert said[1] == "purged      1 row in 1 part"
    assert said[2].endswith("subset: 1 file deleted; run the same `clipmill filter` again")
    assert said[3].endswith("shards-again: 1 sample taken out of 1 shard")
    again = json.loads(clipmill(*request, "--purge", *also, "--json").out)
    assert (again["new"], again["forgotten"], again["purged"], again["folders"][0]["deleted"]) == (0, 1, 0, 0)
    refused = clipmill("forget", dataset.url)
    assert (refused.code, refused.out) == (2, "") and "nothing to forget: give --uids" in refused.err
    assert clipmill("forget", dataset.url, "--urls", tmp_path / "none.txt").code == 2
