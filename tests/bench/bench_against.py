"""What `dedup --against` finds of copies that were changed, and what else it drops.

The pictures are discs that hide each other, which gives them much of what is common to photographs. First a small CLIP
is trained on such pictures, for some minutes (disc_model.py). CLIPMILL_BENCH_MODEL names another model instead, as
`--model` does; for `tiny`, the pictures are the scenes that it knows. CLIPMILL_BENCH_OTHERS says how many others there
are.

In quick mode the model has random weights. It shows that what is as near as the threshold is found, and nothing about
real models: for it, all pictures are alike.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import benchkit
import disc_model
import numpy as np
import pyarrow.parquet as pq
from benchkit import Row, Spread, expect
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.clipmodel import weights
from clipmill.jobs.drawn.paint import draw
from clipmill.jobs.drawn.pairs import PairSpec, scene_of
from clipmill.pipeline import DedupJob, EmbedJob, dedup, embed
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.running.cluster import connected
from fakes import sharp_model, write_tar

TESTS, OTHERS, A_SHARD = 1000, 20_000, 2000  # pictures
SCENE_SIDE = 256  # pixels
THRESHOLDS = (0.90, 0.95, 0.97, 0.98, 0.99)
MODEL = os.environ.get("CLIPMILL_BENCH_MODEL", "")


def picture(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    if MODEL == "tiny":
        scene, _ = scene_of(PairSpec(), seed)
        return draw(scene, SCENE_SIDE, SCENE_SIDE, random)
    return disc_model.discs(random)


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def _resized(file: bytes) -> bytes:
    image = _opened(file)
    return as_jpeg(image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BICUBIC))


def _cropped(file: bytes) -> bytes:
    image = _opened(file)
    edge = round(image.width * 0.025)
    return as_jpeg(image.crop((edge, edge, image.width - edge, image.height - edge)))


COPIES: Mapping[str, Callable[[bytes], bytes]] = {
    "equal": lambda file: file,
    "resized to 3/4": _resized,
    "compressed again, quality 60": lambda file: as_jpeg(_opened(file), 60),
    "cropped by 5 %": _cropped,
}


def _members(kind: str, seeds: range) -> Iterator[tuple[str, bytes]]:
    for seed in seeds:
        yield f"{kind[:3]}{seed:07d}.jpg", COPIES[kind](as_jpeg(picture(seed)))


def _write(folder: Path, kind: str, seeds: range) -> None:
    write_tar(folder / f"{kind[:3]}-{seeds.start:07d}.tar", _members(kind, seeds))


def _made(path: Path, quick: bool) -> str:
    """Make the model of this benchmark, and return what `--model` calls it."""
    if quick:
        weights.save(sharp_model().model, path, variant=disc_model.NAME)
    else:
        disc_model.train(path)
    return f"{disc_model.NAME}={path}"


def _embedded(pictures: Path, out: Path, model: str) -> Dataset:
    embed(EmbedJob([str(pictures)], str(out), model, texts=False, precision="fp32", embedding_type="float32"))
    return Dataset.open(str(out))


def measure(quick: bool) -> list[Row]:
    tests, others = (20, 60) if quick else (TESTS, int(os.environ.get("CLIPMILL_BENCH_OTHERS", OTHERS)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tests").mkdir()
        (folder / "pictures").mkdir()
        model = MODEL or _made(folder / "model.safetensors", quick)
        later = [range(start, min(start + A_SHARD, tests + others)) for start in range(tests, tests + others, A_SHARD)]
        with ProcessPoolExecutor() as pool:
            kinds = [(folder / "pictures", kind, range(tests)) for kind in COPIES]
            kinds += [(folder / "tests", "equal", range(tests))]
            kinds += [(folder / "pictures", "equal", seeds) for seeds in later]
            list(pool.map(_write, *zip(*kinds, strict=True)))
        with connected("local"):
            dataset = _embedded(folder / "pictures", folder / "out", model)
            reference = _embedded(folder / "tests", folder / "reference", model)
        rows = []
        for threshold in (0.95,) if quick else THRESHOLDS:
            rows += _found(dataset, reference, folder / f"clean-{threshold}", threshold, tests, others)
    return rows


def _found(dataset: Dataset, reference: Dataset, out: Path, threshold: float, tests: int, others: int) -> list[Row]:
    job = DedupJob(dataset.url, str(out), against=[reference.url], threshold=threshold, only_against=True)
    dedup(job)
    keys = [key for part in Path(out).glob("data/*") for key in pq.read_table(part, columns=["key"])["key"].to_pylist()]
    kept = {kind: sum(key.startswith(kind[:3]) and int(key[3:]) < tests for key in keys) for kind in COPIES}
    expect(kept["equal"] == 0, "dedup: equal files are left")
    dropped = others - sum(int(key[3:]) >= tests for key in keys)
    name = f"dedup --against at {threshold:g}"
    rows = [
        Row(f"{name}: {kind}", "% found", Spread.of([100 * (1 - kept[kind] / tests)]), note=f"of {tests:,}")
        for kind in COPIES
    ]
    return [*rows, Row(f"{name}: others dropped", "%", Spread.of([100 * dropped / others]), note=f"of {others:,}")]


if __name__ == "__main__":
    benchkit.main(measure)
