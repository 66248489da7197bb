"""A purge is killed at any moment: until then no step returns the row, and run again it leaves no trace of it."""

from __future__ import annotations

from pathlib import Path

from clipmill.pipeline import ForgetJob, forget
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import write_manifest
from clipmill.pipeline.dataset.plan import planned_shards
from forget_kit import ROWS, SHARDS, Traces, derived, embedded, url_of
from killed import number_printed

MOMENTS = 10

# Each child begins with the same files; what it left is finished, and looked through.
SCRIPT = """
import random, shutil, sys
from pathlib import Path
folder, moments = Path(sys.argv[1]), int(sys.argv[2])
from clipmill.pipeline import ForgetJob, forget
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.forgetting import forget as _
from forget_kit import Traces, url_of
from killed import forked

out, derived = folder / "out", folder / "derived"
traces = Traces.of(Dataset.open(str(out)), 1, 4)
job = ForgetJob(
    str(out), urls=str(folder / "urls.txt"), purge=True, also=[str(path) for path in sorted(derived.iterdir())]
)
for path in (out, derived):
    shutil.copytree(path, folder / "before" / path.name)

def run(seconds=None):
    for path in (out, derived):
        shutil.rmtree(path)
        shutil.copytree(folder / "before" / path.name, path)
    return forked(lambda: forget(job, lambda _: None), seconds)

whole, _ = run()
moments, killed = random.Random(0), 0
for number in range(int(sys.argv[2])):
    died = run(whole * moments.uniform(0.1, 0.95))[1]
    killed += died
    if (out / ".clipmill" / "forgotten.parquet").exists():  # from that moment on
        dataset = Dataset.open(str(out))
        urls = [url for part in dataset.parts for url in dataset.read(part, ["url"])["url"].to_pylist()]
        assert url_of(1, 4) not in urls
    forget(job, lambda _: None)
    assert traces.in_files(out, derived) == [], number
    assert (out / SUCCESS).exists()
print(killed)
"""


def test_killed_at_ten_moments_a_purge_ends_as_if_it_never_was(tmp_path: Path) -> None:
    dataset = embedded(tmp_path)
    write_manifest(dataset.output, ledger(dataset.output, planned_shards(dataset.output), Manifest.of()))
    dataset.output.write(SUCCESS, b"")
    derived(Dataset.open(dataset.url), tmp_path / "derived", ["subset", "unique", "index", "shards-again"])
    (tmp_path / "urls.txt").write_text(url_of(1, 4))
    assert number_printed(SCRIPT, str(tmp_path), str(MOMENTS)) >= 2  # the others were quicker than their moment
    left = Dataset.open(dataset.url)
    assert left.forgotten.pending == 0
    manifest = ledger(left.output, planned_shards(left.output), Manifest.of())
    assert (manifest.totals.rows, manifest.totals.embedded) == (ROWS * SHARDS, ROWS * SHARDS - 1)
    assert Traces((url_of(1, 4),), ()).in_files(tmp_path / "out", tmp_path / "derived") == []
    assert forget(ForgetJob(dataset.url, purge=True)).purged == 0
