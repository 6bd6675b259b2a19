# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The algebra of boxes against counting every point of a small space."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains, merge
from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import Box, is_covered, meet, without

AXIS = range(4)
RANGES = st.sets(st.sampled_from(AXIS), min_size=1).map(lambda points: merge((p, p) for p in points))
BOX = st.tuples(RANGES, RANGES, RANGES)


def points(box: Box) -> set[tuple[int, ...]]:
    return {point for point in product(AXIS, repeat=3) if all(map(contains, box, point))}


@given(BOX, BOX)
def test_without_is_disjoint_and_exact(left: Box, right: Box) -> None:
    pieces = [points(piece) for piece in without(left, right)]
    assert set().union(*pieces) == points(left) - points(right)
    assert sum(map(len, pieces)) == len(points(left) - points(right))


@given(BOX, BOX)
def test_meet(left: Box, right: Box) -> None:
    assert meet(left, right) is bool(points(left) & points(right))


@given(BOX, st.lists(BOX, max_size=4))
def test_is_covered(whole: Box, covers: list[Box]) -> None:
    assert is_covered(whole, covers) is (points(whole) <= set().union(*map(points, covers)))
