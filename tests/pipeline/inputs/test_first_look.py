"""What a look at the first samples tells, and which runs it refuses."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from clipmill.pipeline.choices import SampleKeys
from clipmill.pipeline.errors import InputError, UserError
from clipmill.pipeline.inputs import first_look
from clipmill.pipeline.inputs.first_look import FirstLook, look_into
from clipmill.pipeline.records import Shard
from parquet_kit import pack
from tar_kit import Content, packed

IMAGES = [(f"{i}.jpg", b"i") for i in range(3)]
CAPTIONS = [(f"{i}.txt", b"t") for i in range(3)]
PAIRS = [file for pair in zip(IMAGES, CAPTIONS, strict=True) for file in pair]


def look(folder: Path, *contents: Content | dict[str, Any], keys: SampleKeys = SampleKeys()) -> FirstLook:
    shards = []
    for number, content in enumerate(contents):
        path = folder / (f"{number}.parquet" if isinstance(content, dict) else f"{number}.tar")
        path.write_bytes(pack(content) if isinstance(content, dict) else packed(content))
        shards.append(Shard(str(path), path.stat().st_size))
    return look_into(shards, keys=keys)


def refusal(seen: FirstLook) -> str:
    with pytest.raises(UserError) as caught:
        seen.refuse_half_pairs()
    message = str(caught.value)
    assert "\n" not in message
    for option in ("--no-texts", "--no-images", "--allow-half-pairs"):
        assert option in message
    seen.refuse_half_pairs(images=False)
    seen.refuse_half_pairs(texts=False)
    return message


def test_pairs_are_not_refused_and_one_shard_is_enough(tmp_path: Path) -> None:
    seen = look(tmp_path, PAIRS, [("junk", b"")])
    seen.refuse_half_pairs()
    assert (seen.pairs, seen.samples, seen.notice()) == (3, 3, None)
    look(tmp_path, IMAGES, PAIRS).refuse_half_pairs()
    look(tmp_path, [*IMAGES, ("9.jpg", b"i"), ("9.txt", b"t")]).refuse_half_pairs()


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        ([*IMAGES, *CAPTIONS],
         ["3 without an image (3 no file), 3 without a caption (3 no file)", "tar --sort=name -cf sorted-0.tar"]),
        (IMAGES, [": 3 without a caption (3 no file). ", "--caption-key names"]),
        (CAPTIONS, [": 3 without an image (3 no file). ", "--image-key names"]),
        ([("a.jpg", b"i"), ("a.text", b"t")],
         ["1 without a caption (1 not understood)", "captions may be in text: --caption-key text"]),
        ([("a.jpg", b"i"), ("a.json", b'{"prompt": "p"}')], ["captions may be in prompt: --caption-key prompt"]),
        ({"url": ["http://h/1"], "caption": ["c"]}, ["only web addresses of images (url): `clipmill ingest`"]),
        ({"image": ["http://h/1"], "caption": ["c"]}, ["only web addresses of images (image): `clipmill ingest`"]),
        ({"image": [b"i"], "prompt": ["p"]}, ["captions may be in prompt: --caption-key prompt"]),
        ({"picture": ["aGVsbG8="], "text": ["p"]}, ["images may be in picture: --image-key picture"]),
        ({"image": pa.array([None], pa.binary()), "text": ["p"]}, ["1 without an image (1 empty)"]),
    ],
)  # fmt: skip
def test_a_run_without_one_pair_is_refused_with_the_remedy(
    tmp_path: Path, content: Content | dict[str, Any], reasons: list[str]
) -> None:
    message = refusal(look(tmp_path, content))
    assert [reason for reason in reasons if reason not in message] == []


def test_failed_samples_alone_are_for_the_run_to_count(tmp_path: Path) -> None:
    look(tmp_path, [("a.jpg", b"i"), ("a.json", b"{")]).refuse_half_pairs()


def test_what_looks_like_a_caption_and_is_not_used_is_named(tmp_path: Path) -> None:
    seen = look(tmp_path, [*PAIRS, ("3.jpg", b"i"), ("3.text", b"t"), ("4.jpg", b"i"), ("4.json", b'{"prompt": "p"}')])
    seen.refuse_half_pairs()
    notice = seen.notice()
    assert notice == f"{tmp_path}/0.tar: text, prompt may hold captions but are not used (see --caption-key)"
    assert look(tmp_path, PAIRS, keys=SampleKeys(caption=("txt",))).notice() is None
    table = {"image": [b"i"], "caption": ["c"], "alt_text": ["a"], "caption_length": [1], "image_url": ["u"]}
    assert "alt_text may hold captions but is not used" in (look(tmp_path, table).notice() or "")
    ordinary = b'{"caption": "t", "url": "u", "key": "0", "status": "success", "width": 1, "exif": "{}", "sha256": "x"}'
    assert look(tmp_path, [*PAIRS[:2], ("0.json", ordinary)]).notice() is None


def test_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_look, "_BYTES", 2500)
    many = [(f"{i}.jpg", bytes(1000)) for i in range(20)]
    assert look(tmp_path, many).samples == 3
    monkeypatch.setattr(first_look, "_BYTES", 10**9)
    monkeypatch.setattr(first_look, "_SAMPLES", 5)
    assert look(tmp_path, many).samples == 5
    assert look(tmp_path, *[many] * 9).samples == 8 * 5


def test_shards_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sample in it is understood.*\(and 1 more like it\)"):
        look(tmp_path, [("a.npy", b"x")], [("b.npy", b"x")])
    look(tmp_path, [("a.npy", b"x")], PAIRS).refuse_half_pairs()
