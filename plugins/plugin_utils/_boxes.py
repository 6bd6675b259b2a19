# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exact algebra over sets of packets. Private to this collection.

A box is what one part of a service on some addresses matches in one family: a product of ranges over protocol number,
destination port (or ICMP type), source port and the other end's address. Boxes of different families never meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, intersect, subtract
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Part, Reach, Service
from ansible_collections.palisade.egress.plugins.plugin_utils._services import protocol_numbers

Box = tuple[Ranges, ...]


def box(reach: Reach, family: str) -> Box | None:
    """Return the box of one part in one family, or None where it is empty."""
    addresses = reach.addresses.of(family)
    if not addresses or reach.part.family not in ("any", family):
        return None
    return (protocol_numbers(reach.part), reach.part.selector, reach.part.source_ports, addresses)


def boxes(reach: Reach) -> list[tuple[str, Box]]:
    """Return the boxes of one part by family, only those that are not empty."""
    found = ((family, box(reach, family)) for family in FAMILIES)
    return [(family, b) for family, b in found if b is not None]


def reaches(service: Service, addresses: Addresses) -> tuple[Reach, ...]:
    """Return the parts of a service on these addresses, only those that match a packet."""
    found = (Reach(part, addresses) for part in service.parts)
    return tuple(reach for reach in found if boxes(reach))


def common(left: Reach, right: Reach) -> Reach | None:
    """Return what two parts have in common, as one part, or None where no packet is in both."""
    part = _common_part(left.part, right.part)
    if part is None:
        return None
    both = (intersect(left.addresses.of(family), right.addresses.of(family)) for family in FAMILIES)
    reach = Reach(part, Addresses(*both))
    return reach if boxes(reach) else None


def _common_part(left: Part, right: Part) -> Part | None:
    narrow, wide = (right, left) if left.protocol == "any" else (left, right)
    family = wide.family if narrow.family == "any" else narrow.family
    selector = intersect(left.selector, right.selector)
    sources = intersect(left.source_ports, right.source_ports)
    if wide.protocol not in ("any", narrow.protocol) or wide.family not in ("any", family):
        return None
    return replace(narrow, family=family, selector=selector, source_ports=sources) if selector and sources else None


def meet(left: Box, right: Box) -> bool:
    """Tell whether some packet is in both boxes; the dimensions that cost least come first."""
    return all(intersect(mine, other) for mine, other in zip(left, right, strict=True))


def without(left: Box, right: Box) -> list[Box]:
    """Return disjoint boxes for what is in ``left`` and not in ``right``."""
    pieces: list[Box] = []
    inside = left
    for axis, (mine, other) in enumerate(zip(left, right, strict=True)):
        common = intersect(mine, other)
        if not common:
            return [left]
        if outside := subtract(mine, other):
            pieces.append((*inside[:axis], outside, *left[axis + 1 :]))
        inside = (*inside[:axis], common, *left[axis + 1 :])
    return pieces


def passes(reach: Reach | None, closed: Iterable[tuple[str, Box]]) -> bool:
    """Tell whether something of a part is left by these boxes, each with its family."""
    found = boxes(reach) if reach is not None else []
    return any(not is_covered(mine, [b for f, b in closed if f == family]) for family, mine in found)


def is_covered(whole: Box, covers: Iterable[Box]) -> bool:
    """Tell whether every packet of a box is in one of the others."""
    left = [whole]
    for cover in covers:
        left = [piece for b in left for piece in without(b, cover)]
    return not left
