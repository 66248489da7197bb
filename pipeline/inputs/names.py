"""What the files, columns and fields of a sample are called, and what these names say about them."""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Formats that datasets usually hold; where a sample has several images, these come first.
USUAL_IMAGES = _set("jpg jpeg jfif png webp gif bmp tif tiff avif jp2")

# Everything else that is a picture by its extension, whether it can be decoded or only named in the row's error.
IMAGE_EXTENSIONS = USUAL_IMAGES | _set(
    "apng avifs blp bw cur dcx dds dib emf eps fit fits flc fli ftc ftu gbr heic heics heif heifs hif icb icns ico im "
    "j2c j2k jng jpc jpe jpf jpx jxl jxr mpo msp palm pbm pcd pcx pfm pgm pnm ppm psd pxr qoi ras rgb rgba sgi svg "
    "svgz tga vda vst wdp wmf xbm xpm"
)
CAPTION_EXTENSION, JSON_EXTENSION = "txt", "json"

# Columns of Parquet files, fields of `metadata.jsonl` and middle parts of file names, in order of preference.
IMAGE_NAMES = ("image", "jpg", "png", "webp", "img", "image_bytes", "bytes", "images")
CAPTION_NAMES = ("caption", "text", "txt", "TEXT", "captions")
KEY_NAMES = ("key", "__key__", "id", "uid")
JSON_CAPTION = "caption"  # a sample's json has many fields; only this one is a caption unless the user names another

_WORD = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+")
_IMAGE_WORDS = _set("image images img imgs picture pictures photo photos jpg jpeg png webp pixels")
_CAPTION_WORDS = _set(
    "caption captions text texts txt prompt prompts description descriptions alt alttext sentence sentences title"
)
# Words that make something else of a name: `image_width`, `text_length`, `caption_url`.
_OTHER_WORDS = _set(
    "url urls uri link path file filename name id ids idx index key hash md5 sha sha256 phash width height size length "
    "len count num lang language tokens token score scores similarity embedding embeddings features truncated mask "
    "exif format mode license"
)


def split_name(name: str) -> tuple[str, str] | None:
    """A member's or file's name -> key and lower-cased extension, as WebDataset splits it: at the first dot of the last
    component, the folders staying in the key.

    None for what is no part of a sample: names without an extension, hidden files, and what macOS adds to archives.
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or "__MACOSX" in folder.split("/"):
        return None
    return utf8(folder + slash + stem), extension.lower()


def utf8(name: str) -> str:
    """Keys become Parquet strings, which must be UTF-8: other bytes of a file's name are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def looks_like_image(name: str) -> bool:
    """Whether a column, field or extension may hold images by its name."""
    words = _words(name)
    return not _IMAGE_WORDS.isdisjoint(words) and _OTHER_WORDS.isdisjoint(words)


def looks_like_caption(name: str) -> bool:
    """Whether a column, field or extension may hold captions by its name."""
    words = _words(name)
    return not _CAPTION_WORDS.isdisjoint(words) and _OTHER_WORDS.isdisjoint(words)


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


def image_urls(folder: str, key: str, rare: bool = True) -> list[str]:
    """Where the image of a key may be in a folder (its URL ends in `/`): the extension is written nowhere. Usual ones
    first. rare: all others, too."""
    if "/" in key or key.startswith("."):
        return []
    others = sorted(IMAGE_EXTENSIONS - USUAL_IMAGES) if rare else []
    names = ["jpg", "png", "webp", *sorted(USUAL_IMAGES - {"jpg", "png", "webp"}), *others]
    return [f"{folder}{key}.{spelt}" for name in names for spelt in (name, name.upper())]
