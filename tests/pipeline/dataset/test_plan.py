"""What a dataset was begun with is what it goes on with."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.weights import ModelCard
from clipmill.pipeline.dataset.columns import Column
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.dataset.plan import PLAN, SHARDS, Fingerprint, freeze, planned_shards, read_plan, settle
from clipmill.pipeline.errors import InputError, OutputError, PlanMismatchError
from clipmill.pipeline.job.embed import EmbedJob
from clipmill.pipeline.records import Shard
from fsspec.implementations.memory import MemoryFileSystem

JOB = EmbedJob([], "out", "tiny", decode="exact")
CARD = ModelCard("tiny", "clipmill", "ab" * 32, VARIANTS["tiny"])
LAYOUT = PartLayout((Column("uid"), Column("score", "float64")), 256, 77)
PRINT = Fingerprint.of({"": CARD}, "fp32", LAYOUT, JOB)
FIELDS = [f.name for f in fields(Fingerprint) if f.name not in ("weights", "columns", "digest_has_columns")]
SHARDS_OF = [Shard(f"/data/{name}.tar", size, f"tag {name}") for name, size in (("b", 10), ("a", 20), ("c", None))]


@pytest.fixture(params=["folder", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    MemoryFileSystem().store.clear()
    made = Output.at(str(tmp_path) if request.param == "folder" else "memory://bucket/out")
    made.prepare()
    return made


def refusal(output: Output, fingerprint: Fingerprint) -> str:
    with pytest.raises(PlanMismatchError) as caught:
        freeze(output, fingerprint, SHARDS_OF)
    assert "\n" not in str(caught.value) and output.url in str(caught.value)
    return str(caught.value)


def test_the_digest_is_the_same_for_ever() -> None:
    """A change here makes every dataset that was begun before refuse to go on: raise SCHEMA_VERSION if it must be."""
    assert PRINT.digest == "45e6d89bd588123dbd494d8781abfca04cf1c78850f49c38501bcf0877338b0a"
    older = replace(PRINT, digest_has_columns=True)  # of datasets that were begun when columns were part of it
    assert older.digest == "6c041b34cc0d33d243f78bc3943797821eb0ab7d33512e132e7bb7bc53035713"


def test_a_fingerprint_is_told_in_words() -> None:
    assert PRINT.preprocessing == "96 px, shortest, bicubic, mean [0.5, 0.5, 0.5], std [0.25, 0.25, 0.25]"
    assert PRINT.text == "first 77 tokens of a vocabulary of 4096"
    assert PRINT.columns == "uid:string, score:float64"
    assert PRINT.embeds == "images and texts"


def test_what_was_decoded_fast_is_not_comparable() -> None:
    fast = Fingerprint.of({"": CARD}, "fp32", LAYOUT, replace(JOB, decode="fast"))
    assert fast == Fingerprint.of({"": CARD}, "fp32", LAYOUT, EmbedJob([], "out", "tiny", fast_decode=True))
    assert fast.digest != PRINT.digest
    assert fast.preprocessing == f"{PRINT.preprocessing}; large JPEGs decoded smaller"
    assert (PRINT.decoding, fast.decoding) == (("exact", False), ("fast", False))


def test_what_was_turned_or_found_elsewhere_is_not_comparable() -> None:
    turned = Fingerprint.of({"": CARD}, "fp32", LAYOUT, replace(JOB, exif=True))
    assert turned.preprocessing == f"{PRINT.preprocessing}; turned as EXIF says" and turned.digest != PRINT.digest
    close = Fingerprint.of({"": CARD}, "fp32", LAYOUT, replace(JOB, decode="close", exif=True))
    assert (turned.decoding, close.decoding) == (("exact", True), ("close", True))
    keyed = Fingerprint.of({"": CARD}, "fp32", LAYOUT, replace(JOB, caption_keys=("prompt",)))
    assert keyed.differences(PRINT) == ["keys is caption from prompt, not the usual ones"]
    assert keyed.digest != PRINT.digest


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_counts_and_is_named_when_it_differs(name: str) -> None:
    change: dict[str, Any] = {name: "other"}
    other = replace(PRINT, **change)
    assert other.digest != PRINT.digest
    words = name.replace("_", " ")
    mine, theirs = str(getattr(PRINT, name)), "other"
    if name == "weights_sha256":  # few people know them by heart
        mine, theirs = f"{mine[:12]}… (clipmill)", "other… (clipmill)"
    assert other.differences(PRINT) == [f"{words} is {theirs}, not {mine}"]
    assert PRINT.differences(other) == [f"{words} is {mine}, not {theirs}"]


def test_what_weights_are_called_does_not_count() -> None:
    renamed = replace(PRINT, weights="tiny.safetensors")
    assert renamed.digest == PRINT.digest and renamed.differences(PRINT) == []


def test_another_model_is_one_difference_and_not_four() -> None:
    card = ModelCard("ViT-B/32", "openai", "cd" * 32, VARIANTS["ViT-B/32"])
    other = Fingerprint.of({"": card}, "fp32", LAYOUT, JOB)
    assert other.differences(PRINT) == ["model is ViT-B/32, not tiny"]


def test_columns_are_no_part_of_the_digest(output: Output) -> None:
    more = replace(PRINT, columns="uid:string, score:float64, lang:string")
    assert more.digest == PRINT.digest and more.differences(PRINT) == []
    freeze(output, PRINT, SHARDS_OF)
    assert refusal(output, more).startswith(f"{output.url} was begun without the column lang: leave it out here, and ")
    assert f"by `clipmill columns {output.url} -o FOLDER --column lang`; then" in refusal(output, more)
    otherwise = refusal(output, replace(PRINT, columns="uid:string, score:int64"))
    assert "has the column score as float64, not as int64: leave out --column score:int64, or" in otherwise
    assert "precision is bf16" in refusal(output, replace(more, precision="bf16"))  # the first thing to mend
    for other in ("uid:string", "score:float64, uid:string"):  # another run began it at the same moment
        assert refusal(output, replace(PRINT, columns=other)).endswith(f", not {other}: run this again")


def test_a_dataset_begun_when_columns_counted_goes_on_with_its_digest(output: Output) -> None:
    """What was made of it names that digest."""
    older = replace(PRINT, digest_has_columns=True)
    settings = {name: value for name, value in asdict(older).items() if name != "digest_has_columns"}
    output.write(PLAN, json.dumps({"fingerprint": older.digest, "settings": settings}).encode())
    assert read_plan(output) == older
    now = PRINT.going_on(read_plan(output))
    assert now.digest == older.digest and freeze(output, now, SHARDS_OF).shards == SHARDS_OF
    assert freeze(output, PRINT, SHARDS_OF).shards == SHARDS_OF  # the digest's rule alone is no difference
    assert PRINT.going_on(None) == PRINT


def test_nothing_begun_is_no_plan(output: Output) -> None:
    assert read_plan(output) is None and planned_shards(output) == []


def test_a_plan_is_read_as_it_was_frozen(output: Output) -> None:
    assert freeze(output, PRINT, SHARDS_OF).shards == SHARDS_OF
    assert read_plan(output) == PRINT and planned_shards(output) == SHARDS_OF
    plan = json.loads(output.read(PLAN) or b"")
    assert plan["fingerprint"] == PRINT.digest and plan["settings"]["precision"] == "fp32"


def test_the_same_again_changes_nothing(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(output, PRINT, SHARDS_OF)
    monkeypatch.setattr(Output, "write", None)
    assert freeze(output, replace(PRINT, weights="another name"), SHARDS_OF).shards == SHARDS_OF


def test_other_settings_are_refused_with_the_difference(output: Output) -> None:
    freeze(output, PRINT, SHARDS_OF)
    before = (output.read(PLAN), output.read(SHARDS))
    assert "precision is bf16, not fp32" in refusal(output, replace(PRINT, precision="bf16"))
    assert "embedding type is float32, not float16" in refusal(output, replace(PRINT, embedding_type="float32"))
    assert (output.read(PLAN), output.read(SHARDS)) == before


def test_new_shards_are_added_behind_those_planned(output: Output) -> None:
    freeze(output, PRINT, SHARDS_OF)
    new = Shard("/data/aa.tar", 5, "tag")
    assert freeze(output, PRINT, [new, SHARDS_OF[1]]).shards == [*SHARDS_OF, new]
    assert planned_shards(output) == [*SHARDS_OF, new]


def test_two_shards_of_one_part_are_refused_whenever_they_come(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name has 64 bits of a hash, of which two shards of one name are not known to meet."""
    url, other = "/data/1/images.tar", "/data/2/images.tar"
    monkeypatch.setattr(Shard, "part_name", property(lambda _: "images-0123456789abcdef.parquet"))
    freeze(output, PRINT, [Shard(other)])
    with pytest.raises(InputError, match=rf"{url} and {other} would both become images-\w+.parquet: rename one"):
        freeze(output, PRINT, [Shard(url)])
    assert planned_shards(output) == [Shard(other)]


def test_at_the_end_changed_shards_are_recorded_and_others_additions_stay(output: Output) -> None:
    freeze(output, PRINT, SHARDS_OF)
    changed = Shard("/data/a.tar", 21, "another tag")
    plan = freeze(output, PRINT, [changed], committed=[changed.part_name])
    new = Shard("/data/new.tar", 5, "tag")
    freeze(output, PRINT, [new])
    assert settle(output, plan, []) == [*SHARDS_OF, new]
    expected = [SHARDS_OF[0], changed, SHARDS_OF[2], new]
    assert settle(output, plan, [changed.url]) == expected == planned_shards(output)


def test_shards_that_are_not_asked_for_stay_planned(output: Output) -> None:
    freeze(output, PRINT, SHARDS_OF)
    assert freeze(output, PRINT, SHARDS_OF[2:]).shards == SHARDS_OF


def test_a_plan_of_ten_thousand_shards_keeps_its_order(output: Output) -> None:
    many = [Shard(f"s3://bucket/{i * 7 % 10_000:05d}.tar", i) for i in range(10_000)]
    assert freeze(output, PRINT, many).shards == many == planned_shards(output)


def test_parts_without_a_plan_are_somebody_elses(output: Output) -> None:
    output.write("theirs.parquet", b"x")
    with pytest.raises(OutputError, match=r"holds theirs\.parquet, but no .clipmill/plan\.json"):
        freeze(output, PRINT, SHARDS_OF)
    assert output.read(PLAN) is None


def test_a_run_that_ended_before_its_plan_was_whole_can_be_begun_again(output: Output) -> None:
    freeze(output, PRINT, SHARDS_OF)
    output.delete(PLAN)
    assert freeze(output, replace(PRINT, precision="bf16"), SHARDS_OF[:1]).shards == SHARDS_OF[:1]
    assert planned_shards(output) == SHARDS_OF[:1]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"settings": {"model": "tiny"}}', b'{"settings": {"zoom": 1}}']
)
def test_a_broken_plan_is_named(output: Output, content: bytes) -> None:
    output.write(PLAN, content)
    with pytest.raises(OutputError, match=r"plan\.json is not a plan of this version"):
        read_plan(output)


def test_a_shards_part_is_a_pure_function_of_its_url() -> None:
    urls = ("s3://a/00000.tar", "s3://b/00000.tar", "/x/.tar", "/x/__.tar", "/x/_a.tar")
    names: dict[str, Any] = {url: Shard(url).part_name for url in urls}
    assert names["s3://a/00000.tar"] == Shard("s3://a/00000.tar", 5, "tag").part_name
    assert len(set(names.values())) == 5
    starts = [name.partition("-")[0] for name in names.values()]
    assert starts == ["00000", "00000", "shard", "shard", "a"]  # readers pass over names that begin with _
