# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names can stay where they are, against trying all possibilities."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils._sequence import staying

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


def in_order(names: tuple[str, ...], of: list[str]) -> bool:
    return [name for name in of if name in names] == list(names)


@given(NAMES, NAMES)
def test_is_a_longest_common_subsequence(before: list[str], after: list[str]) -> None:
    stay = staying(before, after)
    assert in_order(tuple(name for name in before if name in stay), after)
    longest = max(n for n in range(len(before) + 1) if any(in_order(some, after) for some in combinations(before, n)))
    assert len(stay) == longest


def test_of_thousands() -> None:
    names = [str(number) for number in range(20000)]
    assert len(staying(names, [*names[1:], names[0]])) == 19999
    assert len(staying(names, names[::-1])) == 1
