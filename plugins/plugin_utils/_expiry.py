# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the flows that have to end by themselves, when what let them begin expires. Private to this collection.

What belongs to an established flow is accepted without asking again whether it may begin, so that a flow would outlive
the rule that let it in. So the packets of flows that began here, in what a grant with ``expires`` opens or a waiver
exempts, are accepted until then, and afterwards only as far as something else lets such a flow begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import Box, boxes, common, is_covered, meet
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition, Forbidden, Granted, Reach


@dataclass(frozen=True)
class Lapse:
    """Flows that live until ``expires``; where ``is_shared``, what lasts longer may let some of them live on.

    ``kind`` and ``origin`` tell what let them begin: a grant or a waiver.
    """

    kind: str
    origin: str
    expires: str
    reaches: tuple[Reach, ...]
    is_shared: bool


def lapses(composition: Composition) -> tuple[Lapse, ...]:
    """Return what ends by itself, that first which ends first.

    The order matters: a packet of two of them is judged by the one that ends first, and goes on to the other only
    through what lasts longer.
    """
    used = [granted for granted in composition.grants if granted.state in ("in use", "cut")]
    found = [lapse for granted in used for lapse in _of_grant(granted, used)]
    found += [lapse for forbidden in composition.forbids for lapse in _of_waivers(forbidden, used)]
    return tuple(sorted(found, key=lambda lapse: lapse.expires))


def _of_grant(granted: Granted, used: Iterable[Granted]) -> Iterator[Lapse]:
    """Yield the lapse of a grant, but for parts that grants without condition cover, which never expire."""
    expires = granted.grant.expires
    if expires is None:
        return
    longer = [g for g in used if g is not granted and (g.grant.expires is None or g.grant.expires > expires)]
    covers = [item for g in longer if _is_plain(g) for item in _boxes(g)]
    reaches = tuple(reach for reach in granted.reaches if not _covered(reach, covers))
    if reaches:
        others = [item for g in longer for item in _boxes(g)]
        yield Lapse("grant", granted.origin, expires, reaches, _touches(reaches, others))


def _of_waivers(forbidden: Forbidden, used: Iterable[Granted]) -> Iterator[Lapse]:
    """Yield the lapse of each waiver through which something passes."""
    granted = [item for g in used for item in _boxes(g)]
    for waived in forbidden.waived:
        expires = waived.waiver.expires
        reaches = tuple(reach for reach in waived.reaches if _touches([reach], granted))
        if reaches:
            longer = [w.reaches for w in forbidden.waived if w.waiver.expires > expires]
            shared = any(common(mine, its) for its in sum(longer, ()) for mine in reaches)
            yield Lapse("waiver", waived.origin, expires, reaches, shared)


def _is_plain(granted: Granted) -> bool:
    grant = granted.grant
    return grant.expires is None and not (grant.interface or grant.user or grant.group)


def _boxes(granted: Granted) -> Iterator[tuple[str, Box]]:
    return (item for reach in granted.reaches for item in boxes(reach))


def _covered(reach: Reach, covers: Iterable[tuple[str, Box]]) -> bool:
    return all(is_covered(mine, [b for f, b in covers if f == family]) for family, mine in boxes(reach))


def _touches(reaches: Iterable[Reach], others: Iterable[tuple[str, Box]]) -> bool:
    return any(f == family and meet(mine, b) for reach in reaches for family, mine in boxes(reach) for f, b in others)
