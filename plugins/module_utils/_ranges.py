# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of integers as sorted, disjoint, non-adjacent inclusive ranges. Private to this collection.

Addresses and ports live in this form because it is canonical: two sets are equal exactly if their ranges are,
however they were written, which is what keeps a second run from reporting a change.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Iterable, Iterator, List, Tuple

Range = Tuple[int, int]
Ranges = Tuple[Range, ...]

# From so many times as many ranges on, looking up is quicker than walking along both sets.
_FEW = 8


def merge(ranges: Iterable[Range]) -> Ranges:
    """Return the canonical form of any ranges: sorted, with overlapping and adjacent ones joined."""
    merged: List[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def union(left: Ranges, right: Ranges) -> Ranges:
    """Return what is in either set."""
    if not left or not right:
        return left or right
    return merge(left + right)


def intersect(left: Ranges, right: Ranges) -> Ranges:
    """Return what is in both sets."""
    if left is right:
        return left
    if not left or not right or left[-1][1] < right[0][0] or right[-1][1] < left[0][0]:
        return ()
    if len(left) * _FEW < len(right):
        return _pick(left, right)
    if len(right) * _FEW < len(left):
        return _pick(right, left)
    result: List[Range] = []
    i = j = 0
    end, other_end = len(left), len(right)
    while i < end and j < other_end:
        first, last = left[i]
        other_first, other_last = right[j]
        if first <= other_last and other_first <= last:
            result.append((max(first, other_first), min(last, other_last)))
        if last < other_last:
            i += 1
        else:
            j += 1
    return tuple(result)


def _pick(few: Ranges, many: Ranges) -> Ranges:
    """Return what is in both sets, of which one is much smaller: it is looked up in the other."""
    result: List[Range] = []
    for first, last in few:
        at = _first_beside(many, first)
        while at < len(many) and many[at][0] <= last:
            result.append((max(first, many[at][0]), min(last, many[at][1])))
            at += 1
    return tuple(result)


def _first_beside(ranges: Ranges, value: int) -> int:
    """Return the index of the first range that holds this value or a higher one."""
    at = bisect_right(ranges, (value, value))
    return at - 1 if at > 0 and ranges[at - 1][1] >= value else at


def subtract(left: Ranges, right: Ranges) -> Ranges:
    """Return what is in ``left`` and not in ``right``."""
    if not left or not right:
        return left
    result: List[Range] = []
    j = _first_beside(right, left[0][0])
    for first, last in left:
        while j < len(right) and right[j][1] < first:
            j += 1
        k, at = j, first
        while k < len(right) and right[k][0] <= last:
            if at < right[k][0]:
                result.append((at, right[k][0] - 1))
            at = right[k][1] + 1
            k += 1
        if at <= last:
            result.append((at, last))
    return tuple(result)


def contains(ranges: Ranges, value: int) -> bool:
    """Tell whether ``value`` is in the set."""
    at = bisect_right(ranges, (value, value))
    return (at > 0 and ranges[at - 1][1] >= value) or (at < len(ranges) and ranges[at][0] == value)


def prefixes(ranges: Ranges, bits: int) -> Iterator[Tuple[int, int]]:
    """Yield the fewest ``(first, prefix length)`` that cover exactly these ranges of ``bits``-wide addresses."""
    for first, last in ranges:
        at = first
        while at <= last:
            size = min((at & -at).bit_length() - 1 if at else bits, (last - at + 1).bit_length() - 1)
            yield at, bits - size
            at += 1 << size
