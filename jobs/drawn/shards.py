"""Drawn pairs as WebDataset shards, as img2dataset writes them: NNNNN.tar, NNNNN.parquet, NNNNN_stats.json."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .damage import DAMAGES, Files
from .pairs import Pair, PairSpec, pair_of, scene_of


@dataclass(frozen=True)
class DrawnSpec:
    """A data set of drawn pairs."""

    pairs: int
    shards: int
    series: PairSpec = field(default_factory=PairSpec)
    wrong_captions: float = 0.0  # share of pairs that carry another picture's caption; their json says whose
    damaged: int = 0  # pairs with broken files, each in another way while `damage.DAMAGES` lasts

    def indices(self, shard: int) -> range:
        """The numbers of a shard's pairs; shards differ in length by one at most."""
        return range(self.pairs * shard // self.shards, self.pairs * (shard + 1) // self.shards)


def write_shards(
    spec: DrawnSpec, out: Path, processes: int = 1, on_shard: Callable[[Path], None] = lambda _: None
) -> list[Path]:
    """Write all shards into the folder `out`, which is made; returns the tars in order."""
    out.mkdir(parents=True, exist_ok=True)
    if processes <= 1:
        tars = []
        for shard in range(spec.shards):
            tars.append(write_shard(spec, shard, out))
            on_shard(tars[-1])
        return tars
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(write_shard, spec, shard, out) for shard in range(spec.shards)]
        for future in waiting:
            on_shard(future.result())
    return [future.result() for future in waiting]


def write_shard(spec: DrawnSpec, shard: int, out: Path) -> Path:
    """Write one tar, the table beside it and its statistics. The same spec gives the same bytes."""
    damages = _damages(spec)
    rows = []
    path = out / f"{shard:05d}.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in spec.indices(shard):
            pair = pair_of(spec.series, index)
            row = _row(spec, shard, index, pair)
            rows.append(row)
            files: Files = {
                pair.extension: pair.image,
                "txt": row["caption"].encode(),
                "json": json.dumps(row).encode(),
            }
            if index in damages:
                files = DAMAGES[damages[index] % len(DAMAGES)](files)
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{row['key']}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    stats = {"count": len(rows), "successes": len(rows), "failed_to_download": 0, "failed_to_resize": 0}
    path.with_name(f"{path.stem}_stats.json").write_text(json.dumps(stats, indent=1))
    return path


def _row(spec: DrawnSpec, shard: int, index: int, pair: Pair) -> dict[str, Any]:
    """What img2dataset keeps of a pair, and what only a drawn one can tell: the truth."""
    donor = _donor(spec, index, pair)
    caption = pair.caption if donor is None else scene_of(spec.series, donor)[1]
    return {
        "caption": caption,
        "url": f"https://drawn.example/{spec.series.seed}/{index}.{pair.extension}",
        "key": f"{shard:05d}{index - spec.indices(shard).start:04d}",
        "status": "success",
        "error_message": None,
        "width": pair.width,
        "height": pair.height,
        "original_width": pair.width,
        "original_height": pair.height,
        "exif": "{}",
        "sha256": hashlib.sha256(pair.image).hexdigest(),
        "label": pair.scene.things[0].label if len(pair.scene.things) == 1 else None,
        "things": [thing.label for thing in pair.scene.things],
        "caption_is_right": donor is None,
        "caption_of_pair": index if donor is None else donor,
    }


def _donor(spec: DrawnSpec, index: int, pair: Pair) -> int | None:
    """The number of the pair whose caption this one carries, or None for its own. Their scenes share no thing,
    so that the caption is wrong and not only strange."""
    rng = np.random.default_rng((spec.series.seed, index, 2))
    if rng.random() >= spec.wrong_captions:
        return None
    own = {thing.label for thing in pair.scene.things}
    while True:
        donor = int(rng.integers(spec.pairs))
        if own.isdisjoint(thing.label for thing in scene_of(spec.series, donor)[0].things):
            return donor


def _damages(spec: DrawnSpec) -> dict[int, int]:
    """Number of a pair -> which damage it has."""
    chosen = np.random.default_rng((spec.series.seed, 3)).choice(spec.pairs, spec.damaged, replace=False)
    return {int(index): kind for kind, index in enumerate(chosen)}
