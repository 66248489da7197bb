"""Drawn shards are laid out as img2dataset's, are a function of their spec, and broken just where they mean to be."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.jobs.drawn.damage import DAMAGES
from clipmill.jobs.drawn.pairs import FORMATS, PairSpec, pair_of, scene_of
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Decoded, Shard
from fakes import Drawn

IMG2DATASET = {  # of each sample's json, and of the table beside the tar
    "caption", "url", "key", "status", "error_message", "width", "height", "original_width", "original_height", "exif",
    "sha256",
}  # fmt: skip
DECODER = Decoder(Preprocess(32, PreprocessConfig()), Tokenizer(vocab_size=4096))


def decoded(tars: list[Path]) -> list[Decoded]:
    return [DECODER.decode(sample) for tar in tars for sample in read_samples(Shard(str(tar)))]


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> list[Path]:
    """The shared data set, undamaged."""
    return write_shards(replace(drawn.spec, damaged=0), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def rows(whole: list[Path]) -> list[dict[str, Any]]:
    """The json of every sample."""
    return [json.loads(data) for tar in whole for name, data in members(tar).items() if name.endswith(".json")]


# --- layout --------------------------------------------------------------------------------------------------------


def test_a_shard_is_a_tar_a_table_and_its_statistics_of_five_digits(drawn: Drawn) -> None:
    files = {path.name for path in drawn.folder.iterdir()}
    assert files == {f"{shard:05d}{suffix}" for shard in range(3) for suffix in (".tar", ".parquet", "_stats.json")}
    assert [tar.name for tar in drawn.tars] == ["00000.tar", "00001.tar", "00002.tar"]


def test_samples_are_adjacent_members_under_a_key_of_shard_and_place(whole: list[Path]) -> None:
    for shard, tar in enumerate(whole):
        names = list(members(tar))
        assert len(names) == 3 * 40
        for place in range(40):
            image, text, metadata = names[3 * place : 3 * place + 3]
            key = f"{shard:05d}{place:04d}"
            assert image in {f"{key}.{extension}" for extension in FORMATS}
            assert (text, metadata) == (f"{key}.txt", f"{key}.json")


def test_the_json_has_what_img2dataset_keeps_and_it_is_true(whole: list[Path], rows: list[dict[str, Any]]) -> None:
    found = {name: data for tar in whole for name, data in members(tar).items()}
    for index, row in enumerate(rows):
        assert set(row) >= IMG2DATASET
        image = next(
            data for name, data in found.items() if name.startswith(row["key"]) and name.endswith(tuple(FORMATS))
        )
        pair = pair_of(PairSpec(seed=7), index)
        assert image == pair.image
        assert row["sha256"] == hashlib.sha256(image).hexdigest()
        assert (row["width"], row["height"]) == (pair.width, pair.height)
        assert row["caption"].encode() == found[f"{row['key']}.txt"]
        assert row["status"] == "success" and row["error_message"] is None
        assert row["url"].startswith("https://") and row["url"].endswith(f"/{index}.{pair.extension}")
    assert len({row["url"] for row in rows}) == len(rows)


def test_the_json_tells_what_is_in_the_picture(rows: list[dict[str, Any]]) -> None:
    for index, row in enumerate(rows):
        things = [thing.label for thing in scene_of(PairSpec(seed=7), index)[0].things]
        assert row["things"] == things
        assert row["label"] == (things[0] if len(things) == 1 else None)


def test_the_table_beside_the_tar_holds_the_same_rows(whole: list[Path], rows: list[dict[str, Any]]) -> None:
    assert [row for tar in whole for row in pq.read_table(tar.with_suffix(".parquet")).to_pylist()] == rows


def test_the_statistics_count_the_samples(whole: list[Path]) -> None:
    for tar in whole:
        stats = json.loads(tar.with_name(f"{tar.stem}_stats.json").read_text())
        assert (stats["count"], stats["successes"]) == (40, 40)
        assert stats["failed_to_download"] == stats["failed_to_resize"] == 0


@pytest.mark.parametrize(("pairs", "shards"), [(100, 8), (7, 7), (3, 5), (2000, 8)])
def test_shards_share_all_pairs_out_evenly(pairs: int, shards: int) -> None:
    spec = DrawnSpec(pairs, shards)
    ranges = [spec.indices(shard) for shard in range(shards)]
    assert [index for each in ranges for index in each] == list(range(pairs))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


# --- a function of the spec ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_spec_gives_the_same_bytes(processes: int, drawn: Drawn, tmp_path: Path) -> None:
    """In other processes too, where sets of strings come in another order."""
    told: list[Path] = []
    tars = write_shards(drawn.spec, tmp_path, processes, told.append)
    assert told == tars == [tmp_path / tar.name for tar in drawn.tars]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in drawn.folder.iterdir()
    }


def test_another_seed_gives_another_data_set(tmp_path: Path) -> None:
    one, other = (
        write_shards(DrawnSpec(4, 1, PairSpec(seed)), tmp_path / str(seed))[0].read_bytes() for seed in (1, 2)
    )
    assert one != other


# --- wrong captions ------------------------------------------------------------------------------------------------


def test_about_the_asked_share_of_pairs_carries_a_wrong_caption(rows: list[dict[str, Any]]) -> None:
    wrong = sum(not row["caption_is_right"] for row in rows)
    assert 8 <= wrong <= 30  # of 120 at 15 %


def test_without_wrong_captions_all_are_right(tmp_path: Path) -> None:
    (tar,) = write_shards(DrawnSpec(20, 1, PairSpec(seed=3)), tmp_path)
    rows = pq.read_table(tar.with_suffix(".parquet")).to_pylist()
    assert all(row["caption_is_right"] and row["caption_of_pair"] == index for index, row in enumerate(rows))


def test_the_json_says_whose_caption_it_is(rows: list[dict[str, Any]]) -> None:
    for index, row in enumerate(rows):
        assert row["caption"] == scene_of(PairSpec(seed=7), row["caption_of_pair"])[1]
        assert row["caption_is_right"] == (row["caption_of_pair"] == index)


def test_a_wrong_caption_is_of_a_picture_that_shares_no_thing(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if not row["caption_is_right"]:
            donor = rows[row["caption_of_pair"]]
            assert set(donor["things"]).isdisjoint(row["things"])


# --- damage --------------------------------------------------------------------------------------------------------


def test_just_the_damaged_pairs_fail_each_with_a_reason(drawn: Drawn, whole: list[Path]) -> None:
    """Which pairs are damaged shows in their bytes."""
    broken, healthy = ([members(tar) for tar in tars] for tars in (drawn.tars, whole))
    changed = {
        name.partition(".")[0]
        for one, other in zip(broken, healthy, strict=True)
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }
    rows = decoded(drawn.tars)
    failed = {row.key: row.error for row in rows if row.error is not None}
    assert len(rows) == 120
    assert changed == set(failed) and len(failed) == 12
    assert all(error.startswith(("read: ", "decode: ", "tokenise: ")) for error in failed.values())
    assert all(row.pixels is not None and row.tokens is not None for row in rows if row.error is None)


def test_undamaged_shards_decode_whole(whole: list[Path]) -> None:
    assert [row.error for row in decoded(whole)] == [None] * 120


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_each_damage_breaks_an_image_of_each_format(damage: Any, extension: str, tmp_path: Path) -> None:
    pair = next(pair for index in range(100) if (pair := pair_of(PairSpec(seed=1), index)).extension == extension)
    files = {extension: pair.image, "txt": pair.caption.encode(), "json": b'{"caption": "a", "url": "b", "key": "c"}'}
    broken = damage(dict(files))
    assert broken != files
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in broken.items():
            path = tmp_path / name
            path.write_bytes(content)
            tar.add(path, f"0.{name}")
    (row,) = decoded([tmp_path / "0.tar"])
    assert row.error is not None and row.pixels is None and row.tokens is None


def test_more_damaged_pairs_than_kinds_of_damage_use_them_again(tmp_path: Path) -> None:
    tars = write_shards(DrawnSpec(40, 2, PairSpec(seed=2), damaged=30), tmp_path)
    failures = Counter(row.error is not None for row in decoded(tars))
    assert failures == {True: 30, False: 10}
