"""Our tar reader against the standard library's, and against damage."""

import gzip
import io
import subprocess
import sys
import tarfile
import textwrap
from typing import Any

import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.tario import Member, NotATar, TarDamage, members
from hypothesis import given, settings
from hypothesis import strategies as st

Content = list[tuple[str, bytes]]
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}

parts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=40)
names = st.lists(parts, min_size=1, max_size=9).map("/".join).filter(lambda name: name.strip("./") != "")
files = st.lists(st.tuples(names, st.binary(max_size=1600)), max_size=6)


def write_tar(content: Content, form: int = tarfile.PAX_FORMAT, encoding: str = "utf-8") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding=encoding, errors="surrogateescape") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read_until_damage(data: bytes) -> tuple[list[Member], Any]:
    """The whole members, and what ended them."""
    whole: list[Member] = []
    try:
        whole.extend(members(io.BytesIO(data)))
    except (TarDamage, NotATar) as error:
        return whole, error
    return whole, None


SMALL = [("a.jpg", b"\xff\xd8" + bytes(700)), ("n" * 120 + ".txt", b"hello"), ("b.jpg", b"x" * 512), ("b.txt", b"")]


@pytest.mark.parametrize("form", FORMATS)
@given(content=files)
@settings(deadline=None)
def test_equals_tarfile_member_for_member(form: str, content: Content) -> None:
    def fits(name: str) -> bool:
        try:
            write_tar([(name, b"")], FORMATS[form])
        except ValueError:  # ustar cannot hold every long name
            return False
        return True

    content = [(name, data) for name, data in content if fits(name)]
    archive = write_tar(content, FORMATS[form])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        theirs = [
            (m.name, m.offset_data, m.size, file.read()) for m in tar if m.isreg() and (file := tar.extractfile(m))
        ]
    ours = list(members(io.BytesIO(archive)))
    assert [tuple(m) for m in ours] == [(*m, None, None, False) for m in theirs]
    assert all(m.offset is not None and archive[m.offset : m.offset + m.size] == m.data for m in ours)


def test_folders_and_devices_are_passed_over_and_links_name_their_targets() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "global"}) as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("x" * 130)
            info.type, info.linkname = kind, "y" * 130
            tar.addfile(info)
        info = tarfile.TarInfo("a.txt")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    assert [(m.name, m.data, m.link, m.is_hard) for m in members(io.BytesIO(buffer.getvalue()))] == [
        ("x" * 130, None, "y" * 130, False),
        ("x" * 130, None, "y" * 130, True),
        ("a.txt", b"hi", None, False),
    ]


def test_names_that_are_not_utf8_come_through() -> None:
    archive = write_tar([("caf\xe9.jpg", b"1")], tarfile.GNU_FORMAT, encoding="latin-1")
    (member,) = members(io.BytesIO(archive))
    assert member.name.encode("utf-8", "surrogateescape") == b"caf\xe9.jpg"


def test_base_256_sizes_are_read() -> None:
    header = bytearray(write_tar([("a.txt", b"hello")])[:512])
    header[124:136] = b"\x80" + (5).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (member,) = members(io.BytesIO(bytes(header) + b"hello" + bytes(507 + 1024)))
    assert member.data == b"hello"


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_gives_all_whole_members_and_one_reason(form: str) -> None:
    content = SMALL if form != "ustar" else [(name[-20:], data) for name, data in SMALL]
    archive = write_tar(content, FORMATS[form])
    complete = list(members(io.BytesIO(archive)))
    ends = [m.offset + m.size + -m.size % 512 for m in complete]
    for cut in range(ends[-1] + 1200):
        whole, error = read_until_damage(archive[:cut])
        assert whole == [m for m in complete if m.offset + m.size <= cut and (m.size or m.offset <= cut)]
        if cut in (0, *ends) or cut > ends[-1]:  # nothing is missing but the end mark
            assert error is None
        elif cut < 512:
            assert isinstance(error, NotATar)
        else:
            assert isinstance(error, TarDamage)
            assert "cut short" in error.reason


def test_damage_names_its_member_and_place() -> None:
    archive = write_tar(SMALL)
    second = list(members(io.BytesIO(archive)))[1]
    _, error = read_until_damage(archive[: second.offset + 2])
    assert (error.name, error.offset) == (second.name, 512 + 1024)
    assert isinstance(error, ShardError)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_harm_no_member_before_them_and_raise_nothing_else(data: st.DataObject) -> None:
    archive = write_tar(SMALL)
    damaged, first = bytearray(archive), len(archive)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, 5500))
        damaged[place] ^= data.draw(st.integers(1, 255))
        first = min(first, place)
    unharmed = [m for m in members(io.BytesIO(archive)) if m.offset + m.size <= first]
    whole, error = read_until_damage(bytes(damaged))
    assert whole[: len(unharmed)] == unharmed
    assert error is None or isinstance(error, (TarDamage, NotATar))


@given(st.binary(max_size=2000))
def test_noise_is_never_a_tar(noise: bytes) -> None:
    whole, error = read_until_damage(noise)
    assert whole == []
    assert error is not None or not noise.strip(b"\0")


def test_a_broken_header_is_damage_where_tarfile_ends_quietly() -> None:
    archive = bytearray(write_tar(SMALL))
    archive[1536] ^= 1  # the second member's first header
    whole, error = read_until_damage(bytes(archive))
    assert [m.name for m in whole] == ["a.jpg"]
    assert error.reason == "bad header"


def test_what_follows_the_end_mark_is_not_lost_without_a_word() -> None:
    whole, error = read_until_damage(write_tar(SMALL) + write_tar(SMALL))
    assert len(whole) == len(SMALL)
    assert error.reason == "data after the end mark"


def test_a_lone_zero_block_does_not_end_the_archive() -> None:
    first, second = write_tar(SMALL[:1])[:1536], write_tar(SMALL[2:])
    assert [m.name for m in members(io.BytesIO(first + bytes(512) + second))] == ["a.jpg", "b.jpg", "b.txt"]


def test_an_empty_archive_holds_nothing() -> None:
    assert list(members(io.BytesIO(write_tar([])))) == []
    assert list(members(io.BytesIO(b""))) == []


def test_gzip_damage_is_tar_damage() -> None:
    packed = gzip.compress(write_tar(SMALL), mtime=0)
    for cut in range(len(packed) - 1):
        with pytest.raises((TarDamage, NotATar)) if cut else pytest.raises(StopIteration):
            reader = members(gzip.GzipFile(fileobj=io.BytesIO(packed[:cut])))
            while True:
                next(reader)


def test_streams_that_hand_out_little_at_a_time_are_read_whole() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

    archive = write_tar(SMALL)
    assert list(members(Trickle(archive))) == list(members(io.BytesIO(archive)))


def test_lost_connections_go_through() -> None:
    class Lost(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise TimeoutError("gone")

    with pytest.raises(TimeoutError):
        next(members(Lost()))


def test_a_member_beyond_the_limit_is_read_past_and_never_held() -> None:
    script = """
        import io, resource, tarfile
        from clipmill.pipeline.inputs.tario import members

        class Huge(io.RawIOBase):  # 300 MB that are never in memory at once
            def __init__(self):
                head = tarfile.TarInfo("huge.jpg"); head.size = 300_000_000
                tail = tarfile.TarInfo("next.txt"); tail.size = 2
                self.runs = [head.tobuf(), 300_000_256, tail.tobuf() + b"hi" + bytes(510 + 1024)]
            def read(self, size=-1):
                while self.runs:
                    run = self.runs.pop(0)
                    data = bytes(min(size, run)) if isinstance(run, int) else run[:size]
                    rest = run - len(data) if isinstance(run, int) else run[size:]
                    self.runs[:0] = [rest] if rest else []
                    return data
                return b""

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = [(m.name, m.size, m.data) for m in members(Huge())]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert found == [("huge.jpg", 300_000_000, None), ("next.txt", 2, b"hi")], found
        print(grown)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage's
    assert int(done.stdout) * unit < 20 << 20
