"""The report as a page: complete in itself, safe, and sensible whatever the dataset holds."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from chromium import loaded, nowhere
from clipmill.pipeline import FilterJob, LabelJob, Report, ReportJob, filter, label, report
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.errors import InputError, OutputError
from fakes import Ran
from made import make_dataset, unit_vectors
from PIL import Image
from s3 import Bucket

# attributes from which browsers load
LOADING = {"src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data", "background", "ping"}
HOSTILE = """<script>alert(1)</script>"'></title></style><img src=http://evil.example/x onerror=alert(1)> {{ 7 * 7 }}"""


@dataclass
class Page(HTMLParser):
    """What an HTML file holds."""

    source: str
    tags: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data + " "

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


@pytest.fixture(scope="module")
def labels(ran: Ran, sharp_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    (folder / "classes.txt").write_text("red star\nblue fish\ngrey crescent")
    job = LabelJob(str(ran.out), str(folder / "labels"), str(folder / "classes.txt"), model=f"tiny={sharp_weights}")
    label(job)
    return folder / "labels"


@pytest.fixture(scope="module")
def made(ran: Ran, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("report") / "report.html"
    return report(ReportJob(str(ran.out), str(out), labels=str(labels)))


@pytest.fixture(scope="module")
def page(made: Report) -> Page:
    return Page(Path(made.out).read_text(encoding="utf-8"))


def test_it_says_what_the_parquet_says(page: Page, ran: Ran) -> None:
    rows = [row for part in ran.out.glob("data/*.parquet") for row in pq.read_table(part).to_pylist()]
    assert f"Rows {len(rows)} Embedded {sum(row['error'] is None for row in rows)}" in page.text
    similarity = np.array([row["similarity"] for row in rows if row["similarity"] is not None], np.float64)
    top = np.sort(similarity)[::-1][int(0.3 * len(similarity))]
    assert f"30% {top:.4f} {(similarity >= top).sum()}" in page.text
    for reason in {row["error"].split(" (")[0] for row in rows if row["error"]}:
        assert reason in page.text
    assert Dataset.open(str(ran.out)).settings.digest in page.text
    assert f"The bottleneck is {ran.summary.dataset.bottleneck}" in page.text


def test_its_top_share_is_what_filter_keeps(made: Report, ran: Ran, tmp_path: Path) -> None:
    cut = next(cut for cut in made.numbers.similarities[0].cuts if cut.fraction == 0.3)
    kept = filter(FilterJob(str(ran.out), str(tmp_path / "top"), top_fraction=0.3, by="similarity"))
    same = filter(FilterJob(str(ran.out), str(tmp_path / "same"), where=(f"similarity >= {cut.threshold!r}",)))
    assert kept.funnel.kept == same.funnel.kept == cut.rows


def test_labels_are_counted_as_they_were_written(made: Report, page: Page, labels: Path) -> None:
    rows = [row for part in labels.glob("data/*.parquet") for row in pq.read_table(part).to_pylist() if row["label"]]
    assert made.labels is not None
    assert made.labels.images == len(rows) == 108
    for count in made.labels.most:
        shares = [row["probability"] for row in rows if row["label"] == count.label]
        assert (count.images, count.probability) == (len(shares), pytest.approx(np.mean(shares)))
        assert f"{count.label} {count.images} {count.probability:.2f}" in page.text
    assert sum(made.labels.probabilities.counts) == len(rows)


def test_it_loads_nothing(page: Page) -> None:
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.loads)
    rest = re.sub(r"data:image/jpeg;base64,[\w+/=]*", "", page.source)
    assert not re.search(r"url\s*\(|@import|https?:|//\w|fetch|XMLHttp|import\(", rest)
    assert page.tags.count("link") == page.tags.count("iframe") == 0


def test_a_browser_asks_for_nothing_and_its_slider_works(made: Report, tmp_path: Path) -> None:
    (tmp_path / "loading.html").write_text('<img src="http://elsewhere.example/x.png">')
    with nowhere() as proxy:
        through = f"--proxy-server=http://127.0.0.1:{proxy.port}"
        dom = loaded(Path(made.out), tmp_path / "profile", through)
        assert proxy.requests == []
        loaded(tmp_path / "loading.html", tmp_path / "profile", through)
        assert proxy.requests[0].startswith("GET http://elsewhere.example/x.png")  # or the test would see nothing
    shown = re.search(r"<output>≥ -?\d\.\d{3} keeps (\d+) rows, (\d+\.\d)%</output>", dom)  # near the top 30 %
    assert shown and 20 < float(shown[2]) <= 31 and shown[2] == f"{100 * int(shown[1]) / 108:.1f}"


def test_its_pictures_are_the_datasets(made: Report, page: Page) -> None:
    assert made.duplicates is not None
    alike = sum(len(group.rows) for group in made.duplicates.largest)
    of_groups_and_ladder = 114  # of five groups and along the similarities; some rows are in several
    assert (made.pictures_missing, len(page.loads)) == (0, of_groups_and_ladder + alike)
    for source in page.loads:
        image = Image.open(io.BytesIO(b64decode(source.partition(",")[2])))
        assert image.format == "JPEG" and max(image.size) <= 240


def test_the_same_dataset_makes_the_same_page(made: Report, ran: Ran, labels: Path, tmp_path: Path) -> None:
    report(ReportJob(str(ran.out), str(tmp_path / "again.html"), labels=str(labels)))
    assert (tmp_path / "again.html").read_bytes() == Path(made.out).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_within_a_subset_only_its_rows_count(ran: Ran, labels: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(str(ran.out))
    output = Output.at(str(tmp_path / "subset")).prepare()
    begin_subset(output, "filter", dataset, {})
    write_subset_part(output, dataset.parts[0], dataset.read(dataset.parts[0], IDENTITY).slice(0, 30))
    finish_subset(output, dataset, Funnel(120, {"--where": 90}, 30))
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html"), labels=str(labels), within=output.url))
    rows = dataset.read(dataset.parts[0], ["error", "similarity"]).slice(0, 30).to_pylist()
    assert found.numbers.counts.rows == 30
    assert found.numbers.similarities[0].scored == sum(row["similarity"] is not None for row in rows)
    assert found.labels and found.labels.images == sum(row["error"] is None for row in rows)
    text = Page((tmp_path / "r.html").read_text()).text
    assert f"within {output.url}" in text and "Of the whole dataset, not of the subset alone." in text
    other = make_dataset(tmp_path / "other", [{"similarity": [0.5]}])
    for wrong in ({"within": output.url}, {"labels": str(labels)}):
        with pytest.raises(InputError, match="not of"):
            report(ReportJob(other.url, str(tmp_path / "no.html"), **wrong))


# --- whatever the dataset holds ------------------------------------------------------------------------------------


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., tuple[Report, Page]]:
    """The report of a made dataset."""

    def reported(*parts: dict[str, Any], **changes: Any) -> tuple[Report, Page]:
        dataset = make_dataset(tmp_path / "dataset", parts, **changes)
        found = report(ReportJob(dataset.url, str(tmp_path / "report.html")))
        return found, Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return reported


def test_hostile_words_stay_words(page_of: Any, page: Page) -> None:
    rows = {"key": [HOSTILE], "caption": [HOSTILE], "similarity": [0.5], "error": [None]}
    failed = {"error": [f"read: {HOSTILE}"]}
    _, found = page_of(rows, failed)
    assert found.handlers == found.loads == []
    assert found.tags.count("script") == found.tags.count("style") == 1
    assert set(found.tags) <= set(page.tags)
    assert "<script>alert(1)</script>" in found.text  # as text
    assert "{{ 7 * 7 }}" in found.text


def test_without_the_shards_captions_are_shown_and_a_note(page_of: Any) -> None:
    found, page = page_of({"caption": ["a cat", "a dog"], "similarity": [0.1, 0.2]})
    assert (found.pictures, found.pictures_missing) == (0, 2)
    assert "2 of 2 pictures cannot be shown" in page.text
    assert "a cat" in page.text and "no picture" in page.text


def test_only_failures(page_of: Any) -> None:
    found, page = page_of({"error": ["decode: not an image"] * 3})
    assert (found.numbers.counts.embedded, found.numbers.failures) == (0, {"decode: not an image": 3})
    assert "No row was embedded." in page.text and "decode: not an image 3" in page.text


def test_rows_that_lack_a_side_are_counted_by_cause(page_of: Any) -> None:
    part = {"image_embedding": unit_vectors(0, 3), "width": [10, 20, 30], "height": [10, 10, 10]}
    found, page = page_of(part, part, half_pairs={"caption: no file": 2, "image: a link": 1})
    assert "What lacks a side" in page.text and "6 of 6 embedded rows, 100.0%, have only an image or only" in page.text
    assert "no caption: no file 4" in page.text and "no image: a link 2" in page.text
    assert found.as_json()["status"]["dataset"]["half_pairs"] == {"caption: no file": 4, "image: a link": 2}
    _, page = page_of(part, part)
    assert "What lacks a side" not in page.text


def test_images_only(page_of: Any) -> None:
    images = {"image_embedding": unit_vectors(0, 3), "width": [10, 20, 30], "height": [10, 10, 10]}
    found, page = page_of(images, embeds="images")
    assert found.numbers.similarities == ()
    assert (found.numbers.counts.images, found.numbers.counts.pairs) == (3, 0)
    assert "No row has both an image and a caption embedded" in page.text
    assert "Some rows" in page.text and "Width : height" in page.text


def test_captions_only(page_of: Any) -> None:
    texts = {"text_embedding": unit_vectors(0, 2), "caption": ["a", "b"], "caption_tokens": [3, 90]}
    found, page = page_of(texts | {"caption_truncated": [False, True]}, embeds="texts")
    assert (found.numbers.counts.texts, found.numbers.counts.truncated) == (2, 1)
    assert "1 are longer than the model reads." in page.text


def test_no_rows_at_all(page_of: Any) -> None:
    found, page = page_of({})
    assert found.numbers.counts.rows == 0
    assert "There are no rows." in page.text


def test_several_models(page_of: Any) -> None:
    models = [("b32", "ViT-B/32"), ("l14", "ViT-L/14")]
    _, page = page_of({"b32_similarity": [0.1, 0.2], "l14_similarity": [0.3, 0.4]}, models=models)
    assert "Similarity b32" in page.text and "Similarity l14" in page.text
    assert "--where &#34;l14_similarity &gt;= {}&#34;" in page.source


def test_what_is_not_there_is_one_line(ran: Ran, tmp_path: Path) -> None:
    job = ReportJob(str(ran.out), str(tmp_path / "r.html"))
    for wrong, said in (
        (replace(job, dataset=str(tmp_path)), "is not a clipmill dataset"),
        (replace(job, labels=str(tmp_path)), "does not hold labels"),
        (replace(job, within=str(tmp_path)), "is not a subset"),
        (replace(job, alias="b32"), "no model is called 'b32'"),
    ):
        with pytest.raises(InputError, match=said):
            report(wrong)
    with pytest.raises(OutputError, match="is a folder; name a file"):
        report(replace(job, out=str(tmp_path)))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        report(replace(job, out=str(tmp_path / "file" / "r.html")))


def test_it_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path / "in", [{"similarity": [0.1]}]).url, tmp_path / "r.html"
    report(ReportJob(dataset, str(out)))
    first = out.read_bytes()
    other = make_dataset(tmp_path / "other", [{"similarity": [0.9]}]).url
    report(ReportJob(other, str(out)))
    assert out.read_bytes() != first
    for foreign in (b"<!doctype html>\n<title>holidays</title>", b"\xff\x00", b"x" * 10_000 + first):
        out.write_bytes(foreign)
        with pytest.raises(
            OutputError, match=r"r\.html is there already, and `clipmill report` did not write it: name"
        ):
            report(ReportJob(dataset, str(out)))
        assert out.read_bytes() == foreign
    report(ReportJob(dataset, str(out), overwrite=True))
    assert out.read_bytes() == first
    out.write_bytes(b"")  # as mktemp makes them
    report(ReportJob(dataset, str(out)))
    assert out.read_bytes() == first


def test_in_an_object_store_it_replaces_a_report_and_nothing_else(tmp_path: Path, bucket: Bucket) -> None:
    dataset, out = make_dataset(tmp_path / "in", [{"similarity": [0.1]}]).url, bucket.url("r.html")
    for _ in range(2):
        report(ReportJob(dataset, out))
    bucket.storage.pipe_file(out, b"holidays")
    with pytest.raises(OutputError, match="is there already, and `clipmill report` did not write it"):
        report(ReportJob(dataset, out))
    assert bucket.objects()["r.html"] == b"holidays"
    report(ReportJob(dataset, out, overwrite=True))
    assert bucket.objects()["r.html"].startswith(b"<!doctype html>")


def test_from_and_to_an_object_store(ran: Ran, bucket: Bucket) -> None:
    for path in ran.out.rglob("*"):
        if path.is_file():
            bucket.storage.pipe_file(bucket.url(f"out/{path.relative_to(ran.out)}"), path.read_bytes())
    found = report(ReportJob(bucket.url("out"), bucket.url("report.html")))
    assert found.numbers.counts.rows == 120 and found.pictures > 64 and found.pictures_missing == 0
    assert Page(bucket.objects()["report.html"].decode()).text.startswith("out · clipmill report")
