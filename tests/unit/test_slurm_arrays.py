"""Slurm's array syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.manifest.arrays import MAX_INDICES, parse_array


@pytest.mark.parametrize(
    ("text", "indices", "limit"),
    [
        ("7", ["7"], None),
        ("0-3", ["0", "1", "2", "3"], None),
        ("0-99:25", ["0", "25", "50", "75"], None),
        ("1,3,7-9", ["1", "3", "7", "8", "9"], None),
        ("9,1-2", ["9", "1", "2"], None),
        ("5-64:20%16", ["5", "25", "45"], 16),
        (" 1 , 3-4 % 2 ", ["1", "3", "4"], 2),
        ("001-003", ["1", "2", "3"], None),
    ],
)
def test_an_array_has_these_indices(text: str, indices: list[str], limit: int | None) -> None:
    array = parse_array(text)
    assert (array.texts(), array.limit) == (indices, limit)
    assert len(array) == len(indices)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "'' is not a number or a range"),
        ("1,,3", "'' is not a number or a range"),
        ("a-b", "'a-b' is not a number or a range"),
        ("-5", "'-5' is not a number or a range"),
        ("1-5:", "not a number or a range"),
        ("٣", "not a number or a range"),
        ("9-1", "'9-1' ends before it begins"),
        ("1-9:0", "'1-9:0' has a step of 0"),
        ("1-9%0", "'%0' is not a limit"),
        ("1-9%x", "'%x' is not a limit"),
        ("1-9%2%3", "'%2%3' is not a limit"),
        ("0-99999999", "100,000,000 numbers, more than 10,000,000"),
        ("1" * 5000, "is too large"),
    ],
)
def test_what_is_not_an_array_is_an_error(text: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        parse_array(text)
    assert part in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=5))
def test_indices_are_those_of_the_written_ranges(parts: list[tuple[int, int, int]]) -> None:
    array = parse_array(",".join(f"{first}-{first + more}:{step}" for first, more, step in parts))
    expected = [n for first, more, step in parts for n in range(first, first + more + 1, step)]
    assert array.texts() == [str(number) for number in expected]
    assert (array.first, array.last) == (min(expected), max(expected))
    assert array.step == (parts[0][2] if len(parts) == 1 else 1)


def test_a_large_array_is_refused_before_it_is_made() -> None:
    assert len(parse_array(f"1-{MAX_INDICES}")) == MAX_INDICES
    with pytest.raises(ValueError, match="more than 10,000,000"):
        parse_array(f"0-{MAX_INDICES}")
