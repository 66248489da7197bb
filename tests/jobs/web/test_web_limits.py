"""What one visitor of the page does costs the others nothing: slow filters, heavy images, broken connections."""

from __future__ import annotations

import io
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from clipmill.jobs.web import uploads
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.site import Site
from clipmill.pipeline import ServeJob
from clipmill.pipeline.searching import filters
from fakes import jpeg
from fastapi.testclient import TestClient
from PIL import Image
from served import served
from unchecked import ENDLESS, UNCHECKED


@pytest.fixture(scope="module")
def unchecked(scenes: ServeJob) -> Iterator[Site]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # of this site alone
            patch.setattr(filters.Filters, "command", UNCHECKED)
            site = stack.enter_context(Site.open(scenes))
        site.rows.filters.command = UNCHECKED
        site.rows.filters.mask("true")  # its processes have started
        yield site


def test_slow_filters_keep_nobody_waiting(unchecked: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "PATIENCE", 4.0)
    with served(app_of(unchecked)) as port, ThreadPoolExecutor(60) as pool:
        url = f"http://127.0.0.1:{port}/api"

        def filtered(number: int) -> httpx.Response:
            return httpx.get(f"{url}/search", params={"where": ENDLESS.format(number)}, timeout=60)

        slow = [pool.submit(filtered, number) for number in range(45)]
        while sum(future.done() for future in slow) < 30:
            time.sleep(0.01)
        for path in ("about", "search?text=star", "threshold?at=0.5", "histogram", "image/48"):
            began = time.monotonic()
            assert httpx.get(f"{url}/{path}", timeout=60).status_code == 200
            assert time.monotonic() - began < 3, path
        answers = [future.result() for future in slow]
    assert Counter(answer.status_code for answer in answers) == {503: 37, 400: 8}
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert busy.json() == {"error": "the server is busy with other filters: try again in a few seconds"}
    assert busy.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "where",
    [
        "regexp_matches(repeat(caption, 100000000), 'x+y')",
        "list_sum(range(1000000000)) > 0",
        "error((SELECT string_agg(name || value) FROM duckdb_settings()))",
    ],
)
def test_a_hostile_filter_is_refused_and_tells_nothing_of_the_server(client: TestClient, where: str) -> None:
    answer = client.get("/api/search", params={"where": where})
    assert answer.status_code == 400 and answer.json()["error"].startswith("filter: ")
    assert "/" not in answer.json()["error"].replace("docs/filter.md", "")


def test_only_what_is_at_or_above_the_threshold_is_shown_without_a_filter(client: TestClient, site: Site) -> None:
    above = client.get("/api/threshold", params={"at": 0.6}).json()["above"]
    assert client.get("/api/search", params={"at_least": 0.6}).json()["total"] == above > 0
    assert client.get("/api/search", params={"at_least": "nan"}).status_code == 422


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes 500 times more."""
    file = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(file, "JPEG", progressive=True)
    image = file.getvalue()
    last = image.rindex(b"\xff\xda")
    return image[:-2] + image[last:-2] * 500 + image[-2:]


def test_an_image_of_endless_scans_is_refused_at_once(client: TestClient) -> None:
    began = time.monotonic()
    answer = client.post("/api/upload", content=many_scans())
    assert answer.status_code == 400 and "too many scans" in answer.json()["error"]
    assert time.monotonic() - began < 2


def test_a_client_that_hangs_up_leaves_nothing_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), served(app_of(site)) as port:
        for length in (0, 1000):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = f"POST /api/upload HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1000000\r\n\r\n"
                connection.sendall(head.encode() + b"0" * length)
                time.sleep(0.2)
        image = jpeg(1, 200, 150)
        assert httpx.post(f"http://127.0.0.1:{port}/api/upload", content=image).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_uploads_are_bounded_in_number_and_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 1)
    monkeypatch.setattr(uploads, "PATIENCE", 1.0)
    with served(app_of(site)) as port, socket.create_connection(("127.0.0.1", port)) as slow:
        head = f"POST /api/upload HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1000000\r\n\r\n"
        slow.sendall(head.encode())
        time.sleep(0.3)
        other = httpx.post(f"http://127.0.0.1:{port}/api/upload", content=jpeg(1, 200, 150))
        assert (other.status_code, other.json()["error"]) == (
            503,
            "the server is busy with other images: try again in a few seconds",
        )
        answer = b""
        while b"this file did not arrive within 1 s" not in answer:  # its head and its body may come apart
            received = slow.recv(10000)
            assert received, answer
            answer += received
        assert httpx.post(f"http://127.0.0.1:{port}/api/upload", content=jpeg(1, 200, 150)).status_code == 200
