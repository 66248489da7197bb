"""Releases by name are downloaded once, verified, resumed and cached."""

from __future__ import annotations

import hashlib
import http.server
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from clipmill.clipmodel import download, sources
from clipmill.clipmodel.config import OPENAI_MEAN, VARIANTS, PreprocessConfig
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import ModelCard, load, resolve, save
from safetensors.torch import save_file
from weights_kit import VIT, assert_same, error_of

pytestmark = pytest.mark.usefixtures("variants")


class Server:
    """Files over HTTP on loopback, with ranges; it can break off, refuse, or ignore ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.breaks: list[int] = []  # bytes to send before breaking off, one entry for each answer
        self.statuses: list[int] = []  # to answer with, before anything else
        self.ranges = True
        self.error_codes = False  # whether to say why there is nothing, as the Hugging Face hub does
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked))
        content = self.files.get(request.path)
        if self.statuses or content is None:
            request.send_response(self.statuses.pop(0) if self.statuses else 404)
            if self.error_codes:
                request.send_header("X-Error-Code", "EntryNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(content) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header("X-Repo-Commit", "c" * 40)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if request.command == "GET":
            end = start + self.breaks.pop(0) if self.breaks else len(content)
            request.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def release(server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """S/16 has OpenAI's release, served from loopback; returns the file."""
    content = archive.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    rows = {"openai": sources.Release(file="S-16.pt", sha256=sha256, activation="quick_gelu")}
    for name in ("S/16", "S-16"):
        monkeypatch.setitem(sources._RELEASES, name, rows)
    server.files[f"/models/{sha256}/S-16.pt"] = content
    monkeypatch.setenv("CLIPMILL_OPENAI_URL", f"{server.url}/models/")
    return content


def cache(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"}


def test_a_release_is_downloaded_verified_and_cached(
    server: Server, release: bytes, model: CLIP, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    loaded = load("S/16", progress=lambda done, total: told.append((done, total)))
    assert_same(loaded, reference.model(VIT, model.state_dict()))
    assert loaded.card.weights == "openai"
    assert loaded.card.weights_sha256 == hashlib.sha256(release).hexdigest()
    assert told[-1] == (len(release), len(release))
    assert cache(tmp_path) == {"S-16.pt": release}
    assert len(server.requests) == 1

    again = load("S-16=openai")
    assert len(server.requests) == 1
    assert again.card.config == loaded.card.config  # QuickGELU, whichever way it was asked for
    assert again.card.variant == "S-16-quickgelu"


def test_reading_makes_no_request(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = pickle.loads(pickle.dumps(resolve("S/16")))
    server.requests.clear()
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert load(found).card == ModelCard("S/16", "openai", hashlib.sha256(release).hexdigest(), VIT)
    load(f"S/16={tmp_path / 'cache' / 'S-16.pt'}")
    assert server.requests == []


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_an_interrupted_download_goes_on_where_it_stopped(
    server: Server, release: bytes, ranges: bool, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "S-16.pt.part").write_bytes(release[:100_000])
    server.ranges = ranges
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    assert [asked for _, asked in server.requests] == ["bytes=100000-"]


def test_dropped_connections_and_busy_servers_are_tried_again(server: Server, release: bytes, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    server.breaks = [1000] * 8  # more often than there are attempts, but each brings bytes
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    assert [asked for _, asked in server.requests][2:5] == [None, "bytes=1000-", "bytes=2000-"]


def test_a_whole_or_overlong_part_is_settled(server: Server, release: bytes, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    part = tmp_path / "cache" / "S-16.pt.part"
    part.write_bytes(release)
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    (tmp_path / "cache" / "S-16.pt").unlink()
    part.write_bytes(release + b"more")
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}


def test_a_download_with_another_hash_is_deleted_and_refused(server: Server, release: bytes, tmp_path: Path) -> None:
    (path,) = server.files
    server.files[path] = release[:-1] + b"?"
    message = error_of("S/16")
    assert f"not {hashlib.sha256(release).hexdigest()}" in message and "try again" in message
    assert cache(tmp_path) == {}
    server.files[path] = release
    load("S/16")


def test_a_cached_file_that_was_changed_is_refused(server: Server, release: bytes, tmp_path: Path) -> None:
    resolve("S/16")
    path = tmp_path / "cache" / "S-16.pt"
    path.write_bytes(release[:-1] + b"?")
    assert f"{path} has sha256" in (message := error_of("S/16"))
    assert "delete it and try again" in message


def test_offline_says_where_to_put_the_file(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for url, says in [
        ("http://127.0.0.1:9", "cannot download http://127.0.0.1:9/"),
        (f"{server.url}/elsewhere", "404"),
        ("http://name.invalid", "cannot download http://name.invalid/"),
    ]:
        monkeypatch.setenv("CLIPMILL_OPENAI_URL", url)
        message = error_of("S/16")
        assert says in message
        assert f"put the file at {tmp_path / 'cache' / 'S-16.pt'}, or give its path: --model S/16=PATH" in message
    (tmp_path / "cache" / "S-16.pt").write_bytes(release)
    assert load("S/16").card.weights == "openai"


def test_a_silent_server_is_given_up(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    monkeypatch.setattr(Server, "answer", lambda self, request: threading.Event().wait(0.3))
    assert "timed out" in error_of("S/16")


def test_a_cache_that_cannot_be_written_says_so(
    release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "file"))
    assert "set CLIPMILL_CACHE to a folder" in error_of("S/16")


def test_downloads_at_the_same_time_do_not_mix(server: Server, release: bytes, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: resolve("S/16"), range(8)))
    assert len(set(found)) == 1
    assert cache(tmp_path) == {"S-16.pt": release}
    assert len(server.requests) == 1


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """A Hugging Face endpoint on loopback with an empty cache; S-16 has a release there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    halves = PreprocessConfig((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    row = sources.Release(repo="org/small", activation="quick_gelu", preprocess=halves)
    monkeypatch.setitem(sources._RELEASES, "S-16", {"laion_s1b": row})
    return server


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("mirror", [False, True], ids=["hub", "mirror"])
def test_hugging_face_releases_are_downloaded_verified_and_cached(
    hub: Server, mirror: bool, file: str, model: CLIP, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.error_codes = not mirror
    path = tmp_path / file
    save_file(model.state_dict(), path) if file.endswith("safetensors") else torch.save(model.state_dict(), path)
    hub.files[f"/org/small/resolve/main/{file}"] = path.read_bytes()
    told: list[tuple[int, int | None]] = []
    loaded = load("S-16=laion-s1B", progress=lambda done, total: told.append((done, total)))
    assert_same(loaded, reference.model(VIT, model.state_dict()))
    assert loaded.card.weights == "laion_s1b (hf:org/small)"
    assert loaded.card.variant == "S-16-quickgelu"
    assert loaded.card.config.preprocess.mean == (0.5, 0.5, 0.5)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    hub.requests.clear()
    assert load("S-16").card == loaded.card
    assert hub.requests == []
    assert capfd.readouterr().err == ""

    (blob,) = [path for path in (tmp_path / "hub").rglob("*") if len(path.name) == 64]
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert f"{blob} has sha256" in error_of("S-16")


def test_an_unreachable_or_incomplete_hub_says_what_to_do(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert "org/small" in (message := error_of("S-16"))
    assert message.endswith("get its open_clip_model.safetensors and give --model S-16=PATH")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot download org/small from Hugging Face (" in error_of("S-16")


def test_the_packaged_model_is_found_by_name_or_its_absence_explained(model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.safetensors"
    save(model, path, variant="S/16")
    try:
        card = load("tiny").card
    except ModelError as error:
        assert "this installation lacks tiny.safetensors" in str(error)
    else:
        assert (card.variant, card.weights) == ("tiny", "clipmill")
        assert card.config.vision == VARIANTS["tiny"].vision


def test_defaults_stand_where_no_file_says_otherwise(model: CLIP, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert load(f"S/16={tmp_path / 'model.pt'}").card.config.preprocess.mean == OPENAI_MEAN
    shutil.copy(tmp_path / "model.pt", tmp_path / "model.safetensors")  # told by content, not by name
    assert load(f"S/16={tmp_path / 'model.safetensors'}").model.config == VIT
