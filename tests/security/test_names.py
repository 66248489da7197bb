"""Names in shards are data: whatever they are, everything that is written stays within the output."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
from clipmill.pipeline import ExportJob, ReportJob, ReshardJob, export, report, reshard
from clipmill.pipeline.inputs.listing import list_shards
from embedded import embed_here
from fakes import jpeg, write_tar

KEYS = [
    "../../escaped",
    "/absolute/escaped",
    "..",
    "a/../../b",
    "C:\\windows\\escaped",
    "\u202egnp.exe",
    "na\u0301ive/na\u00efve",
    "with\nline",
    "-rf *",
    "%2e%2e%2fescaped",
    "$(touch escaped)",
    "'; DROP TABLE pairs; --",
    "<script>alert(1)</script>",
]
EXTENSIONS = ("jpg", "txt", "json")


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    members = []
    for number, key in enumerate(KEYS):
        said = {"url": f"http://x/{key}", "uid": key, "caption": key}
        content = (jpeg(number), key.encode(), json.dumps(said).encode())
        members += [(f"{key}.{kind}", data) for kind, data in zip(EXTENSIONS, content, strict=True)]
    return Path(write_tar(folder / "it's a $(name) ..tar", members).url)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_outside_of_the_output(tar: Path, cluster: None, tmp_path: Path) -> None:
    place = tmp_path / "place"
    dataset = embed_here([tar], place / "dataset")
    reshard(ReshardJob(str(place / "dataset"), str(place / "new")))
    report(ReportJob(str(place / "dataset"), str(place / "report.html")))
    for layout in ("datacomp", "clip-retrieval"):
        export(ExportJob(str(place / "dataset"), str(place / layout), layout))
    (part,) = dataset.parts
    found = dataset.read(part, ["key", "error"]).to_pylist()
    assert [row["key"] for row in found if row["error"] is None], found
    tops = {name.split("/")[0] for name in files_below(tmp_path)}
    assert tops == {"shards", "place"}
    made = {"dataset", "new", "report.html", "datacomp", "clip-retrieval"}
    assert {name.split("/")[0] for name in files_below(place)} == made
    assert not list(Path("/absolute").glob("*"))


def test_new_shards_have_names_of_their_own(tar: Path, cluster: None, tmp_path: Path) -> None:
    embed_here([tar], tmp_path / "dataset")
    reshard(ReshardJob(str(tmp_path / "dataset"), str(tmp_path / "new")))
    names = []
    for made in sorted((tmp_path / "new").glob("*.tar")):
        with tarfile.open(made) as opened:
            names += opened.getnames()
    assert names
    assert all(re.fullmatch(r"\d+\.(jpg|txt|json)", name) for name in names), names


def test_a_page_shows_names_as_text(tar: Path, tmp_path: Path) -> None:
    embed_here([tar], tmp_path / "dataset")
    report(ReportJob(str(tmp_path / "dataset"), str(tmp_path / "report.html")))
    assert "<script>alert(1)" not in (tmp_path / "report.html").read_text()


def test_a_parts_name_is_a_plain_file_name(tar: Path) -> None:
    (shard,) = list_shards([str(tar.parent)])
    assert "/" not in shard.part_name
    assert not shard.part_name.startswith((".", "_"))
