"""The main job: what to embed, with which models, into which output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Literal

from typing_extensions import Doc

from ...clipmodel.spec import check_spec
from ..choices import Decoding, EmbeddingType, Precision, SampleKeys
from ..errors import UserError
from .common import Address, StorageOptions
from .flags import Flag
from .moments import seconds_until
from .named_models import NamedModel, named_models
from .prices import Prices
from .readable import Readable


@dataclass(frozen=True, repr=False)
class EmbedJob(Readable):
    """What to embed, with what, into what."""

    inputs: Annotated[
        Sequence[str],
        Doc("Shards: files, folders, globs, brace ranges ({00000..00099}), or @FILE that lists them."),
        Flag(argument=True, metavar="INPUT…"),
    ]
    out: Annotated[str, Doc("Folder or object-store prefix for the Parquet parts."), Flag(("--out", "-o"))]
    model: Annotated[
        str | Sequence[str],
        Doc(
            "NAME, NAME=WEIGHTS or a weights file; `clipmill models` lists them; or hf:REPO, a model of transformers, "
            "or open_clip:NAME=WEIGHTS, one of open_clip. "
            "Repeatable: several models, each with an ALIAS= before it, in one pass; its columns begin with it."
        ),
        Flag(("--model", "-m"), metavar="[ALIAS=]NAME"),
    ]
    columns: Annotated[
        Sequence[str],
        Doc(
            "A field of the samples' json to copy (string, int64, float64 or bool). Repeatable; besides uid, url and "
            "caption."
        ),
        Flag(("--column",), metavar="NAME[:TYPE]"),
    ] = ()
    precision: Annotated[
        Literal["auto"] | Precision,
        Doc(
            "Of the model's arithmetic; auto is what OUT was begun with, else bf16 on GPUs and fp32 on CPUs. pure_bf16 "
            "keeps less in float32; fp8 needs an NVIDIA GPU of the Hopper generation or later (docs/tuning.md)."
        ),
    ] = "auto"
    embedding_type: Annotated[EmbeddingType, Doc("Of the stored embeddings. Similarity is float32 always.")] = "float16"
    images: Annotated[bool, Doc("Embed the images.")] = True
    texts: Annotated[bool, Doc("Embed the captions.")] = True
    image_keys: Annotated[
        Sequence[str],
        Doc(
            "Where the image is, instead of under the usual names: an extension, a column or a field of the json "
            "(image.bytes looks inside). Repeatable, in order of preference."
        ),
        Flag(("--image-key",), metavar="NAME"),
    ] = ()
    caption_keys: Annotated[
        Sequence[str],
        Doc("Where the caption is, in the same way. Repeatable, in order of preference."),
        Flag(("--caption-key",), metavar="NAME"),
    ] = ()
    allow_half_pairs: Annotated[
        bool, Doc("Embed also where none of the first samples has both an image and a caption.")
    ] = False
    decode: Annotated[
        Decoding,
        Doc(
            "close differs from CLIP's reference by 1 of 255 in under 1 % of the values, takes half the time of exact, "
            "and lets a GPU's JPEG engines decode; exact is the reference to the last pixel; fast decodes large JPEGs "
            "at a fraction of their size, and embeddings change a little (docs/tuning.md)."
        ),
    ] = "close"
    fast_decode: Annotated[bool, Doc("The same as --decode fast.")] = False
    exif: Annotated[
        bool,
        Doc("Turn images as their EXIF data says. CLIP's reference ignores it, and so does clipmill without this."),
    ] = False
    batch_size: Annotated[int | None, Doc("Images a forward pass."), Flag(default="auto")] = None
    workers: Annotated[int | None, Doc("How many workers."), Flag(default="auto")] = None
    gpus_per_worker: Annotated[
        float | None, Doc("GPUs, or the share of one, a worker; 0 stays on CPUs."), Flag(default="auto")
    ] = None
    wait_for_machines: Annotated[
        float,
        Doc("How long a cluster that grows may take to have room for the first of --workers."),
        Flag(metavar="SECONDS"),
    ] = 0.0
    decode_workers: Annotated[
        int | None,
        Doc("Processes that read and decode for all workers, on any machine; 0 leaves that to the workers' threads."),
        Flag(default="auto: none without GPUs"),
    ] = None
    price_per_hour: Annotated[
        float | Sequence[str] | None,
        Doc(
            "What a worker costs an hour; or KIND=PRICE, what each machine of a kind costs, repeatable. Kinds are GPUs "
            "as Ray calls them (H200), gpu, cpu, head, and groups of machines. The run's end then says what a million "
            "pairs cost."
        ),
        Flag(metavar="[KIND=]PRICE", default="none"),
    ] = None
    budget: Annotated[
        float | None,
        Doc("What this run may cost, in the currency of --price-per-hour; it stops before, and can be resumed."),
        Flag(default="none"),
    ] = None
    deadline: Annotated[
        str | None,
        Doc("When this run has to be over: 6h, 1h30m, or a time, 2026-12-01T06:00. It stops then, and can be resumed."),
        Flag(metavar="TIME", default="none"),
    ] = None
    max_failed_samples: Annotated[float, Doc("Share of samples that may fail.")] = 0.5
    max_failed_shards: Annotated[int, Doc("Shards that may fail.")] = 0
    shard_deadline: Annotated[
        float | None,
        Doc("Take a shard from a worker that is not done by then."),
        Flag(metavar="SECONDS", default="none"),
    ] = None
    max_requests_per_second: Annotated[
        float | None,
        Doc(
            "Of all processes that read, to each bucket of S3. Without, the pace follows what the store lets through, "
            "which is enough unless others need the bucket, too."
        ),
        Flag(metavar="N", default="none"),
    ] = None
    retry_failed: Annotated[bool, Doc("Embed again only failed shards, and shards with failed samples.")] = False
    refresh: Annotated[bool, Doc("Embed again shards whose file has changed since.")] = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    @property
    def models(self) -> tuple[NamedModel, ...]:
        """UserError for names that are wrong, or aliases that are missing."""
        return named_models([self.model] if isinstance(self.model, str) else self.model)

    @property
    def sample_keys(self) -> SampleKeys:
        return SampleKeys(tuple(self.image_keys), tuple(self.caption_keys))

    @property
    def prices(self) -> Prices:
        """UserError for what is none."""
        return Prices.of(self.price_per_hour)

    @property
    def decoding(self) -> Decoding:
        return "fast" if self.fast_decode else self.decode

    @property
    def replaces_parts(self) -> bool:
        """Whether parts that are committed already are made again."""
        return self.retry_failed or self.refresh

    @property
    def embeds(self) -> list[str]:
        return [side for side, wanted in (("images", self.images), ("texts", self.texts)) if wanted]

    def check(self) -> None:
        """UserError for values that no run could use."""
        for name, value in (("--batch-size", self.batch_size), ("--workers", self.workers)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker:g}: must not be negative")
        if self.precision == "fp8" and self.gpus_per_worker == 0:
            raise UserError("--precision fp8 needs GPUs, and --gpus-per-worker 0 leaves none: use fp32 or bf16 on CPUs")
        if self.decode_workers is not None and self.decode_workers < 0:
            raise UserError(f"--decode-workers {self.decode_workers}: must not be negative")
        self._check_limits()
        if not 0 <= self.max_failed_samples <= 1:
            raise UserError(f"--max-failed-samples {self.max_failed_samples:g}: must be a share, from 0 to 1")
        if self.max_failed_shards < 0:
            raise UserError(f"--max-failed-shards {self.max_failed_shards}: must not be negative")
        if self.shard_deadline is not None and self.shard_deadline <= 0:
            raise UserError(f"--shard-deadline {self.shard_deadline:g}: must be more than 0 seconds")
        if self.max_requests_per_second is not None and not 0 < self.max_requests_per_second < float("inf"):
            raise UserError(f"--max-requests-per-second {self.max_requests_per_second:g}: must be a number above 0")
        if self.wait_for_machines < 0:
            raise UserError(f"--wait-for-machines {self.wait_for_machines:g}: must not be negative")
        if self.fast_decode and self.decode == "exact":
            raise UserError("--fast-decode means --decode fast; leave one of --fast-decode and --decode exact out")
        if not (self.images or self.texts):
            raise UserError("--no-images and --no-texts together leave nothing to embed")
        for model in self.models:
            check_spec(model.spec)

    def _check_limits(self) -> None:
        prices = self.prices
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UserError(f"--budget {self.budget:g}: must be a number above 0")
        if self.budget is not None and not prices:
            raise UserError(f"--budget {self.budget:g}: name --price-per-hour, too, of a worker or as KIND=PRICE")
        if self.deadline is not None:
            seconds_until(self.deadline, datetime.now(timezone.utc))
