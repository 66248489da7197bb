"""Which files of a tar are one sample, and what a sample says that lacks a side."""

import json

import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs import tar_input
from clipmill.pipeline.records import Sample
from PIL import Image
from tar_kit import Content, packed, samples_of

Pair = tuple[str, bytes | None, bytes | str | None]


def pairs(samples: list[Sample]) -> list[Pair]:
    return [(s.key, s.image, s.caption) for s in samples]


def test_keys_end_at_the_first_dot_and_the_last_part_says_what_a_file_is() -> None:
    content: Content = []
    for i in range(3):
        content += [(f"img_{i}.{i}5.png", b"%d" % i), (f"img_{i}.{i}5.txt", b"caption %d" % i)]
    assert pairs(samples_of(content)) == [(f"img_{i}", b"%d" % i, b"caption %d" % i) for i in range(3)]
    assert pairs(samples_of([("0.image.jpg", b"i"), ("0.caption.txt", b"c"), ("dir.v1/a.jpg", b"j")])) == [
        ("0", b"i", b"c"),
        ("dir.v1/a", b"j", None),
    ]


def test_files_that_share_a_middle_and_make_a_pair_are_a_sample_of_their_own() -> None:
    one, two = [("a.1.jpg", b"1"), ("a.1.txt", b"one")], [("a.2.jpg", b"2"), ("a.2.txt", b"two")]
    expected: list[Pair] = [("a.1", b"1", b"one"), ("a.2", b"2", b"two")]
    assert pairs(samples_of([*one, *two])) == expected
    assert pairs(samples_of([one[0], two[0], one[1], two[1]])) == expected
    assert pairs(samples_of([*one, two[0]])) == [expected[0], ("a.2", b"2", None)]
    assert pairs(samples_of([*one, two[1]])) == [expected[0], ("a.2", None, b"two")]
    assert pairs(samples_of([*one, ("a.jpg", b"3")])) == [expected[0], ("a", b"3", None)]


def test_json_makes_a_pair_where_it_holds_a_caption() -> None:
    files: Content = [(f"a.{i}.jpg", b"%d" % i) for i in range(2)]
    captions = [(f"a.{i}.json", json.dumps({"caption": f"c{i}"}).encode()) for i in range(2)]
    assert pairs(samples_of([*files, *captions])) == [("a.0", b"0", "c0"), ("a.1", b"1", "c1")]
    [sample] = samples_of([*files, *((name, b'{"boxes": []}') for name, _ in captions)])
    assert (sample.key, sample.image, sample.notes) == ("a", b"0", ("another image",))


def test_what_is_in_no_pair_belongs_to_every_sample_of_the_key_that_has_no_own() -> None:
    content = [("a.json", b'{"uid": "u"}'), ("a.1.jpg", b"1"), ("a.1.txt", b"one"), ("a.2.jpg", b"2")]
    samples = samples_of([*content, ("a.2.json", b'{"uid": "v"}'), ("a.txt", b"all")])
    assert pairs(samples) == [("a.1", b"1", b"one"), ("a.2", b"2", b"all")]
    assert [s.metadata["uid"] for s in samples] == ["u", "v"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["left.jpg", "right.jpg"], "left.jpg"),
        (["seg.png", "jpg"], "jpg"),
        (["svg", "png"], "png"),
        (["depth.png", "image.png"], "image.png"),
        (["psd", "ppm"], "psd"),
        (["png", "jpg"], "png"),
    ],
)
def test_of_two_images_one_is_taken_by_rule_and_the_other_is_noted(names: list[str], chosen: str) -> None:
    content = [(f"e.{name}", name.encode()) for name in names]
    [sample] = samples_of([*content, ("e.txt", b"t")])
    assert (sample.image, sample.caption, sample.notes) == (chosen.encode(), b"t", ("another image",))
    [sample] = samples_of([("e.jpg", b"i"), ("e.alt.txt", b"a"), ("e.txt", b"t")])
    assert (sample.caption, sample.notes) == (b"t", ("another caption",))


def test_every_extension_of_a_picture_that_pillow_opens_is_an_image() -> None:
    Image.init()
    documents = {"PDF", "HDF5", "MPEG", "BUFR", "GRIB", "EPS", "PALM", "IPTC"}
    known = sorted(ext for ext, format in Image.registered_extensions().items() if format not in documents)
    for extension in [*known, ".heic", ".HEIF", ".jxl", ".svg", ".eps"]:
        assert samples_of([(f"a{extension}", b"x")])[0].image == b"x", extension


def test_a_sample_says_why_it_lacks_a_side() -> None:
    content = [
        ("a.jpg", b"i"),
        ("b.txt", b"t"),
        ("c.jpg", b"i"), ("c.text", b"t"),
        ("d.jpg", b"i"), ("d.json", b'{"prompt": "p"}'),
        ("e.jpg", b"i"), ("e.txt", b" \n"),
        ("f.jpg", b""), ("f.txt", b"t"),
        ("g.jpg", b"i"), ("g.json", b'{"caption": null}'),
        ("h.jpg", b"i"), ("h.json", b'{"caption": {"en": "a"}}'),
        ("i.jpg", b"i"), ("i.json", b'{"caption": 5}'),
        ("j.jpg", b"i"), ("j.json", b'{"caption": []}'),
        ("k.jpg", b"i"), ("k.json", b'{"caption": ["first", "second"]}'),
        ("l.jpg", b"i"), ("l.json", b'{"url_of_caption": "u", "width": 3}'),
    ]  # fmt: skip
    causes = {s.key: (s.no_image, s.no_caption) for s in samples_of(content)}
    assert causes == {
        "a": (None, "no file"),
        "b": ("no file", None),
        "c": (None, "not understood"),
        "d": (None, "not understood"),
        "e": (None, "empty"),
        "f": ("empty", None),
        "g": (None, "empty"),
        "h": (None, "not understood"),
        "i": (None, "not understood"),
        "j": (None, "empty"),
        "k": (None, None),
        "l": (None, "no file"),
    }


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "123456789012345678901234567890"])
def test_odd_numbers_in_json_harm_nothing(number: str) -> None:
    [sample] = samples_of([("a.jpg", b"i"), ("a.json", f'{{"caption": "c", "score": {number}}}'.encode())])
    assert (sample.caption, sample.error) == ("c", None)


def test_keys_that_come_back_are_noted_where_they_make_half_pairs() -> None:
    images, captions = [(f"{i}.jpg", b"i") for i in range(3)], [(f"{i}.txt", b"t") for i in range(3)]
    samples = samples_of([*images, *captions])
    assert [s.notes for s in samples] == [()] * 3 + [("key came back",)] * 3
    whole = [file for pair in zip(images, captions, strict=True) for file in pair]
    assert [s.notes for s in samples_of([*whole, *whole])] == [()] * 6  # a key may occur twice
    assert [s.notes for s in samples_of([*images[:1], *images[:1]])] == [(), ()]  # nothing came between


def test_how_many_keys_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_input, "_REMEMBERED", 2)
    images, captions = [(f"{i}.jpg", b"i") for i in range(5)], [(f"{i}.txt", b"t") for i in range(5)]
    assert sum(s.notes == ("key came back",) for s in samples_of([*images, *captions])) == 2


@pytest.mark.parametrize(("files", "size"), [(8, 1 << 30), (4096, 100)])
def test_a_shard_whose_files_all_have_one_key_is_read_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch, files: int, size: int
) -> None:
    monkeypatch.setattr(tar_input, "_MOST_FILES", files)
    monkeypatch.setattr(tar_input, "_MOST_BYTES", size)
    content: Content = []
    for i in range(101):
        content += [(f"data.{i:03d}.jpg", b"%030d" % i), (f"data.{i:03d}.txt", b"t%d" % i)]
    assert pairs(samples_of(content)) == [(f"data.{i:03d}", b"%030d" % i, b"t%d" % i) for i in range(101)]
    broken = samples_of(packed(content)[: 1024 * 2 * 80 + 700])
    assert pairs(broken[:80]) == pairs(samples_of(content))[:80]
    assert pairs(broken[80:-1]) == [("data.080", b"%030d" % 80, None)]
    assert (broken[-1].error or "").startswith("read: truncated tar")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([("a.npy", b"x"), ("a.cls", b"1"), ("b.npy", b"x")], r"its files end in \.npy, \.cls; name .* by --image-key"),
        ([("README", b"x")], "its files have no extension"),
        ([("._a.jpg", b"x")], "its files have no extension"),
    ],
)
def test_a_shard_in_which_nothing_is_understood_is_a_failed_shard(content: Content, reason: str) -> None:
    with pytest.raises(ShardError, match=reason):
        samples_of(content)
