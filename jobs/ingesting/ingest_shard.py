"""One shard of URLs, downloaded by img2dataset and committed file by file: table, statistics, and last the tar."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...pipeline.dataset.layout import OWN
from ...pipeline.dataset.output import Output
from ...pipeline.errors import InfrastructureError, UserError
from ...pipeline.job.ingest import IngestJob
from .opt_out import DIRECTIVES, opts_out

STATE = f"{OWN}/ingest"
DIGITS = 5  # of a shard's name, as img2dataset and DataComp have them
_OK = "success"


@dataclass(frozen=True)
class UrlShard:
    """Rows of a list that become one shard. of: source and range, as `urls.csv 0-10000` or `failures of 00003 0-12`."""

    number: int
    of: str
    rows: pa.Table

    @property
    def name(self) -> str:
        return f"{self.number:0{DIGITS}d}"


@dataclass(frozen=True)
class Ingested:
    """The result of one shard of URLs. failures: counted by reason."""

    name: str
    of: str
    rows: int
    downloaded: int
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        return self.rows - self.downloaded

    @property
    def span(self) -> tuple[str, int, int]:
        """The source of its rows, and their range (first, end) in it. States of November 2026 have no range for
        retried failures: they hold all of them."""
        source, _, rows = self.of.rpartition(" ")
        first, dash, end = rows.partition("-")
        return (source, int(first), int(end)) if dash else (self.of, 0, self.rows)

    @classmethod
    def read(cls, content: bytes) -> Ingested:
        fields = json.loads(content)
        fields.pop("retried", None)  # a field of November 2026's states; later shards tell the same
        return cls(**fields)

    def written(self) -> bytes:
        return json.dumps(self.__dict__, indent=2, ensure_ascii=False).encode()


@dataclass(frozen=True)
class IngestShard:
    """Downloads shards, on any machine. Files that an earlier attempt left are replaced."""

    job: IngestJob
    output: Output

    def __call__(self, shard: UrlShard) -> Ingested:
        with tempfile.TemporaryDirectory(prefix="clipmill-ingest-") as folder:
            local = Path(folder)
            self._download(shard, local)
            ingested = _counts(shard, local / f"{shard.name}.parquet")
            for name in (f"{shard.name}.parquet", f"{shard.name}_stats.json", f"{shard.name}.tar"):
                with self.output.staged(name, replace=True) as path:
                    shutil.copyfile(local / name, path)
        self.output.write(f"{STATE}/{shard.name}.json", ingested.written())
        return ingested

    def _download(self, shard: UrlShard, folder: Path) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or its import looks for updates on the network
        try:
            from img2dataset import downloader as downloading
            from img2dataset.resizer import Resizer
            from img2dataset.writer import WebDatasetSampleWriter
        except ImportError as error:
            raise UserError(
                f"clipmill ingest needs img2dataset on this machine: pip install 'clipmill[ingest]' ({error})"
            ) from error
        downloading.is_disallowed = opts_out  # in the place of its own, which knows one way of saying it
        job = self.job
        source = folder / "urls.arrow"
        with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, shard.rows.schema) as writer:
            writer.write_table(shard.rows)
        resizer = Resizer(
            image_size=job.image_size,
            resize_mode=job.resize_mode,
            resize_only_if_bigger=job.only_if_bigger,
            encode_quality=job.encode_quality,
            skip_reencode=True,
            disable_all_reencoding=job.resize_mode == "no",
            min_image_size=job.min_image_size,
            max_aspect_ratio=job.max_aspect_ratio or float("inf"),
        )
        downloader = downloading.Downloader(
            sample_writer_class=WebDatasetSampleWriter,
            resizer=resizer,
            thread_count=job.threads,
            save_caption=job.caption_column is not None,
            extract_exif=True,
            output_folder=str(folder),
            column_list=shard.rows.column_names,
            timeout=job.timeout,
            number_sample_per_shard=max(job.samples_per_shard, 2),  # its logarithm is the digits of a key
            oom_shard_count=DIGITS,
            compute_hash="sha256",
            verify_hash_type="sha256" if job.sha256_column else None,
            encode_format="jpg",
            retries=job.retries,
            user_agent_token=job.user_agent,
            disallowed_header_directives=list(DIRECTIVES) if job.opt_out else None,
        )
        downloader.download_shard((shard.number, str(source)))


def _counts(shard: UrlShard, sidecar: Path) -> Ingested:
    table = pq.read_table(sidecar, columns=["status", "error_message"])
    if len(table) != len(shard.rows):
        raise InfrastructureError(
            f"{shard.of}: {len(shard.rows) - len(table)} of {len(shard.rows)} URLs are missing from its table"
        )
    ok = pc.equal(table["status"], _OK)
    reasons = Counter(map(_reason, table.filter(pc.invert(ok))["error_message"].to_pylist()))
    return Ingested(shard.name, shard.of, len(table), pc.sum(ok).as_py() or 0, dict(reasons.most_common()))


def _reason(message: str | None) -> str:
    """The message without what differs from URL to URL, so that reasons can be counted."""
    text = " ".join((message or "unknown").split())
    return text.split(": ", 1)[0] if text.startswith("HTTP Error") else text[:80]


def failed_rows(output: Output, shard: Ingested, columns: list[str]) -> pa.Table:
    """The rows of a shard whose download failed, with the list's own columns."""
    with output.open(f"{shard.name}.parquet") as file:
        table: Any = pq.ParquetFile(file).read()
    return table.filter(pc.not_equal(table["status"], _OK)).select(columns)
