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
    result: List[Range] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, last = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first <= last:
            result.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(result)


def subtract(left: Ranges, right: Ranges) -> Ranges:
    """Return what is in ``left`` and not in ``right``."""
    result: List[Range] = []
    j = 0
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
