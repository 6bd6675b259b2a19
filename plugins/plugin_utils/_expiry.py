# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the flows that have to end by themselves, when what let them begin expires. Private to this collection.

What belongs to an established flow is accepted without asking again whether it may begin, so that a flow would outlive
the rule that let it in. So the packets of whoever began a flow, in what a grant or an accept with ``expires`` opens or
a waiver exempts, are accepted until then, and afterwards only as far as something else lets such a flow begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import Box, boxes, common, is_covered, meet
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accepted,
    Composition,
    Forbidden,
    Granted,
    Reach,
)


@dataclass(frozen=True)
class Lapse:
    """Flows that live until ``expires``; where ``is_shared``, what lasts longer may let some of them live on.

    ``kind`` and ``origin`` tell what let them begin: a grant, an accept or a waiver.
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
    used = [_of_grant(granted) for granted in composition.grants if granted.is_used]
    found = [lapse for opening in used for lapse in _of_opening("grant", opening, used)]
    found += [lapse for forbidden in composition.forbids for lapse in _of_waivers(forbidden, used)]
    return _first_first(found)


def inbound_lapses(accepts: Iterable[Accepted]) -> tuple[Lapse, ...]:
    """Return what ends by itself of what these let in, that first which ends first."""
    used = [_of_accept(accepted) for accepted in accepts]
    return _first_first(lapse for opening in used for lapse in _of_opening("accept", opening, used))


@dataclass(frozen=True)
class _Opening:
    """What lets flows begin; ``is_plain`` if it never expires and asks for nothing but what it reaches."""

    origin: str
    expires: str | None
    reaches: tuple[Reach, ...]
    is_plain: bool


def _of_grant(granted: Granted) -> _Opening:
    grant = granted.grant
    is_plain = grant.expires is None and not (grant.interface or grant.user or grant.group)
    return _Opening(granted.origin, grant.expires, granted.reaches, is_plain)


def _of_accept(accepted: Accepted) -> _Opening:
    accept = accepted.accept
    return _Opening(accepted.origin, accept.expires, accepted.reaches, accept.expires is None and not accept.interface)


def _first_first(found: Iterable[Lapse]) -> tuple[Lapse, ...]:
    return tuple(sorted(found, key=lambda lapse: lapse.expires))


def _of_opening(kind: str, opening: _Opening, used: Iterable[_Opening]) -> Iterator[Lapse]:
    """Yield the lapse of what expires, but for parts that others cover without condition, which never do."""
    expires = opening.expires
    if expires is None:
        return
    longer = [o for o in used if o is not opening and (o.expires is None or o.expires > expires)]
    covers = [item for o in longer if o.is_plain for item in _boxes(o)]
    reaches = tuple(reach for reach in opening.reaches if not _covered(reach, covers))
    if reaches:
        others = [item for o in longer for item in _boxes(o)]
        yield Lapse(kind, opening.origin, expires, reaches, _touches(reaches, others))


def _of_waivers(forbidden: Forbidden, used: Iterable[_Opening]) -> Iterator[Lapse]:
    """Yield the lapse of each waiver through which something passes."""
    granted = [item for o in used for item in _boxes(o)]
    for waived in forbidden.waived:
        expires = waived.waiver.expires
        reaches = tuple(reach for reach in waived.reaches if _touches([reach], granted))
        if reaches:
            longer = [w.reaches for w in forbidden.waived if w.waiver.expires > expires]
            shared = any(common(mine, its) for its in sum(longer, ()) for mine in reaches)
            yield Lapse("waiver", waived.origin, expires, reaches, shared)


def _boxes(opening: _Opening) -> Iterator[tuple[str, Box]]:
    return (item for reach in opening.reaches for item in boxes(reach))


def _covered(reach: Reach, covers: Iterable[tuple[str, Box]]) -> bool:
    return all(is_covered(mine, [b for f, b in covers if f == family]) for family, mine in boxes(reach))


def _touches(reaches: Iterable[Reach], others: Iterable[tuple[str, Box]]) -> bool:
    return any(f == family and meet(mine, b) for reach in reaches for family, mine in boxes(reach) for f, b in others)
