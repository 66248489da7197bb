"""Equal rows, by 128 bits of what they contain."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from clipmill.pipeline.deduplication import contents as module
from clipmill.pipeline.deduplication.contents import copies_in, digests_of
from hypothesis import given
from hypothesis import strategies as st

SUM = hashlib.sha256(b"a picture").hexdigest()


@given(st.lists(st.sampled_from([SUM, SUM.upper(), SUM[:-1] + "0", "a caption", "", "x" * 64, f"{5:064x}"])))
def test_equal_contents_have_equal_digests_in_whatever_company(values: list[str]) -> None:
    digests = [tuple(row) for row in digests_of(pa.array(values, pa.string())).tolist()]
    alone = [tuple(digests_of(pa.array([value]))[0].tolist()) for value in values]
    assert digests == alone
    assert len(set(digests)) == len(set(values))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2))))
def test_a_copy_points_at_the_first_that_it_equals(keys: list[tuple[int, int]]) -> None:
    records = np.empty(len(keys), module._KEY)
    for place, (high, low) in enumerate(keys):
        records[place] = (high, low, 100 + place)
    shuffled = records[np.random.default_rng(0).permutation(len(records))]
    found = sorted((int(row["id"]) - 100, int(row["other"]) - 100) for row in copies_in(shuffled))
    assert found == [(place, keys.index(key)) for place, key in enumerate(keys) if keys.index(key) < place]
