# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which members of a list can stay where they are when it becomes another one. Private to this collection."""

from __future__ import annotations

from bisect import bisect_left
from typing import Dict, FrozenSet, List, Sequence


def staying(before: Sequence[str], after: Sequence[str]) -> FrozenSet[str]:
    """Return the largest set of names whose order is the same in both lists; names are unique in each.

    This is the longest increasing subsequence of the positions in ``after``, by patience sorting.
    """
    position = {name: index for index, name in enumerate(after)}
    common = [name for name in before if name in position]
    tops: List[int] = []
    top_names: List[str] = []
    previous: Dict[str, str] = {}
    for name in common:
        pile = bisect_left(tops, position[name])
        tops[pile : pile + 1] = [position[name]]
        top_names[pile : pile + 1] = [name]
        if pile:
            previous[name] = top_names[pile - 1]
    stay = set()
    last = top_names[-1] if top_names else None
    while last is not None:
        stay.add(last)
        last = previous.get(last)
    return frozenset(stay)
