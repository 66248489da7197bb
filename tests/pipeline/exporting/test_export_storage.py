"""Exports from and to an object store."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest
from clipmill.pipeline import ExportJob, export
from fakes import Ran
from s3 import Bucket


@pytest.fixture
def stored(ran: Ran, bucket: Bucket) -> str:
    """The dataset in a bucket."""
    for path in ran.out.rglob("*"):
        if path.is_file():
            bucket.storage.pipe_file(bucket.url(f"in/{path.relative_to(ran.out)}"), path.read_bytes())
    return bucket.url("in")


def test_from_and_to_an_object_store(stored: str, bucket: Bucket, ran: Ran, tmp_path: Path) -> None:
    options = bucket.server.options()
    for to in ("datacomp", "clip-retrieval"):
        export(ExportJob(stored, bucket.url(to), to, storage_options=options))  # type: ignore[arg-type]
        export(ExportJob(str(ran.out), str(tmp_path / to), to))  # type: ignore[arg-type]
        for path in (tmp_path / to).rglob("*.np?"):
            assert bucket.storage.cat_file(bucket.url(f"{to}/{path.relative_to(tmp_path / to)}")) == path.read_bytes()


def test_lance_and_iceberg_in_an_object_store_that_only_the_options_name(
    stored: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    options = bucket.server.options()
    export(ExportJob(stored, bucket.url("lance"), "lance", storage_options=options))
    known = {
        "aws_endpoint": bucket.server.endpoint,
        "aws_access_key_id": bucket.server.owner.key,
        "aws_secret_access_key": bucket.server.owner.secret,
        "aws_region": "us-east-1",
        "allow_http": "true",
    }
    assert lance.dataset(bucket.url("lance/pairs.lance"), storage_options=known).count_rows() == 108
    made = export(ExportJob(stored, str(tmp_path / "iceberg"), "iceberg", storage_options=options))
    assert made.exported == 120
