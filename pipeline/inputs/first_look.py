"""A look at the first samples before any work starts: are they pairs, and what is there that is not used?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from ..choices import USUAL_KEYS, SampleKeys
from ..errors import InputError, ShardError, UserError
from ..records import Missing, Note, Shard
from .grouping import SampleFiles
from .names import (
    CAPTION_EXTENSION,
    IMAGE_EXTENSIONS,
    JSON_CAPTION,
    JSON_EXTENSION,
    looks_like_caption,
    looks_like_image,
)
from .parquet_input import columns_of
from .shards import is_parquet, read_files

_SHARDS = 8  # to look into; usually one is enough
_SAMPLES = 32  # of a shard
_BYTES = 32 << 20  # of a shard's samples


@dataclass
class FirstLook:
    """What the first samples of the first shards are."""

    shard: str = ""  # the first one
    samples: int = 0  # that are not failed
    pairs: int = 0  # of these, with an image and a caption
    no_image: Counter[Missing] = field(default_factory=Counter)  # of these, by cause
    no_caption: Counter[Missing] = field(default_factory=Counter)
    notes: Counter[Note] = field(default_factory=Counter)
    unused_images: dict[str, None] = field(default_factory=dict)  # names of what may be images, and is not used
    unused_captions: dict[str, None] = field(default_factory=dict)
    urls: dict[str, None] = field(default_factory=dict)  # names of fields that hold web addresses

    def notice(self) -> str | None:
        """One line that names what looks like images or captions and is not used; None where there is no such thing."""
        parts = [
            f"{', '.join(names)} may hold {side}s but {'is' if len(names) == 1 else 'are'} not used (see {option})"
            for side, names, option in self._unused()
            if names
        ]
        return f"{self.shard}: {'; '.join(parts)}" if parts else None

    def refuse_half_pairs(self, images: bool = True, texts: bool = True) -> None:
        """UserError where images and texts are wanted and no sample has both. Failed samples do not count."""
        if not (images and texts) or self.pairs or not self.samples:
            return
        raise UserError(
            f"{self.shard}: none of the first {self.samples} samples has both an image and a caption: "
            f"{self._counts()}. {self._remedy()}. --no-texts embeds images alone, --no-images captions alone, and "
            "--allow-half-pairs both as they are"
        )

    def _counts(self) -> str:
        sides = (("an image", self.no_image), ("a caption", self.no_caption))
        return ", ".join(f"{causes.total()} without {side} ({_spelt(causes)})" for side, causes in sides if causes)

    def _unused(self) -> list[tuple[str, dict[str, None], str]]:
        return [
            ("image", self.unused_images if self.no_image or not self.samples else {}, "--image-key"),
            ("caption", self.unused_captions, "--caption-key"),
        ]

    def _remedy(self) -> str:
        if self.notes["key came back"]:
            return f"Files of the same key are apart in the tar: sort it ({_sorting(self.shard)})"
        if self.urls and self.no_image.total() == self.samples:
            return f"There are only web addresses of images ({', '.join(self.urls)}): `clipmill ingest` downloads them"
        for side, names, option in self._unused():
            if names and (self.no_image if side == "image" else self.no_caption):
                return f"The {side}s may be in {', '.join(names)}: {option} {next(iter(names))}"
        side, option = ("caption", "--caption-key") if self.no_caption else ("image", "--image-key")
        return (
            f"{option} names the extension, column or field of the {side}s; where they come later in a tar, sort it "
            f"({_sorting(self.shard)})"
        )


def _spelt(causes: Counter[Missing]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in causes.most_common())


def _sorting(url: str) -> str:
    """The command that brings the files of a tar into the order of their names."""
    name = PurePosixPath(url).name if url.lower().endswith(".tar") else "SHARD.tar"
    return f"mkdir sorted && tar -xf {name} -C sorted && tar --sort=name -cf sorted-{name} -C sorted ."


def look_into(
    shards: Sequence[Shard], storage_options: Mapping[str, Any] | None = None, keys: SampleKeys = USUAL_KEYS
) -> FirstLook:
    """Look at the first samples of the first shards, until there is a pair. InputError when all of these shards cannot
    be read: what was named is something else. One that can be read is enough, since a bad shard among good ones is for
    the run to count."""
    look, reasons, readable = FirstLook(), [], False
    for shard in shards[:_SHARDS]:
        try:
            _see(shard, storage_options, keys, look)
            readable = True
        except ShardError as error:
            reasons.append(str(error))
        except Exception:  # the storage hiccups: workers try again
            readable = True
        if look.pairs:
            break
    if reasons and not readable:
        raise InputError(reasons[0] + (f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""))
    return look


def _see(shard: Shard, storage_options: Mapping[str, Any] | None, keys: SampleKeys, look: FirstLook) -> None:
    look.shard = look.shard or shard.url
    if is_parquet(shard.url):
        columns = columns_of(shard, storage_options, keys)
        look.unused_images |= dict.fromkeys(columns.unused_images)
        look.unused_captions |= dict.fromkeys(columns.unused_captions)
    size = 0
    for sample in islice(read_files(shard, storage_options, keys), _SAMPLES):
        _count(sample, look)
        if not is_parquet(shard.url):
            look.unused_images |= dict.fromkeys(_unused_images(sample))
            look.unused_captions |= dict.fromkeys(_unused_captions(sample))
        size += sum(len(file.data or b"") for file in sample.files)
        if size > _BYTES:
            break


def _count(sample: SampleFiles, look: FirstLook) -> None:
    look.notes.update(sample.notes)
    look.urls |= dict.fromkeys(name for name, value in sample.metadata.items() if _is_url(value))
    if sample.error:
        return
    look.samples += 1
    look.pairs += not (sample.no_image or sample.no_caption)
    look.no_image.update([sample.no_image] if sample.no_image else [])
    look.no_caption.update([sample.no_caption] if sample.no_caption else [])


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _unused_images(sample: SampleFiles) -> Iterator[str]:
    """Names of what may be the sample's image; none where it has one."""
    if sample.image is None:
        yield from (file.extension for file in sample.files if file.kind in IMAGE_EXTENSIONS)
        yield from (name for name, value in sample.metadata.items() if looks_like_image(name) and _may_be_image(value))


def _may_be_image(value: Any) -> bool:
    """Text of that length may be base64."""
    return isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) > 64 and not _is_url(value))


def _unused_captions(sample: SampleFiles) -> Iterator[str]:
    """Names of what may be captions and is not the sample's; its json repeats the caption, as img2dataset writes it."""
    for file in sample.files:
        known = file.kind in (JSON_EXTENSION, CAPTION_EXTENSION) or sample.caption == (file.data or b"")
        if not known and looks_like_caption(file.extension):
            yield file.extension
    for name, value in sample.metadata.items():
        known = name in (JSON_CAPTION, *sample.fields) or not isinstance(value, (str, list, dict))
        if not known and looks_like_caption(name):
            yield name
