"""`make bench-gpu`: encoders against the GPU's matrix peak, bytes to embeddings, and whole runs, in one go.

It prints as it goes. `--minutes` is how long it may take (8): what does not fit is left out, and it says so. Nothing is
needed but a GPU and clipmill, no network; `offline/` has a way to machines that have none.

Without a GPU it says so; `--quick` then goes through the same code on the CPU, with `tiny`.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import benchkit
import contenders  # noqa: F401 (the tests' helpers are found through it)
import gpu_data
import gpu_flow
import torch
from benchkit import Row, Spread, expect
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import VARIANTS, CLIPConfig, Precision
from clipmill.clipmodel.flops import Flops
from gpu_data import Kind, Shards
from gpu_towers import Tower, attention, from_memory, peak, shallow

MODELS = ("ViT-B/32", "ViT-L/14", "ViT-B/16", "ViT-H-14")
PAIRS_A_SECOND = {"ViT-B/32": 15_000, "ViT-B/16": 9_000, "ViT-L/14": 2_800, "ViT-H-14": 1_350, "tiny": 300}  # about
LEAST = {"bf16": 0.999, "pure_bf16": 0.998, "fp8": 0.97}  # cosine with float32, the mean
START_UP = 20.0  # seconds of a run before its first image
A_PASS = 512  # images


@dataclass
class Session:
    """What one go of all measurements shares."""

    quick: bool
    end: float  # by the monotonic clock
    folder: Path
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[Row] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)  # FLOP a second, by precision
    alone: dict[str, float] = field(default_factory=dict)  # images a second through ClipEncoder, by model
    models: dict[str, Path] = field(default_factory=dict)
    shards: dict[Kind, Shards] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    @contextmanager
    def part(self, what: str, seconds: float) -> Iterator[bool]:
        """Whether there is time for a part that takes about so long. One that fails is told, and the others go on."""
        fits = seconds < self.left
        if not fits:
            self.skipped.append(what)
            print(f"-- left out: {what} takes {seconds:.0f} s, and {max(self.left, 0):.0f} s are left", flush=True)
        try:
            yield fits
        except (RuntimeError, ImportError, OSError, ValueError) as error:
            self.skipped.append(what)
            print(f"-- FAILED: {what}: {type(error).__name__}: {str(error)[:2000]}", flush=True)
        finally:
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()  # for the workers of whole runs

    def tell(self, what: str, unit: str, rate: float, limit: float = 0.0, limit_is: str = "", note: str = "") -> None:
        share = f" = {rate / limit:.2f} of {limit:,.0f} ({limit_is})" if limit > 0 else ""
        note_ = f"  [{note}]" if note else ""
        print(f"{what}: {rate:,.4g} {unit}{share}{note_}".replace(".0 ", " "), flush=True)
        at, one = (Spread.of([limit]), Spread.of([rate / limit])) if limit > 0 else (None, None)
        self.rows.append(Row(what, unit, Spread.of([rate]), at, limit_is, one, note=note))


def measure(quick: bool, minutes: float) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("CLIPMILL_BENCH_FOLDER")) as folder:
        session = Session(quick, time.monotonic() + 60 * minutes, Path(folder))
        _peaks(session)
        for variant in (("tiny",) if quick else MODELS)[:2]:
            _encoder(session, variant)
        _data(session)
        _bytes(session)
        _runs(session)
        for variant in () if quick else MODELS[2:]:
            _encoder(session, variant)
        _other_precisions(session)
        _attention(session)
        if session.skipped:
            print(f"left out, or failed: {'; '.join(session.skipped)}")
    return session.rows


def _peaks(session: Session) -> None:
    for precision in ("bf16", "fp8"):
        with session.part(f"matrix peak in {precision}", 2) as fits:
            if fits:
                rate = peak(session.device, precision, 0.05 if session.quick else 1.0)
                if rate == rate:  # there is one
                    session.peaks[precision] = rate
                    session.tell(f"matrix peak in {precision}", "TFLOP/s", rate / 1e12)


def _encoder(session: Session, variant: str) -> None:
    """The image tower on the device in bf16, others' towers, and ClipEncoder."""
    config = VARIANTS[variant]
    with session.part(f"{variant} on the device", 45) as fits:
        if not fits:
            return
        tower = Tower(config, session.device, 2 if session.quick else A_PASS)
        if not config.vision.is_resnet:
            _on_device(session, variant, tower, "bf16")
        _peers(session, variant, tower)
        session.models[variant] = session.folder / f"{variant.replace('/', '-')}.safetensors"
        weights.save(tower.model, session.models[variant], variant=variant)
        encoder = tower.encoder()
        images = 4 if session.quick else int(max(4 * encoder.batch_size, 2 * PAIRS_A_SECOND[variant]))
        session.alone[variant] = from_memory(encoder, config, images)
        session.tell(f"{variant} through ClipEncoder, from memory", "images/s", session.alone[variant])


def _on_device(session: Session, variant: str, tower: Tower, precision: Precision) -> None:
    call = tower.ours(precision)
    cosines = tower.cosines(call)
    expect(float(cosines.mean()) > LEAST[precision], f"{variant} in {precision} has another answer: {cosines.mean()}")
    rate = tower.rate(call, 0.05 if session.quick else 2.0)
    at_most = session.peaks.get("fp8" if precision == "fp8" else "bf16", 0.0) / Flops.of(tower.config).image
    note = f"cosine with fp32 {cosines.mean():.5f}, least {cosines.min():.5f}"
    session.tell(f"{variant} in {precision}, on the device", "images/s", rate, at_most, "matrix peak", note)


def _peers(session: Session, variant: str, tower: Tower) -> None:
    peers = {"reference": tower.reference, "transformers": tower.transformers}
    for name, make in peers.items():
        if name == "transformers" and tower.config.vision.is_resnet:  # it has none
            continue
        with session.part(f"{variant}, {name}", 8) as fits:
            if fits:
                rate = tower.rate(make(), 0.05 if session.quick else 1.0, torch.bfloat16)
                session.tell(f"{variant} in bf16, on the device, {name}", "images/s", rate)


def _data(session: Session) -> None:
    sizes: dict[Kind, int] = {"512x384": 4000, "mixed": 2000, "1500x1000": 1000}
    for kind, pairs in sizes.items():
        if session.quick and kind == "1500x1000":
            continue
        started = time.monotonic()
        session.shards[kind] = gpu_data.write(kind, 20 if session.quick else pairs, session.folder / "data")
        print(f"-- a shard of {kind} pictures in {time.monotonic() - started:.0f} s", flush=True)


def _bytes(session: Session) -> None:
    """From the bytes of JPEGs to embeddings, in this process."""
    for variant in ("tiny",) if session.quick else ("ViT-B/32", "ViT-L/14"):
        what = f"{variant}, bytes to embeddings in one process"
        with session.part(what, 25) as fits:
            if not fits or variant not in session.models:
                continue
            loaded = weights.load(str(session.models[variant]), device=session.device)
            chunks, preprocess = gpu_flow.read_ahead(session.shards["512x384"], loaded.preprocess.size)
            decoder = gpu_flow.opened(session.device, preprocess)
            if decoder is None:
                print(f"-- left out: {what}: no JPEG engines here, or no nvImageCodec", flush=True)
                session.skipped.append(what)
                continue
            seconds = 0.5 if session.quick else 5.0
            encoder = Tower.encoder_of(loaded.model, session.device, 4 if session.quick else None)
            gpu_flow.bytes_to_embeddings(chunks, decoder, encoder, seconds / 5)  # warm
            engines = gpu_flow.bytes_to_embeddings(chunks, decoder, None, seconds)
            size = loaded.preprocess.size
            session.tell(f"engines and resize to {size} px alone, 512x384", "images/s", engines)
            rate = gpu_flow.bytes_to_embeddings(chunks, decoder, encoder, seconds)
            session.tell(what, "images/s", rate, min(engines, session.alone[variant]), "the slower of both alone")


def _runs(session: Session) -> None:
    if session.quick:
        _run(session, "tiny", "512x384", 0.2)
        return
    _run(session, "ViT-B/32", "512x384", 60)  # long: compared with nvidia-smi
    _run(session, "ViT-L/14", "512x384", 20)
    _run(session, "ViT-B/32", "mixed", 15)
    _run(session, "ViT-B/32", "1500x1000", 12)
    for variant in ("ViT-H-14", "ViT-B/16"):
        if variant not in session.models:
            _encoder(session, variant)
        _run(session, variant, "512x384", 15)
    _run(session, "ViT-L/14", "mixed", 12)


def _run(session: Session, variant: str, kind: Kind, seconds: float) -> None:
    what = f"{variant}, {kind}, shards to Parquet"
    with session.part(what, START_UP + seconds + 8) as fits:
        if not fits or variant not in session.models:
            return
        shards = session.shards[kind]
        rate = {"mixed": 0.4, "1500x1000": 0.35}.get(kind, 1.0) * PAIRS_A_SECOND[variant]
        count = max(3, round(1.5 * seconds * rate / shards.pairs))  # more than it gets to, perhaps
        names = shards.linked(count, session.folder / f"links-{len(session.rows)}")
        options = [] if session.device == "cuda" else ["--workers", "1"]
        ran = gpu_flow.run(session.models[variant], names, options, seconds + (200 if session.quick else START_UP))
        run = ran.summary["run"]
        expect(run["rows"] == run["embedded"] == run["shards"] * shards.pairs > 0, f"{what}: pairs are missing")
        start_up = ran.summary["start_up"]
        first = sum(start_up.get(name, 0.0) for name in ("planned", "worker_process", "worker_models", "first_rows"))
        session.tell(what, "pairs/s", ran.rate, session.alone.get(variant, 0.0), "ClipEncoder", ran.words)
        session.tell(f"{what}: start-up", "s", first, note=str({k: round(v, 1) for k, v in start_up.items()}))
        _seen(session, what, ran)


def _seen(session: Session, what: str, ran: gpu_flow.Run) -> None:
    """What the run's summary says beside what nvidia-smi and the machine's cores said meanwhile."""
    run = ran.summary["run"]
    waited = sum(run["waited_for"].values())
    session.tell(f"{what}: cores busy", "cores", ran.cores, note=f"{run['cores_a_worker']} by the summary, a worker")
    if ran.gpu is not None:
        engines = f", its JPEG engines {ran.engines:.0%}" if ran.engines else ""
        note = f"nvidia-smi: GPU busy {ran.gpu:.0%}{engines}; the summary: it waited {waited:.0%}"
        session.tell(f"{what}: GPU busy by nvidia-smi", "share", ran.gpu, note=note)


def _other_precisions(session: Session) -> None:
    """On the device alone, the target of the 8-bit one first."""
    order: tuple[tuple[str, Precision], ...] = (
        *(("ViT-L/14", each) for each in ("fp8", "pure_bf16")),
        *(("ViT-H-14", each) for each in ("fp8", "pure_bf16")),
        *(("ViT-B/32", each) for each in ("pure_bf16", "fp8")),
        *(("ViT-B/16", each) for each in ("pure_bf16", "fp8")),
    )
    for variant, precision in order[4:6] if session.quick else order:
        with session.part(f"{variant} in {precision}", 25) as fits:
            if fits:
                config: CLIPConfig = shallow(VARIANTS[variant]) if session.quick else VARIANTS[variant]
                tower = Tower(config, session.device, 2 if session.quick else A_PASS)
                _on_device(session, variant, tower, precision)
                if session.quick:
                    _peers(session, variant, tower)


def _attention(session: Session) -> None:
    """Which of PyTorch's ways is the fastest with this length and width of heads."""
    for variant in ("ViT-L/14", "ViT-B/32"):
        config = shallow(VARIANTS[variant]) if session.quick else VARIANTS[variant]
        for backend in ("MATH",) if session.quick else ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"):
            what = f"{variant}, attention of a layer, {backend.lower()}"
            with session.part(what, 3) as fits:
                if fits:
                    batch, seconds = (2, 0.05) if session.quick else (A_PASS, 0.5)
                    session.tell(what, "passes/s", attention(config, session.device, batch, backend, seconds))


def _minutes() -> float:
    """Taken off the command line, of which `benchkit` reads the rest."""
    if "--minutes" not in sys.argv:
        return 8.0
    at = sys.argv.index("--minutes")
    minutes = float(sys.argv[at + 1])
    del sys.argv[at : at + 2]
    return minutes


if __name__ == "__main__":
    allowed = _minutes()
    if not torch.cuda.is_available() and not benchkit.is_quick() and "--quick" not in sys.argv:
        sys.exit("no GPU here: make bench-gpu needs one that torch can use")
    benchkit.main(lambda quick: measure(quick, allowed))
