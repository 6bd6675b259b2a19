# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of integers as ranges, against sets of integers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils._ranges import (
    Ranges,
    contains,
    intersect,
    merge,
    prefixes,
    subtract,
    union,
)

BITS = 6
NUMBER = st.integers(0, 2**BITS - 1)
RANGES = st.lists(st.tuples(NUMBER, NUMBER).map(lambda ends: (min(ends), max(ends))), max_size=6)


def members(ranges: list[tuple[int, int]] | Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


def is_canonical(ranges: Ranges) -> bool:
    ordered = all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    return ordered and all(first <= last for first, last in ranges)


@given(RANGES)
def test_merge(ranges: list[tuple[int, int]]) -> None:
    merged = merge(ranges)
    assert members(merged) == members(ranges)
    assert is_canonical(merged)
    assert merge(merged) == merged
    assert merge(reversed(ranges)) == merged


@given(RANGES.map(merge), RANGES.map(merge))
def test_set_operations(left: Ranges, right: Ranges) -> None:
    for combined, expected in (
        (union(left, right), members(left) | members(right)),
        (intersect(left, right), members(left) & members(right)),
        (subtract(left, right), members(left) - members(right)),
    ):
        assert members(combined) == expected
        assert is_canonical(combined)


@given(RANGES.map(merge), st.integers(9, 30), st.integers(1, 6), st.booleans())
def test_set_operations_with_a_set_of_many_ranges(few: Ranges, count: int, gap: int, few_first: bool) -> None:
    many = tuple((number * (gap + 1), number * (gap + 1)) for number in range(count))
    left, right = (few, many) if few_first else (many, few)
    for combined, expected in (
        (intersect(left, right), members(left) & members(right)),
        (subtract(left, right), members(left) - members(right)),
    ):
        assert members(combined) == expected
        assert is_canonical(combined)


@given(RANGES.map(merge), NUMBER)
def test_contains(ranges: Ranges, number: int) -> None:
    assert contains(ranges, number) == (number in members(ranges))


@given(RANGES.map(merge))
def test_prefixes(ranges: Ranges) -> None:
    found = list(prefixes(ranges, BITS))
    covered = [(first, first + 2 ** (BITS - length) - 1) for first, length in found]
    assert members(covered) == members(ranges)
    assert sum(last - first + 1 for first, last in covered) == len(members(ranges))
    assert all(first % 2 ** (BITS - length) == 0 for first, length in found)
    # No two of them are the halves of one.
    assert not any((first ^ 2 ** (BITS - length), length) in found for first, length in found if length)


def test_prefixes_of_everything() -> None:
    assert list(prefixes(((0, 2**128 - 1),), 128)) == [(0, 0)]
    assert list(prefixes(((2**32 - 1, 2**32 - 1),), 32)) == [(2**32 - 1, 32)]
