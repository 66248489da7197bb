"""Brace expansion."""

import pytest
from clipmill.pipeline.inputs.braces import expand
from hypothesis import given
from hypothesis import strategies as st

plain = st.text(alphabet="abc/._-0", max_size=8)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("{008..010}", ["008", "009", "010"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..100..46}", ["008", "054", "100"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{1..2..0}", ["1", "2"]),
        ("x{a,b}y", ["xay", "xby"]),
        ("{a,}", ["a", ""]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{a,b{1..2}}c", ["ac", "b1c", "b2c"]),
        ("{{0..1}}", ["{0}", "{1}"]),
        ("{x}{}{a..b}", ["{x}{}{a..b}"]),
        ("{a,b", ["{a,b"]),
        ("a}{0..1}", ["a}0", "a}1"]),
    ],
)
def test_expands_like_a_shell(text: str, names: list[str]) -> None:
    assert expand(text) == names


@given(st.integers(0, 3000), st.integers(0, 300), st.integers(1, 6), plain, plain)
def test_a_padded_range_keeps_its_width(first: int, count: int, width: int, before: str, after: str) -> None:
    last = first + count
    width = max(width, len(str(last)))
    names = expand(f"{before}{{{first:0{width}d}..{last:0{width}d}}}{after}")
    assert names == [f"{before}{n:0{width}d}{after}" for n in range(first, last + 1)]


@given(st.lists(plain, min_size=2, max_size=5), st.lists(plain, min_size=2, max_size=5), plain)
def test_several_lists_multiply(left: list[str], right: list[str], between: str) -> None:
    assert expand(f"{{{','.join(left)}}}{between}{{{','.join(right)}}}") == [
        a + between + b for a in left for b in right
    ]


@given(st.text(alphabet="{},.019ab", max_size=14))
def test_any_text_expands_to_something_or_is_refused(text: str) -> None:
    try:
        assert len(expand(text)) >= 1
    except ValueError as error:
        assert "names" in str(error)


@pytest.mark.parametrize("text", ["{0..99999999999}.tar", "{0..9999}{0..9999}", "{0..99999999999999999999999999}"])
def test_absurd_ranges_are_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        expand(text)
