"""What a file is, told from its first bytes; its name says nothing. A further type is a row of a table here."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = 4096  # bytes that are looked at
_EXTRA = "pip install 'clipmill[images]'"


@dataclass(frozen=True)
class Kind:
    name: str  # as reasons call it
    pattern: re.Pattern[bytes] | None  # of its first bytes
    plugin: str | None = None  # Pillow's name for what decodes it; None: nothing does
    refusal: str = ""  # the reason, where nothing decodes it
    sure: bool = True  # its first bytes are seldom met by chance


def _decoded(name: str, pattern: bytes, sure: bool = True) -> Kind:
    return Kind(name, _compiled(pattern), name, f"{name} is not supported here", sure)


def _plugged(name: str, pattern: bytes, plugin: str) -> Kind:
    return Kind(name, _compiled(pattern), plugin, f"{name} is not supported; {_EXTRA}")


def _unsupported(name: str, pattern: bytes) -> Kind:
    return Kind(name, _compiled(pattern), refusal=f"{name} is not supported")


def _other(name: str, pattern: bytes) -> Kind:
    return Kind(name, _compiled(pattern), refusal=f"{name}, not an image")


def _compiled(pattern: bytes) -> re.Pattern[bytes] | None:
    return re.compile(pattern, re.DOTALL) if pattern else None


# Told by the brands that the file says it follows.
_AVIF = _decoded("AVIF", b"")
_HEIC = _plugged("HEIC", b"", "HEIF")
_CR3 = _unsupported("Canon CR3", b"")
_QUICKTIME = _other("a QuickTime video", rb"....(?:moov|mdat|wide)")
_MP4 = _other("an MP4 video", b"")

# In order: what is told by few bytes stands after what is told by many.
_KINDS = (
    _decoded("JPEG", rb"\xff\xd8\xff"),
    _decoded("PNG", rb"\x89PNG\r\n\x1a\n"),
    _decoded("WEBP", rb"RIFF....WEBP"),
    _decoded("GIF", rb"GIF8[79]a"),
    _decoded("JPEG2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
    _plugged("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    _unsupported("DICOM", rb".{128}DICM"),
    _unsupported("Olympus ORF", rb"IIR[OS]|MMOR"),
    _unsupported("Panasonic RW2", rb"IIU\0"),
    _unsupported("JPEG XR", rb"II\xbc[\0\x01]"),
    _decoded("TIFF", rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]|MM\x2a\0|II\0\x2a"),
    _decoded("PSD", rb"8BPS"),
    _decoded("QOI", rb"qoif"),
    _decoded("DDS", rb"DDS \x7c\0\0\0"),
    _decoded("ICNS", rb"icns"),
    _decoded("BLP", rb"BLP[12]"),
    _decoded("SUN", rb"\x59\xa6\x6a\x95"),
    _decoded("MSP", rb"DanM|LinS"),
    _decoded("IM", rb"Image type: "),
    _decoded("DCX", rb"\xb1\x68\xde\x3a"),
    _decoded("PIXAR", rb"\x80\xe8\0\0"),
    _decoded("GBR", rb"\0\0..\0\0\0\x02.{12}GIMP"),
    _unsupported("XPM", rb"/\* XPM \*/"),
    _unsupported("FLI", rb"....[\x11\x12]\xaf.{8}[\0\x03]\0"),
    _unsupported("FTEX", rb"FTEX"),
    _unsupported("Radiance HDR", rb"#\?(?:RADIANCE|RGBE)"),
    _unsupported("OpenEXR", rb"\x76\x2f\x31\x01"),
    _unsupported("Fujifilm RAF", rb"FUJIFILMCCD-RAW"),
    _unsupported("Canon CRW", rb"II\x1a\0\0\0HEAPCCDR"),
    _unsupported("GIMP XCF", rb"gimp xcf"),
    _unsupported("FLIF", rb"FLIF"),
    _unsupported("BPG", rb"BPG\xfb"),
    _unsupported("DjVu", rb"AT&TFORM"),
    _unsupported("FITS", rb"SIMPLE  ="),
    _unsupported("WMF", rb"\xd7\xcd\xc6\x9a"),
    _unsupported("EMF", rb"\x01\0\0\0.{36} EMF"),
    _unsupported("EPS", rb"%!PS|\xc5\xd0\xd3\xc6"),
    _other("a Git LFS pointer", rb"version https://git-lfs"),
    _other("a gzip file", rb"\x1f\x8b"),
    _other("a ZIP file", rb"PK(?:\x03\x04|\x05\x06)"),
    _other("a 7z file", rb"7z\xbc\xaf\x27\x1c"),
    _other("an xz file", rb"\xfd7zXZ\0"),
    _other("a bzip2 file", rb"BZh[1-9]"),
    _other("a Zstandard file", rb"\x28\xb5\x2f\xfd"),
    _other("a RAR file", rb"Rar!\x1a\x07"),
    _other("a tar file", rb".{257}ustar"),
    _other("a WebM or Matroska video", rb"\x1a\x45\xdf\xa3"),
    _other("an AVI video", rb"RIFF....AVI "),
    _other("a WAV recording", rb"RIFF....WAVE"),
    _other("a Flash video", rb"FLV\x01"),
    _other("an MPEG video", rb"\0\0\x01[\xb3\xba]|\x47.{187}\x47"),
    _other("a Windows Media file", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    _QUICKTIME,
    _other("an Ogg file", rb"OggS"),
    _other("an MP3 recording", rb"ID3[\x02-\x04]|\xff[\xfb\xf3\xf2]"),
    _other("a FLAC recording", rb"fLaC"),
    _other("a MIDI file", rb"MThd\0\0\0\x06"),
    _other("a Flash file", rb"[FCZ]WS[\x01-\x40]"),
    _other("a font", rb"wOF[F2]|OTTO\0|\0\x01\0\0\0[\x01-\x40]"),
    _other("a program", rb"\x7fELF|MZ.{62}"),
    _other("a Parquet file", rb"PAR1"),
    _other("an HDF5 file", rb"\x89HDF\r\n"),
    _other("a NumPy array", rb"\x93NUMPY"),
    _other("a SQLite database", rb"SQLite format 3\0"),
    _other("an Office document", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _other("an RTF document", rb"\{\\rtf"),
    # Told by two bytes, or by none.
    _decoded("PPM", rb"P(?:[1-6f]|0CMYK|y(?:P|RGBA|CMYK))\s"),
    _decoded("BMP", rb"BM"),
    _decoded("SGI", rb"\x01\xda[\0\x01][\x01\x02]"),
    _decoded("PCX", rb"\x0a[\0\x02\x03\x05][\0\x01][\x01\x02\x04\x08]", sure=False),
    _decoded("ICO", rb"\0\0\x01\0[^\0]"),
    _decoded("CUR", rb"\0\0\x02\0[^\0]"),
    _decoded("DIB", rb"[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", sure=False),
    _decoded("TGA", rb".[\0\x01][\x01-\x03\x09-\x0b].{9}(?!\0\0)..(?!\0\0)..[\x01\x08\x10\x18 ][\0-?]", sure=False),
)  # fmt: skip

# Of a text, after its byte order mark, blanks, comments and XML declaration.
_TEXTS = (
    _unsupported("SVG", rb"(?i:<!DOCTYPE\s+svg|<(?:\w+:)?svg[\s>/])"),
    _other("an HTML page", rb"(?i:<(?:!DOCTYPE\s+html|html|head|body|title|script|meta|div|p|h1|center)[\s>/])"),
    _other("a PDF", rb"%PDF-"),
    _other("JSON", rb"\{\s*[\"}]|\[\s*[\"\[{\]\d-]"),
    _decoded("XBM", rb"#define[ \t]+[^\r\n]{0,200}_width[ \t]+\d"),
    _other("XML", rb"<[A-Za-z_:][\w:.-]*[\s>/]"),
)

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif", b"mif1", b"msf1"}


def kind_of(data: bytes) -> Kind | None:
    """None for what is none of these."""
    head = data[:_HEAD]
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    return _first(_KINDS, head) or _first(_TEXTS, _after_preamble(head))


def _first(kinds: tuple[Kind, ...], head: bytes) -> Kind | None:
    return next((kind for kind in kinds if kind.pattern and kind.pattern.match(head)), None)


def _by_brand(head: bytes) -> Kind:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return _AVIF
    if brands & _HEIC_BRANDS:
        return _HEIC
    if head[8:12] == b"crx ":
        return _CR3
    return _QUICKTIME if head[8:12] == b"qt  " else _MP4


def _after_preamble(head: bytes) -> bytes:
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for begin, end in ((b"<?xml", b"?>"), (b"<!--", b"-->")) * 4:
        if head.startswith(begin):
            head = head.partition(end)[2].lstrip()
    return head
