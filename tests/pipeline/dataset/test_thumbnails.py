"""Images fetched from the shards they came from, and made small."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.thumbnails import fetch_image, thumbnail
from fakes import Drawn, Ran, jpeg
from PIL import Image
from s3 import Bucket

Rows = list[dict[str, object]]


def rows_of(ran: Ran) -> Rows:
    columns = ["key", "shard", "row", "image_offset", "image_size", "sha256"]
    return [row for batch in Dataset.open(str(ran.out)).batches(columns) for row in batch.to_pylist()]


def fetched(row: dict[str, object], shard: str | None = None) -> bytes | None:
    return fetch_image(shard or row["shard"], row["image_offset"], row["image_size"])  # type: ignore[arg-type]


def test_every_image_is_fetched_as_it_was_embedded(ran: Ran) -> None:
    found = {hashlib.sha256(image).hexdigest() for row in rows_of(ran) if (image := fetched(row)) is not None}
    assert found == {row["sha256"] for row in rows_of(ran) if row["sha256"]}
    assert len(found) > 100


def test_one_request_to_an_object_store_fetches_it(ran: Ran, drawn: Drawn, bucket: Bucket) -> None:
    row = rows_of(ran)[5]
    bucket.storage.pipe_file(bucket.url("00000.tar"), drawn.tars[0].read_bytes())
    assert fetched(row, bucket.url("00000.tar")) == fetched(row)
    assert fetched(row, bucket.url("gone.tar")) is None


class Ranges(http.server.SimpleHTTPRequestHandler):
    """What the standard library's server leaves out; by name, as some servers leave it out, too."""

    def send_head(self) -> io.BytesIO:  # type: ignore[override]
        data = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range") if "plain" not in self.path else None
        first, _, last = (asked or f"bytes=0-{len(data) - 1}").removeprefix("bytes=").partition("-")
        body = data[int(first) : int(last) + 1]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_web_servers_are_asked_for_a_range_and_none_is_let_send_everything(
    web: str, tmp_path: Path, ran: Ran, drawn: Drawn
) -> None:
    for name in ("00000.tar", "plain.tar"):
        (tmp_path / name).write_bytes(drawn.tars[0].read_bytes())
    row = rows_of(ran)[5]
    assert fetched(row, f"{web}/00000.tar") == fetched(row)
    assert fetched(row, f"{web}/plain.tar") is None


def test_what_has_no_range_or_no_shard_any_more_is_none(tmp_path: Path) -> None:
    (tmp_path / "short.tar").write_bytes(b"0" * 100)
    assert fetch_image(str(tmp_path / "a.parquet"), None, None) is None
    assert fetch_image(str(tmp_path / "gone.tar"), 512, 10) is None
    assert fetch_image(str(tmp_path / "short.tar"), 90, 20) is None
    assert fetch_image("nosuch://store/a.tar", 0, 20) is None


@pytest.mark.parametrize("size", [(1000, 500), (500, 1000), (40, 20), (1, 3000)])
def test_a_thumbnail_keeps_the_shape_and_never_grows(size: tuple[int, int]) -> None:
    made = thumbnail(jpeg(0, *size), side=128)
    assert made is not None
    small = Image.open(io.BytesIO(made))
    scale = min(1.0, 128 / max(size))
    assert small.format == "JPEG"
    assert small.size == tuple(max(1, round(side * scale)) for side in size)


def test_transparency_becomes_paper_and_exif_turns() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(file, "PNG")
    made = thumbnail(file.getvalue())
    assert made is not None and Image.open(io.BytesIO(made)).getpixel((5, 5)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, "JPEG", exif=exif)
    made = thumbnail(file.getvalue())
    assert made is not None and Image.open(io.BytesIO(made)).size == (10, 20)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "RGB"])
def test_every_mode_becomes_a_jpeg(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (30, 30)).save(file, "TIFF" if mode == "CMYK" else "PNG")
    assert (thumbnail(file.getvalue()) or b"").startswith(b"\xff\xd8")


def test_what_is_no_image_is_none() -> None:
    assert thumbnail(b"") is None
    assert thumbnail(b"no image") is None
    assert thumbnail(jpeg(0, 300, 300)[:2000]) is None


def test_a_picture_that_takes_too_much_work_has_no_thumbnail() -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(file, "JPEG", progressive=True)
    image = file.getvalue()
    last = image.rindex(b"\xff\xda")
    assert thumbnail(image) is not None
    assert thumbnail(image[:-2] + image[last:-2] * 500 + image[-2:]) is None
