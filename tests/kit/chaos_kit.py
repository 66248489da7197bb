"""What tests that do damage share: what has to be true afterwards, and the ways to do it.

Ray's workers get this module by value, as they get `fakes`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding import shard_reader as decoding
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard, ShardStats
from fakes import FakeEncoder, attempt, fake_tools, jpeg
from living import living, name_of

EXECUTABLE = Path(sys.executable).with_name("clipmill")
TESTS = Path(__file__).resolve().parents[1]
LEDGER = {"plan.json", "shards.parquet", "manifest.parquet", "summary.json", "failed_shards.json"}


# --- what has to be true ---------------------------------------------------------------------------------------------


def identities(shards: Sequence[Shard]) -> Counter[tuple[str, str]]:
    """(shard, key) of every sample that went in."""
    return Counter((shard.url, sample.key) for shard in shards for sample in read_samples(shard))


def rows(out: Path) -> Counter[tuple[str, str]]:
    """(shard, key) of every row of every part."""
    found: Counter[tuple[str, str]] = Counter()
    for part in committed(out):
        table = pq.read_table(part, columns=["shard", "key"])
        found.update(zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True))
    return found


def committed(out: Path) -> list[Path]:
    return sorted(out.glob("data/*.parquet"))


def fingerprints(out: Path) -> dict[str, tuple[int, int, str]]:
    """Each part's inode, when it was written and what it holds: the same only for one that nobody touched."""
    found = {}
    for part in committed(out):
        stat = part.stat()
        found[part.name] = (stat.st_ino, stat.st_mtime_ns, hashlib.sha256(part.read_bytes()).hexdigest())
    return found


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def check_exact(out: Path, shards: Sequence[Shard], besides: set[str]) -> None:
    """Every sample is one row, every shard one part, and `besides` is all else that there is."""
    assert rows(out) == identities(shards)
    assert files(out) == {f"data/{shard.part_name}" for shard in shards} | besides


# --- drivers to be killed --------------------------------------------------------------------------------------------


@dataclass
class Driver:
    """`clipmill` in a session of its own, which its Ray processes share."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """The driver alone: its workers have to notice."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def orphans(self) -> list[psutil.Process]:
        """What lives on in its session, but for Ray's agents, who report to a Ray that is gone for up to a minute."""
        return [each for each in _session(self.process.pid) if not name_of(each).endswith("Agent")]

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def driver(arguments: Sequence[str], log: Path) -> Iterator[Driver]:
    """Whatever is left of it in the end is killed."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [EXECUTABLE, *arguments], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Driver(process, log)
    finally:
        process.kill()
        process.wait(30)
        for each in _session(process.pid):
            with suppress(psutil.Error):
                each.kill()


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(each.pid) == leader:
                found.append(each)
    return living(found)


def until(true: Callable[[], Any], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def script(*arguments: str, seconds: float, **environment: str) -> str:
    """What a Python script of these tests says, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS / "kit"), **environment},
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


# --- workers that die ------------------------------------------------------------------------------------------------

STAGES = ("read", "encode", "before the commit", "after the commit")


@dataclass(frozen=True)
class DyingOutput(Output):
    """Kills the process that commits, once."""

    die: Callable[[str], None] = lambda _: None

    @contextmanager
    def staged(self, name: str, replace: bool = False) -> Generator[Path, None, None]:
        with Output.staged(self, name, replace) as path:
            yield path
            self.die("before the commit")
        self.die("after the commit")


@dataclass(frozen=True)
class Death:
    """Of the first process that comes to a stage for the `at`th time."""

    stage: str
    folder: Path  # where deaths are counted
    at: int = 2
    seen: list[str] = field(default_factory=list)

    def __call__(self, stage: str) -> None:
        if stage != self.stage:
            return
        self.seen.append(stage)
        if len(self.seen) == self.at and attempt(self.folder, "death") == 1:
            os._exit(1)


@dataclass(frozen=True)
class DyingFactory:
    """A factory of workers that embed for real with a fake model, one of whom dies at a stage."""

    out: str
    death: Death

    def __call__(self) -> DyingWorker:
        return DyingWorker(self.out, Death(self.death.stage, self.death.folder, self.death.at))


@dataclass
class DyingWorker:
    out: str
    death: Death

    def __post_init__(self) -> None:
        """Patches this process: it is a worker's, and its end is near."""

        def reading(shard: Shard, *options: Any) -> Iterator[Sample]:
            for sample in read_samples(shard, *options):
                if sample.row == 5:
                    self.death("read")
                yield sample

        decoding.read_samples = reading

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        tools = fake_tools(FakeEncoder(on_call=lambda *_: self.death("encode")))
        return embed_shard(shard, tools, DyingOutput(self.out, die=self.death), on_rows)


@dataclass(frozen=True)
class SlowFactory:
    """A factory of workers that take their time, and write down where they are."""

    out: str
    folder: Path  # gets an empty file NODE.SHARD for every shard that was done
    pause: float  # seconds a call of the encoder

    def __call__(self) -> SlowFactory:
        return self

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        import ray

        tools = fake_tools(FakeEncoder(on_call=lambda *_: time.sleep(self.pause)))
        stats = embed_shard(shard, tools, Output.at(self.out), on_rows)
        (self.folder / f"{ray.get_runtime_context().get_node_id()}.{Path(shard.url).stem}").touch()
        return stats


# --- large shards ----------------------------------------------------------------------------------------------------


def write_large_tar(path: Path, size: int, image_bytes: int = 200_000) -> Shard:
    """A tar of about `size` bytes, most of them holes: one small JPEG with zeros behind, again and again."""
    image = jpeg(width=64, height=48)
    with path.open("wb") as file:
        for i in range(size // image_bytes):
            info = tarfile.TarInfo(f"{i:07d}.jpg")
            info.size = image_bytes
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            file.write(image)
            file.seek(image_bytes - len(image) + -image_bytes % 512, os.SEEK_CUR)
        file.write(bytes(1024))
    return Shard(str(path), path.stat().st_size)


def peak_memory() -> int:
    """Bytes that this process has held at most. Linux's getrusage counts the parent's share at the fork in."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) << 10
    import resource  # where the system has it

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
