"""What decoding one picture takes is bounded: refused from its header, or within the limit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hostile_pictures
import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.pictures import limits
from clipmill.clipmodel.pictures.limits import MAX_BYTES, MAX_BYTES_TOGETHER, memory
from clipmill.clipmodel.preprocess import Preprocess
from picture_kit import encoded
from PIL import Image, ImageFile

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured through /proc")


def took(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What decoding each of them takes, in a process of its own."""
    paths = []
    for name, data in files:
        (folder / name).write_bytes(data)
        paths.append(str(folder / name))
    command = [sys.executable, str(Path(hostile_pictures.__file__)), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(paths)
    return results


def test_what_asks_for_too_much_is_refused_from_its_header(tmp_path: Path) -> None:
    for result in took(tmp_path, hostile_pictures.too_large()):
        assert "over" in result["error"] and result["bytes"] < 16 * MIB and result["seconds"] < 1, result


def test_what_would_keep_a_decoder_busy_is_refused(tmp_path: Path) -> None:
    for result in took(tmp_path, hostile_pictures.too_much_work()):
        assert result["error"] and result["bytes"] < 80 * MIB and result["seconds"] < 3, result


def test_what_lies_beside_the_pixels_costs_nothing(tmp_path: Path) -> None:
    for result in took(tmp_path, hostile_pictures.harmless()):
        assert result["error"] is None and result["bytes"] < 40 * MIB and result["seconds"] < 3, result


@pytest.mark.long
def test_what_is_just_allowed_stays_within_the_limit(tmp_path: Path) -> None:
    for result in took(tmp_path, hostile_pictures.at_the_limit()):
        assert result["error"] is None and MAX_BYTES / 3 < result["bytes"] < MAX_BYTES, result
        assert result["seconds"] < 30, result


def test_a_webp_of_34_bytes_is_refused_by_name() -> None:
    with pytest.raises(ImageError) as caught:
        Preprocess(32)(hostile_pictures.webp(16_383, 10_922))
    assert str(caught.value) == "image needs over 512 MiB to decode (16383x10922)"
    assert caught.value.size == (16_383, 10_922)


@pytest.mark.parametrize("scans", [10, 35])
def test_a_jpeg_of_some_more_scans_is_decoded(scans: int) -> None:
    assert Preprocess(32)(hostile_pictures.jpeg_of_scans(scans, 100)).shape == (32, 32, 3)


def test_scans_are_those_up_to_the_end_of_the_image() -> None:
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    trailer = b"\xff\xda" * 1000  # a second picture, or a film, that a camera appended
    expected = Preprocess(32)(data)
    assert (Preprocess(32)(data + trailer) == expected).all()
    with pytest.raises(ImageError, match="JPEG of too many scans"):
        Preprocess(32)(data[:-2] + (b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\0") * 200 + data[-2:])


def test_threads_share_a_bound_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (1000, 1000)), "PNG")
    monkeypatch.setattr(limits, "MAX_BYTES_TOGETHER", 3 * 4_500_000)
    load, held, most = ImageFile.ImageFile.load, set(), []
    lock = threading.Lock()

    def watched(self: ImageFile.ImageFile) -> Any:
        with lock:
            held.add(id(self))
            most.append(len(held))
        time.sleep(0.02)
        pixels = load(self)
        with lock:
            held.discard(id(self))
        return pixels

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    threads = [threading.Thread(target=Preprocess(32), args=(data,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) >= 12 and 1 < max(most) <= 3
    assert memory.taken == 0


def test_what_needs_more_than_all_may_have_together_is_decoded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES_TOGETHER", 1000)
    assert Preprocess(32)(encoded(Image.new("RGB", (100, 100)), "PNG")).shape == (32, 32, 3)


def test_a_failure_frees_its_share() -> None:
    data = encoded(Image.new("RGB", (100, 100), 7), "PNG")
    with pytest.raises(ImageError):
        Preprocess(32)(data[: len(data) // 2])
    assert memory.taken == 0
    assert MAX_BYTES <= MAX_BYTES_TOGETHER
