"""Shards for GPUs: few pictures in one tar, and as many names for that file as a run is to be long."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from PIL import Image
from web_pairs import PairsSpec, jpeg, write_tar

Kind = Literal["512x384", "1500x1000", "mixed"]
_DISTINCT = {"512x384": 200, "1500x1000": 40, "mixed": 100}  # pictures


@dataclass(frozen=True)
class Shards:
    """One tar, again and again."""

    tar: Path
    pairs: int  # in it

    def linked(self, count: int, folder: Path) -> list[Path]:
        """So many names for it: each is read, and embedded, as a shard of its own. They take no room."""
        folder.mkdir(parents=True)
        names = [folder / f"{number:05d}.tar" for number in range(count)]
        for name in names:
            os.link(self.tar, name)
        return names


def write(kind: Kind, pairs: int, folder: Path) -> Shards:
    """Same kind, same pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(islice(_pictures(kind), min(_DISTINCT[kind], pairs)))
    return Shards(write_tar(folder / f"{kind}.tar", PairsSpec(1, pairs), pictures), pairs)


def _pictures(kind: Kind) -> Iterator[tuple[str, bytes]]:
    """(extension, file) of each picture. mixed: of ten, three progressive JPEGs, one PNG, one WebP, two JPEGs of
    1500x1000 and three usual ones."""
    seed = 0
    while True:
        if kind == "mixed":
            for number in range(10):
                yield _mixed(seed + number, number)
            seed += 10
        else:
            yield "jpg", jpeg(seed, (1500, 1000) if kind == "1500x1000" else (512, 384))
            seed += 1


def _mixed(seed: int, number: int) -> tuple[str, bytes]:
    plain = jpeg(seed, (1500, 1000) if number in (5, 6) else (512, 384))
    if number in (0, 1, 2):
        return "jpg", _again(plain, "JPEG", quality=85, progressive=True)
    if number == 3:
        return "png", _again(plain, "PNG", compress_level=1)
    if number == 4:
        return "webp", _again(plain, "WEBP", quality=85, method=2)
    return "jpg", plain


def _again(picture: bytes, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(file, form, **options)
    return file.getvalue()
