"""What an export refuses, in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import export
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import InputError, OutputError, PlanMismatchError, UserError
from export_kit import part_of, subset_of
from fakes import Ran
from made import make_dataset


def test_other_settings_datasets_and_folders_are_refused(job: Any, ran: Ran, tmp_path: Path) -> None:
    export(job("datacomp"))
    with pytest.raises(PlanMismatchError, match="to is 'lance', not 'datacomp'"):
        export(replace(job("lance"), out=job("datacomp").out))
    other = make_dataset(tmp_path / "other", [part_of(1, 2)])
    with pytest.raises(PlanMismatchError, match="dataset is"):
        export(replace(job("datacomp"), dataset=other.url))
    with pytest.raises(InputError, match="a subset of"):
        export(
            replace(job("lance"), dataset=other.url, within=subset_of(Dataset.open(str(ran.out)), tmp_path / "s", [0]))
        )
    (tmp_path / "theirs" / "img_emb").mkdir(parents=True)
    (tmp_path / "theirs" / "img_emb" / "img_emb_0.npy").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        export(replace(job("clip-retrieval"), out=str(tmp_path / "theirs")))
    assert (tmp_path / "theirs" / "img_emb" / "img_emb_0.npy").exists()


@pytest.mark.parametrize(
    ("to", "changes", "said"),
    [
        ("iceberg", {"within": "subset"}, "registers whole parts"),
        ("iceberg", {"table": "pairs"}, "must be NAMESPACE.NAME"),
        ("iceberg", {"catalog": "nowhere"}, "--catalog nowhere"),
        ("iceberg", {"out": "memory://b/out"}, "which needs a local folder"),
        ("lance", {"out": "memory://b/out"}, "local folders and s3"),
        ("lance", {"catalog": "any"}, "is for --to iceberg"),
        ("datacomp", {"alias": ""}, "--alias is for --to clip-retrieval"),
        ("clip-retrieval", {"rows_per_file": 0}, "must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_one_line(job: Any, to: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        export(replace(job(to), **changes))
