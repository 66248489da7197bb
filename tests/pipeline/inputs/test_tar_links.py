"""Links in tars: the bytes they lead to, or a failed row that says link."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from clipmill.pipeline.inputs import tar_links
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_kit import packed, samples_of

HARD, SYMBOLIC = tarfile.LNKTYPE, tarfile.SYMTYPE
FILES = [("d/1.jpg", b"one"), ("d/1.txt", b"t"), ("d/2.jpg", b""), ("d/2.txt", b"u"), ("blob", b"far away")]


def second(link: tuple[bytes, str], **options: str) -> Sample:
    return samples_of(packed(FILES, {"d/2.jpg": link}), **options)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("link", "image"),
    [
        ((HARD, "d/1.jpg"), b"one"),
        ((HARD, "./d/1.jpg"), b"one"),
        ((SYMBOLIC, "1.jpg"), b"one"),
        ((SYMBOLIC, "../d/1.jpg"), b"one"),
        ((SYMBOLIC, "../blob"), b"far away"),
    ],
)
def test_a_link_has_the_bytes_of_its_target(link: tuple[bytes, str], image: bytes, tmp_path: Path) -> None:
    sample = second(link)
    assert (sample.image, sample.caption, sample.error) == (image, b"u", None)
    data = packed(FILES, {"d/2.jpg": link})
    assert sample.image_offset is not None and data[sample.image_offset :].startswith(image)
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    assert list(read_samples(Shard(str(path)))) == samples_of(data)


@pytest.mark.parametrize("target", ["gone.jpg", "/etc/hostname", "../../etc/hostname", "2.jpg", "", "\udcff"])
def test_a_link_that_leads_nowhere_is_a_failed_row(target: str) -> None:
    sample = second((SYMBOLIC, target))
    assert (sample.key, sample.image, sample.caption) == ("d/2", None, b"u")
    assert (sample.error or "").startswith("read: link to a file that is not in this tar (")


def test_links_in_compressed_tars_are_failed_rows() -> None:
    samples = samples_of(gzip.compress(packed(FILES, {"d/2.jpg": (HARD, "d/1.jpg")})))
    assert [s.error for s in samples] == [
        None,
        "read: link, which cannot be followed in a compressed tar (link to d/1.jpg)",
    ]


def test_links_to_links_are_followed_and_rings_end() -> None:
    files = [(f"{i}.jpg", b"x") for i in range(3)] + [("3.txt", b"t")]
    chain = {"0.jpg": (SYMBOLIC, "1.jpg"), "1.jpg": (SYMBOLIC, "2.jpg")}
    assert [s.image for s in samples_of(packed(files, chain))] == [b"x", b"x", b"x", None]
    samples = samples_of(packed(files, chain | {"2.jpg": (SYMBOLIC, "0.jpg")}))
    assert [s.error is None for s in samples] == [False, False, False, True]


def test_captions_and_json_may_be_links_and_other_files_do_not_matter() -> None:
    files = [("0.txt", b"t"), ("1.json", b""), ("1.txt", b""), ("1.cls", b""), ("c", b'{"uid": "u"}')]
    links = {"1.txt": (HARD, "0.txt"), "1.json": (SYMBOLIC, "c"), "1.cls": (SYMBOLIC, "gone")}
    sample = samples_of(packed(files, links))[1]
    assert (sample.caption, sample.metadata, sample.error) == (b"t", {"uid": "u"}, None)


def test_how_many_names_are_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_links, "_MOST_NAMES", 1)
    assert second((HARD, "d/1.jpg")).image == b"one"
    assert "not in this tar" in (second((SYMBOLIC, "../blob")).error or "")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, HARD, SYMBOLIC])), min_size=1, max_size=10))
def test_tarfile_finds_the_same_bytes(targets: list[tuple[int, bytes | None]]) -> None:
    files = [(f"d/{i}.jpg", b"%d" % i) for i in range(len(targets))] + [("z.txt", b"t")]
    links = {
        f"d/{i}.jpg": (kind, f"d/{to}.jpg" if kind == HARD else f"{to}.jpg")
        for i, (to, kind) in enumerate(targets)
        if kind is not None and to != i
    }
    data = packed(files, links)
    samples = samples_of(data)
    assert len(samples) == len(files)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for sample in samples[:-1]:
            try:
                file = tar.extractfile(f"{sample.key}.jpg")
            except (KeyError, RecursionError):
                file = None
            if file is not None and sample.error is None:
                assert sample.image == file.read()
            assert sample.error is None or sample.error.startswith("read: link to a file")
