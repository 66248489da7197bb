"""A file's type is told from its content, and named in the reason why it is not decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.pictures import opening
from clipmill.clipmodel.pictures.kinds import kind_of
from clipmill.clipmodel.preprocess import Preprocess
from picture_kit import drawn, encoded, files, plugged
from PIL import Image

SIZE = 32


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(data)
    return str(caught.value)


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in ("pillow_heif", "pillow_jxl", "pillow_jxl.JpegXLImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    opening._plugin.cache_clear()
    yield
    opening._plugin.cache_clear()


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


HTML = "an HTML page, not an image"
SVG = "SVG is not supported"


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"<!doctype html><title>403</title>", HTML),
        (b"\xef\xbb\xbf \r\n<!-- saved --><HTML lang=en>", HTML),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">', HTML),
        (b"<script>location='/'</script>", HTML),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', SVG),
        (b'<?xml version="1.0"?><!-- Inkscape --><!DOCTYPE svg PUBLIC "a"><svg/>', SVG),
        (b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>', SVG),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML, not an image"),
        (b'{"error": "not found"}', "JSON, not an image"),
        (b'\n[{"a": 1}]', "JSON, not an image"),
        (b"%PDF-1.7\n%", "a PDF, not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS is not supported"),
        (b"\x1f\x8b\x08\0" + bytes(20), "a gzip file, not an image"),
        (zipped(), "a ZIP file, not an image"),
        (tarred(), "a tar file, not an image"),
        (box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + box(b"moov", b""), "an MP4 video, not an image"),
        (box(b"ftyp", b"qt  \0\0\0\0qt  "), "a QuickTime video, not an image"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1webm", "a WebM or Matroska video, not an image"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video, not an image"),
        (b"ID3\3\0\0\0\0", "an MP3 recording, not an image"),
        (b"\0\0\1\xba\x44", "an MPEG video, not an image"),
        (box(b"ftyp", b"crx \0\0\0\1crx isom"), "Canon CR3 is not supported"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer, not an image"),
        (b"/* XPM */\nstatic char *a[] = {", "XPM is not supported"),
        (b"8BPB" + bytes(40), "not an image"),
        (b"plain words", "not an image"),
        (bytes(3000), "not an image"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str) -> None:
    assert refusal(data) == reason
    assert refusal(data) == reason


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_is_named_with_the_remedy_where_its_plugin_is_not_installed(brand: bytes, without_plugins: None) -> None:
    data = box(b"ftyp", brand + b"\0\0\0\0mif1heic") + box(b"meta", bytes(40))
    assert refusal(data) == "HEIC is not supported; pip install 'clipmill[images]'"


def test_jpeg_xl_is_named_with_the_remedy_where_its_plugin_is_not_installed(without_plugins: None) -> None:
    for data in (b"\xff\x0a" + bytes(20), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20)):
        assert refusal(data) == "JPEG XL is not supported; pip install 'clipmill[images]'"


def test_files_of_many_brands_are_what_one_of_them_says() -> None:
    kinds = {b"mif1miafavif": "AVIF", b"mif1miafheic": "HEIC", b"avifmif1": "AVIF", b"isommp41": "an MP4 video"}
    for brands, name in kinds.items():
        kind = kind_of(box(b"ftyp", brands[:4] + b"\0\0\0\0" + brands[4:]))
        assert kind is not None and kind.name == name


@pytest.mark.parametrize("name", plugged())
def test_what_a_plugin_decodes_is_close_to_what_it_was_made_of(name: str) -> None:
    data, source = plugged()[name]
    pixels, size = Preprocess(SIZE).with_size(data)
    assert size == source.size
    assert np.abs(pixels.astype(int) - Preprocess(SIZE)(source)).mean() < 8


@pytest.mark.parametrize("name", plugged())
def test_half_of_what_a_plugin_decodes_is_a_failure_that_names_the_type(name: str) -> None:
    data, _ = plugged()[name]
    assert refusal(data[: len(data) // 2]).removeprefix("truncated ").removeprefix("broken ") in ("HEIC", "JPEG XL")


def test_plugins_are_imported_when_a_file_needs_them() -> None:
    script = f"""
import sys
from clipmill.clipmodel.preprocess import Preprocess
Preprocess(8)({files()["jpeg"]!r})
assert not {{"pillow_heif", "pillow_jxl"}} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in files() if name != "icon"])
def test_the_name_of_a_type_is_that_of_the_plugin_that_decodes_it(name: str) -> None:
    kind = kind_of(files()[name])
    expected = "JPEG" if name == "two-picture jpeg" else Image.open(io.BytesIO(files()[name])).format
    assert kind is not None and kind.plugin == expected


def test_a_page_that_is_no_end_of_comments_takes_no_time() -> None:
    began = time.monotonic()
    for text in (b"<!-- -->" * 500_000, b"<!--" * 900_000, b" " * 4_000_000, b"[" * 4_000_000, b"<?xml ?>" * 500_000):
        refusal(text)
        refusal(text + b"<p>")
    assert time.monotonic() - began < 2


def test_formats_that_pillow_only_reads_are_decoded() -> None:
    picture = drawn("RGB", 61, 47)
    pcx, raw = encoded(picture, "PCX"), picture.tobytes()
    pixar = bytearray(b"\x80\xe8\0\0" + bytes(1020))
    pixar[416:428] = struct.pack("<6H", 47, 61, 0, 0, 14, 2)
    brush = struct.pack(">5I4sI", 28, 2, 61, 47, 1, b"GIMP", 10) + picture.convert("L").tobytes()
    expected = Preprocess(SIZE)(picture)
    np.testing.assert_array_equal(Preprocess(SIZE)(struct.pack("<3I", 0x3ADE68B1, 12, 0) + pcx), expected)
    np.testing.assert_array_equal(Preprocess(SIZE)(bytes(pixar) + raw), expected)
    np.testing.assert_array_equal(Preprocess(SIZE)(brush), Preprocess(SIZE)(picture.convert("L")))


def test_icons_are_decoded_in_their_largest_size() -> None:
    picture = drawn("RGBA", 64, 64)
    _, size = Preprocess(SIZE).with_size(encoded(picture, "ICO", sizes=[(16, 16), (64, 64)]))
    assert size == (64, 64)
