"""What the page refuses over HTTP, and how: hostile paths, hosts, pages, uploads."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from clipmill.jobs.web import app as module
from clipmill.jobs.web import current, uploads
from clipmill.jobs.web.guard import Guard
from clipmill.jobs.web.site import Site
from clipmill.pipeline.dataset.forgotten import ASKED, Asked, digest_of
from fakes import jpeg
from fastapi.testclient import TestClient
from PIL import Image


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/image/100000", 400),
        ("/api/image/-1", 422),
        ("/api/image/1.5", 422),
        ("/api/image/%2e%2e%2fetc%2fpasswd", 404),
        ("/api/image/8?side=99999", 422),
        ("/api/search?count=100000", 422),
        ("/api/search?start=-1", 422),
        ("/api/search?side=sound", 422),
        ("/api/search?where=nonsense", 400),
        ("/api/search?key=no%20such", 400),
        ("/api/search?place=4000000", 400),
        ("/api/search?upload=forgotten", 400),
        ("/api/search?text=" + "a" * 5000, 422),
        ("/api/threshold?at=nan", 400),
        ("/api/threshold?at=0);SELECT", 422),
        ("/static/..%2fapp.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/openapi.json", 404),
        ("/docs", 404),
    ],
)
def test_what_is_wrong_is_an_answer_of_one_line(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text and "\n" not in answer.text


def test_failed_rows_have_no_picture_and_it_says_why(client: TestClient, site: Site) -> None:
    failed = [row["_place"] for row in site.rows.page(module.Condition("error IS NOT NULL"), 0, 20)]
    answers = [client.get(f"/api/image/{place}") for place in failed]
    assert any(answer.status_code == 404 and answer.json()["error"] for answer in answers)
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert (
        client.get("/api/search", params={"place": next(p for p, a in zip(failed, answers, strict=True))}).status_code
        == 400
    )


def bomb() -> bytes:
    """A small file of eighty million pixels."""
    file = io.BytesIO()
    Image.new("1", (8_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"<svg onload=alert(1)>", "SVG is not supported"),
        (jpeg(0, 300, 300)[:2000], "truncated"),
        (bomb(), "80 million pixels"),
    ],
)
def test_an_upload_that_is_no_image_is_refused(client: TestClient, content: bytes, said: str) -> None:
    answer = client.post("/api/upload", content=content)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_once_rows_are_forgotten_an_open_page_shows_nothing_more(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "_EVERY", 0.0)
    assert client.get("/api/row/0").status_code == 200
    asked = pa.Table.from_pylist([{"by": "uid", "digest": digest_of("uid", "somebody's"), "at": 0}])
    site.dataset.output.write(ASKED, Asked.packed(asked))
    try:
        for path in ("/api/row/0", "/api/search", "/api/image/0", "/api/download/keys"):
            refused = client.get(path)
            assert (refused.status_code, list(refused.json())) == (400, ["error"])
            assert "were forgotten since this page was opened" in refused.json()["error"]
    finally:
        site.dataset.output.delete(ASKED)


def test_an_upload_is_not_read_beyond_the_limit(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST", 1 << 20)
    sent: list[int] = []

    def endless() -> Any:
        while len(sent) < 1000:
            sent.append(1)
            yield b"0" * (1 << 16)

    answer = client.post("/api/upload", content=endless())
    assert answer.status_code == 400 and "larger than 1 MiB" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "192.168.1.7"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_names_and_other_pages_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/about", headers=headers).status_code == status


def test_a_server_goes_by_the_name_it_was_given() -> None:
    guard = Guard("Box.Local")
    assert [guard._is_ours(name) for name in ("box.local:80", "box.local", "xbox.local", "localhost")] == [
        True,
        True,
        False,
        True,
    ]


def test_every_answer_says_what_a_browser_may_do(client: TestClient) -> None:
    for path in ("/", "/static/app.js", "/api/about", "/api/image/8", "/nowhere"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    for path in ("/api/about", "/api/search", "/api/image/8", "/"):
        assert client.request(method, path).status_code == 405


def test_the_page_asks_nobody_else() -> None:
    for path in module.STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text, path
