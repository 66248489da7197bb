"""From bytes to embeddings on a GPU: in one process, and whole runs with nvidia-smi looking on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.dataset.columns import DEFAULT_COLUMNS
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.embedding.chunk import Chunk
from clipmill.pipeline.embedding.clock import Clock
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import ClipEncoder
from clipmill.pipeline.embedding.gpu_decode import GpuDecoder, open_decoder
from clipmill.pipeline.embedding.shard_reader import ThreadedReader
from clipmill.pipeline.embedding.together import Decoders
from clipmill.pipeline.records import Shard
from gpu_data import Shards

_THREADS = 3  # chunks that are decoded at a time, as in a worker with several shards in hand
_LOOK = 0.5  # seconds
_STOPPED = 130  # exit code of a run that was stopped
_PATIENCE = 40.0  # seconds until it has done so


def read_ahead(shards: Shards, size: int) -> tuple[list[Chunk], Preprocess]:
    """A shard's chunks with their images still encoded, and how these are to be preprocessed."""
    preprocess = Preprocess(size, decoding="close")
    decoders = Decoders((Decoder(preprocess, Tokenizer()),)).leaving_jpegs()
    with ThreadPoolExecutor(4) as pool:
        reader = ThreadedReader(decoders, PartLayout(DEFAULT_COLUMNS, 512, 77), pool)
        with reader.decoded(Shard(str(shards.tar), shards.tar.stat().st_size), Clock()) as chunks:
            return list(chunks), preprocess


def opened(device: str, preprocess: Preprocess) -> GpuDecoder | None:
    return open_decoder(device, [preprocess])


def bytes_to_embeddings(
    chunks: Sequence[Chunk], decoder: GpuDecoder, encoder: ClipEncoder | None, seconds: float
) -> float:
    """Images a second; without an encoder, of decoding and resizing alone."""
    end, done, lock = time.perf_counter() + seconds, 0, threading.Lock()

    def work(first: int) -> None:
        nonlocal done
        number = first
        while time.perf_counter() < end:
            waiting: list[Any] = []
            while len(waiting) < (encoder.batch_size if encoder else 1):
                chunk = decoder.decode(chunks[number % len(chunks)], Clock())
                waiting += list(chunk.pixels[0])
                number += _THREADS
            if encoder:
                encoder.encode(waiting, [])
            with lock:
                done += len(waiting)

    started = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_THREADS)))
    return done / (time.perf_counter() - started)


@dataclass(frozen=True)
class Run:
    """One `clipmill embed`, from its command line."""

    summary: dict[str, Any]
    words: str  # in which the run told where its time went
    gpu: float | None  # share of the busy time in which nvidia-smi saw the GPU at work
    engines: float | None  # and its JPEG engines
    cores: float  # that were busy on the machine

    @property
    def rate(self) -> float:
        rate: float = self.summary["samples_per_second"]
        return rate


def run(model: Path, shards: Sequence[Path], options: Sequence[str], seconds: float) -> Run:
    """It is stopped after so long, as by Ctrl-C, if it has not ended before: the shards in hand end, and count.
    RuntimeError where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out, listed = Path(folder) / "out", Path(folder) / "shards.txt"
        listed.write_text("\n".join(map(str, shards)))
        clipmill = [sys.executable, "-m", "clipmill.jobs.cli"]
        words = [*clipmill, "embed", f"@{listed}", "-o", str(out), "-m", str(model), "--address", "local", *options]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1", "COLUMNS": "1000"}
        with _Watch() as watch:
            complaint, code = _ended(words, environment, folder, seconds)
        if code not in (0, _STOPPED):
            raise RuntimeError(f"{' '.join(words)}: exit code {code}\n{complaint[-3000:]}")
        (found,) = out.rglob("summary.json")
        summary = json.loads(found.read_text())
        told = subprocess.run(
            [*clipmill, "status", str(out)], env=environment, capture_output=True, text=True, check=True
        )
        where = next((line for line in told.stdout.splitlines() if "bottleneck" in line), "")
    busy = int(summary["run"]["rows"] / summary["samples_per_second"] / _LOOK)
    return Run(summary, " ".join(where.split()), *watch.shares(busy))


def _ended(words: Sequence[str], environment: dict[str, str], folder: str, seconds: float) -> tuple[str, int]:
    """What it complained of, and its exit code."""
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        try:
            return process.communicate(timeout=seconds)[1], process.returncode
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=_PATIENCE)[1], process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            return f"did not stop within {_PATIENCE:g} s", -1


class _Watch:
    """Looks at the GPU through nvidia-smi, and at the cores."""

    def __init__(self) -> None:
        self._cores: list[float] = []
        self._gpu: list[tuple[float, float]] = []  # percent: kernels, JPEG engines
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=look, daemon=True) for look in (self._look, self._ask)]

    def __enter__(self) -> _Watch:
        psutil.cpu_percent()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def shares(self, last: int) -> tuple[float | None, float | None, float]:
        """Over the last so many looks, but for the end of the process."""
        end = -int(1.5 / _LOOK)  # Ray's own end
        cores, gpu = self._cores[:end][-last:], self._gpu[:end][-last:]
        mean = [sum(values) / len(values) / 100 for values in zip(*gpu, strict=True)] if gpu else [None, None]
        return mean[0], mean[1], sum(cores) / max(1, len(cores)) / 100 * (psutil.cpu_count() or 1)

    def _look(self) -> None:
        while not self._stopped.wait(_LOOK):
            self._cores.append(psutil.cpu_percent())

    def _ask(self) -> None:
        if not shutil.which("nvidia-smi"):
            return
        for fields in ("utilization.gpu,utilization.jpeg", "utilization.gpu"):  # older drivers know the first alone
            words = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "-i", "0"]
            command = [*words, "-lms", str(int(1000 * _LOOK))]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                threading.Thread(target=lambda p=process: (self._stopped.wait(), p.terminate()), daemon=True).start()
                for line in process.stdout or ():
                    self._gpu += [_percents(line)] if line[:1].isdigit() else []
            if self._gpu:
                return


def _percents(line: str) -> tuple[float, float]:
    values = [float(part) if part.strip().isdigit() else 0.0 for part in line.split(",")]
    return values[0], values[1] if len(values) > 1 else 0.0
