"""The ingest job: which URLs to download, into which shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, StorageOptions
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class IngestJob(Readable):
    """Which images to download, and into which shards."""

    urls: Annotated[
        str,
        Doc("A list of URLs, or a folder of lists: .txt (one a line), .csv, .tsv, .json, .jsonl, .parquet; also .gz."),
        Flag(argument=True, metavar="URLS"),
    ]
    out: Annotated[str, Doc("Folder or object-store prefix for the WebDataset shards."), Flag(("--out", "-o"))]
    url_column: Annotated[str, Doc("The list's column of URLs.")] = "url"
    caption_column: Annotated[str | None, Doc("Its column of captions."), Flag(default="none")] = None
    sha256_column: Annotated[
        str | None,
        Doc("Its column of the images' sha256; another hash is a failure."),
        Flag(default="none"),
    ] = None
    columns: Annotated[
        Sequence[str], Doc("A further column to keep in the samples' json. Repeatable."), Flag(("--column",))
    ] = ()
    samples_per_shard: Annotated[int, Doc("URLs a shard.")] = 10_000
    image_size: Annotated[int, Doc("Pixels of the side that --resize-mode names.")] = 512
    resize_mode: Annotated[
        Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"],
        Doc("As img2dataset resizes; `no` keeps images as they are."),
    ] = "keep_ratio_largest"
    only_if_bigger: Annotated[bool, Doc("Leave smaller images as they are.")] = True
    encode_quality: Annotated[int, Doc("Of resized JPEGs.")] = 95
    min_image_size: Annotated[int, Doc("An image whose shorter side is smaller is a failure.")] = 0
    max_aspect_ratio: Annotated[float | None, Doc("A more elongated image is a failure."), Flag(default="any")] = None
    threads: Annotated[int, Doc("Downloads at the same time, for each shard in progress.")] = 64
    timeout: Annotated[int, Doc("Seconds that a download may take."), Flag(metavar="SECONDS")] = 10
    retries: Annotated[int, Doc("More attempts at a download that failed.")] = 1
    user_agent: Annotated[str, Doc("The name that servers see in the requests.")] = "clipmill"
    opt_out: Annotated[
        bool,
        Doc("Leave images whose servers forbid their use (X-Robots-Tag, TDM-Reservation, Content-Usage)."),
    ] = True
    retry_failed: Annotated[bool, Doc("Download the URLs that failed before again, into further shards.")] = False
    max_failed_samples: Annotated[float, Doc("Share of URLs that may fail; many links on the web are dead.")] = 1.0
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        at_least_one = {
            "--samples-per-shard": self.samples_per_shard,
            "--image-size": self.image_size,
            "--threads": self.threads,
            "--timeout": self.timeout,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        for name, value in (("--retries", self.retries), ("--min-image-size", self.min_image_size)):
            if value < 0:
                raise UserError(f"{name} {value}: must not be negative")
        if not 1 <= self.encode_quality <= 100:
            raise UserError(f"--encode-quality {self.encode_quality}: must be from 1 to 100")
        if self.max_aspect_ratio is not None and self.max_aspect_ratio < 1:
            raise UserError(f"--max-aspect-ratio {self.max_aspect_ratio:g}: must be at least 1")
        if not 0 <= self.max_failed_samples <= 1:
            raise UserError(f"--max-failed-samples {self.max_failed_samples:g}: must be a share, from 0 to 1")
        if self.retry_failed and self.sha256_column:
            raise UserError(
                "--retry-failed: shards keep no sha256 of the list: ingest a list of the failed URLs instead"
            )
