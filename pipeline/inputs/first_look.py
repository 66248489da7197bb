"""A look at the first samples before any work starts: are they pairs, and what is there that is not used?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..errors import InputError, ShardError, UserError
from ..records import USUAL_KEYS, Missing, Note, SampleKeys, Shard
from .grouping import SampleFiles
from .names import IMAGE_EXTENSIONS, JSON_EXTENSION, looks_like_caption, looks_like_image
from .parquet_input import columns_of
from .shards import is_parquet, read_files

_SHARDS = 8  # to look into; usually one is enough
_SAMPLES = 32  # of a shard
_BYTES = 32 << 20  # of a shard's samples

SORT = "mkdir sorted && tar -xf SHARD.tar -C sorted && tar --sort=name -cf SORTED.tar -C sorted ."


@dataclass
class FirstLook:
    """What the first samples of the first shards are."""

    pairs: int = 0  # with an image and a caption
    failed: int = 0
    no_image: Counter[Missing] = field(default_factory=Counter)  # of those that are not failed
    no_caption: Counter[Missing] = field(default_factory=Counter)
    notes: Counter[Note] = field(default_factory=Counter)
    unused_images: dict[str, None] = field(default_factory=dict)  # names of what may be images, and is not used
    unused_captions: dict[str, None] = field(default_factory=dict)
    urls: dict[str, None] = field(default_factory=dict)  # names of fields that hold web addresses
    shard: str = ""  # the first one that was looked into

    def notice(self) -> str | None:
        """One line about what looks like images or captions and is not used, None where there is no such thing."""
        parts = [
            f"{', '.join(names)} may hold {side}s, but is not used: to use it, give {option}"
            for side, names, option in (
                ("image", self.unused_images, "--image-key"),
                ("caption", self.unused_captions, "--caption-key"),
            )
            if names
        ]
        return f"{self.shard}: {'; '.join(parts)}" if parts else None

    def refuse_half_pairs(self, images: bool = True, texts: bool = True) -> None:
        """UserError where both sides are wanted and no sample has both."""
        halves = self.no_image.total() + self.no_caption.total()
        if not (images and texts) or self.pairs or not halves:
            return
        raise UserError(
            f"{self.shard}: none of the first samples has both an image and a caption ({self._counts()}). "
            f"{self._remedy()}To embed them as they are: --no-texts for images alone, --no-images for captions alone, "
            "or --allow-half-pairs"
        )

    def _counts(self) -> str:
        sides = (("image", self.no_image), ("caption", self.no_caption))
        return ", ".join(
            f"{count} without {'an' if side == 'image' else 'a'} {side}: {cause}"
            for side, causes in sides
            for cause, count in causes.most_common()
        )

    def _remedy(self) -> str:
        if self.no_image and self.urls and not self.no_caption:
            urls = ", ".join(self.urls)
            return f"There are only web addresses of images ({urls}): `clipmill ingest` downloads the images. "
        remedies = [
            f"{', '.join(names)} may hold the {side}s: name one by {option}. "
            for side, causes, names, option in (
                ("image", self.no_image, self.unused_images, "--image-key"),
                ("caption", self.no_caption, self.unused_captions, "--caption-key"),
            )
            if causes and names
        ]
        if self.no_caption and self.no_image:
            remedies.append(f"If the files of a sample are apart in the tar, sort it: `{SORT}`. ")
        elif not remedies:
            side, option = ("image", "--image-key") if self.no_image else ("caption", "--caption-key")
            remedies.append(f"If the {side}s have another name, give it by {option}. ")
            if side == "caption":
                remedies.append(f"If they come later in the tar, sort it: `{SORT}`. ")
        return "".join(remedies)


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
            look.unused_images |= dict.fromkeys(_unused_images(sample, keys))
            look.unused_captions |= dict.fromkeys(_unused_captions(sample, keys))
        size += sum(len(file.data or b"") for file in sample.files)
        if size > _BYTES:
            break


def _count(sample: SampleFiles, look: FirstLook) -> None:
    look.notes.update(sample.notes)
    look.urls |= dict.fromkeys(name for name, value in sample.metadata.items() if _is_url(value))
    if sample.error:
        look.failed += 1
        return
    if sample.no_image:
        look.no_image[sample.no_image] += 1
    if sample.no_caption:
        look.no_caption[sample.no_caption] += 1
    look.pairs += not (sample.no_image or sample.no_caption)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _unused_images(sample: SampleFiles, keys: SampleKeys) -> Iterator[str]:
    if sample.image is None:
        yield from (file.extension for file in sample.files if file.kind in IMAGE_EXTENSIONS)
        yield from (name for name, value in sample.metadata.items() if looks_like_image(name) and _may_be_image(value))


def _may_be_image(value: Any) -> bool:
    """Text that long may be base64."""
    return isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) > 64 and not _is_url(value))


def _unused_captions(sample: SampleFiles, keys: SampleKeys) -> Iterator[str]:
    used = {"caption", *keys.caption}
    for file in sample.files:
        if file.kind not in (JSON_EXTENSION, "txt") and looks_like_caption(file.extension):
            yield file.extension
    for name, value in sample.metadata.items():
        if name not in used and looks_like_caption(name) and isinstance(value, (str, list, dict)):
            yield name
