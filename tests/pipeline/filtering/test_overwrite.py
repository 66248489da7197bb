"""A threshold is found by trying: counting writes nothing, and a subset may be replaced by one made otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import DedupJob, dedup, filter
from clipmill.pipeline.dataset.derived import STEP
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.errors import OutputError, PlanMismatchError, UserError
from fakes import files


def test_counting_writes_nothing(make: Any, tmp_path: Path) -> None:
    job = replace(make(), where=["row % 2 = 0"])
    written = filter(job)
    before = files(str(tmp_path))
    counted = filter(replace(job, out="", count=True))
    assert (counted.funnel, counted.out, counted.done_before) == (written.funnel, "", False)
    assert files(str(tmp_path)) == before


def test_without_a_folder_or_with_uids_there_is_nothing_to_count(make: Any) -> None:
    job = make()
    with pytest.raises(UserError, match=r"--out is missing: .* or add --count"):
        filter(replace(job, out=""))
    with pytest.raises(UserError, match="--count writes nothing"):
        filter(replace(job, count=True, uids="uids.npy"))


def test_a_subset_made_otherwise_is_replaced_when_that_is_wanted(make: Any, tmp_path: Path) -> None:
    job = replace(make(), where=["row < 5"])
    first = filter(job)
    other = replace(job, where=["row >= 5"])
    with pytest.raises(PlanMismatchError, match="choose another output folder, or add --overwrite"):
        filter(other)
    assert Subset.open(job.out).funnel == first.funnel
    second = filter(replace(other, overwrite=True))
    assert not second.done_before and Subset.open(job.out).funnel == second.funnel != first.funnel
    again = files(job.out)
    assert filter(replace(other, overwrite=True)).done_before and files(job.out) == again  # it is what is wanted


def test_a_replacement_that_was_killed_is_no_subset_and_can_go_on(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(make(), where=["row < 5"])
    filter(job)
    other = replace(job, where=["row >= 5"], overwrite=True)

    def dies(_: Output, name: str) -> None:
        if name.startswith("data/"):
            raise KeyboardInterrupt
        delete(Output.at(job.out), name)

    delete = Output.delete
    with monkeypatch.context() as patched:
        patched.setattr(Output, "delete", dies)
        with pytest.raises(KeyboardInterrupt):
            filter(other)
    assert Output.at(job.out).read(STEP) is not None
    assert filter(other).funnel == filter(replace(other, out=f"{job.out}-2")).funnel


def test_no_other_output_is_ever_replaced(make: Any) -> None:
    job = make()
    filter(replace(job, where=["row < 5"]))
    before = files(job.out)
    with pytest.raises(PlanMismatchError, match="is the output of `clipmill filter`: choose another"):
        dedup(DedupJob(job.dataset, job.out, overwrite=True))
    with pytest.raises(OutputError, match="is the output of `clipmill embed`"):
        filter(replace(job, out=job.dataset, overwrite=True))
    assert files(job.out) == before
