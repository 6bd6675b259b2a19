# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Composes the policy of hosts that share profiles and suffixed variables. Private to this collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, FAMILIES, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import union
from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import Box, boxes, is_covered, meet
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks, embed, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Composition,
    Fleet,
    Forbid,
    Forbidden,
    Grant,
    Granted,
    Host,
    Overlay,
    Profile,
    Reach,
    Term,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place

ECHO_REQUEST = "always/echo-request"
# With the protocol that a rule's name gets behind its origin, well below what the kernel stores of a comment.
_LONGEST_ORIGIN = 100


@dataclass(frozen=True)
class _Fence:
    """A forbid ready to be held against grants: its boxes by family."""

    forbidden: Forbidden
    boxes: tuple[tuple[str, Box], ...]


def compose(fleet: Fleet, host: Host, networks: Networks) -> Composition:
    """Return the composition of this host; errors name it, though others may share what is wrong."""
    profiles = [fleet.profiles[name] for name in host.profiles]
    overlays = [fleet.overlays[suffix] for suffix in host.overlays]
    declared: list[Profile | Overlay] = [*profiles, *overlays]
    forbids = _forbid([forbid for part in declared for forbid in part.forbids], networks, host.name)
    grants = _grant([grant for part in declared for grant in part.grants], networks, host.name)
    fences = [_Fence(forbidden, _all_boxes(forbidden.reaches)) for forbidden in forbids]
    held = [_hold(granted, fences, host.name) for granted in (_echo_request(fleet), *grants)]
    notices = [
        f"the inventory replaces the forbids of the shipped profile {profile.name}"
        for profile in profiles
        if "forbids" in profile.replaced
    ]
    return Composition(host.profiles, tuple(held), tuple(forbids), tuple(notices))


def _echo_request(fleet: Fleet) -> Granted:
    """Echo requests may always leave, unless a forbid says otherwise."""
    to, service = (Term("any", "any"),), fleet.services["ping"]
    grant = Grant(Place("shipped rules"), "always", service, to, default=True, shipped=True)
    return Granted(ECHO_REQUEST, grant, "in use", _reaches(grant, ALL_ADDRESSES))


def _at(place: Place, host: str) -> Place:
    return replace(place, host=host)


def _grant(grants: Iterable[Grant], networks: Networks, host: str) -> list[Granted]:
    """Return grants with their addresses and origins, those of shipped profiles without addresses as not in use."""
    used: list[tuple[Grant, Addresses]] = []
    unused: list[Grant] = []
    for grant in grants:
        place = _at(grant.place, host).key("to")
        destination = networks.resolve(grant.to, place, lenient=grant.shipped)
        if destination != Addresses():
            used.append((grant, destination))
        elif grant.shipped:
            unused.append(grant)
        else:
            place.fail(f"{_label(grant.to)} has no addresses", "Define it, or take the grant out")
    origins = _origins([(f"{g.label}/{g.service.name}", _label(g.to)) for g, _destination in used])
    granted = [
        Granted(origin, grant, "in use", _reaches(grant, destination))
        for origin, (grant, destination) in zip(origins, used, strict=True)
    ]
    for item in granted:
        if not item.reaches:
            what = f"{item.grant.service.name} and {_label(item.grant.to)} have no IP family in common"
            _at(item.grant.place, host).fail(what, "Name addresses of the family that the service uses")
    return granted + [Granted(f"{g.label}/{g.service.name}/{_label(g.to)}", g, "not in use") for g in unused]


def _reaches(declared: Grant | Forbid, destination: Addresses) -> tuple[Reach, ...]:
    found = (Reach(part, destination) for part in declared.service.parts)
    return tuple(reach for reach in found if boxes(reach))


def _forbid(forbids: Sequence[Forbid], networks: Networks, host: str) -> list[Forbidden]:
    origins = _origins([(f"{f.label}/{f.name}", _label(f.to)) for f in forbids])
    found: list[Forbidden] = []
    for origin, forbid in zip(origins, forbids, strict=True):
        place = _at(forbid.place, host)
        to, excepted = (
            _with_embedded(networks.resolve(terms, place.key(key), lenient=forbid.shipped))
            for terms, key in ((forbid.to, "to"), (forbid.without, "except"))
        )
        reaches = _reaches(forbid, minus(to, excepted))
        if not reaches and not forbid.shipped:
            place.fail("it forbids nothing, as no address is left of it", "Mend 'to' and 'except', or take it out")
        found.append(Forbidden(origin, forbid, reaches))
    return found


def _with_embedded(addresses: Addresses) -> Addresses:
    """A forbid of an IPv4 address is one of the same host behind a translator, too."""
    return Addresses(addresses.ipv4, union(addresses.ipv6, embed(addresses.ipv4)))


def _all_boxes(reaches: Iterable[Reach]) -> tuple[tuple[str, Box], ...]:
    return tuple(item for reach in reaches for item in boxes(reach))


def _hold(granted: Granted, fences: Sequence[_Fence], host: str) -> Granted:
    """Return a grant as the forbids leave it; of one that is no default they must leave something."""
    by: dict[str, Forbidden] = {}
    left: list[Reach] = []
    for reach in granted.reaches:
        families = {family: _left_of(b, family, fences, by) for family, b in boxes(reach)}
        kept = Addresses(*(reach.destination.of(f) if families.get(f) else () for f in FAMILIES))
        if kept != Addresses():
            left.append(Reach(reach.part, kept))
    if not by:
        return granted
    if not left and not granted.grant.default:
        _fail_contradiction(granted, list(by.values()), host)
    return replace(granted, state="cut" if left else "withheld", reaches=tuple(left), by=tuple(by))


def _left_of(mine: Box, family: str, fences: Sequence[_Fence], by: dict[str, Forbidden]) -> bool:
    """Tell whether the forbids leave something of a box, and note those that take from it."""
    covers: list[Box] = []
    for fence in fences:
        taking = [b for f, b in fence.boxes if f == family and meet(mine, b)]
        if taking:
            by[fence.forbidden.origin] = fence.forbidden
            covers.extend(taking)
    return not is_covered(mine, covers)


def _fail_contradiction(granted: Granted, by: Sequence[Forbidden], host: str) -> None:
    grant = granted.grant
    names = " and ".join(f"'{forbidden.origin}'" for forbidden in by)
    where = f"{grant.place.path} on host {host}"
    what = f"nothing is left of the grant '{granted.origin}' to {_label(grant.to)}, as the forbid {names} beats it"
    labels = sorted({grant.label, *(forbidden.forbid.label for forbidden in by)})
    if len(labels) > 1:
        mend = f"Decide what the host is: take it out of one of {', '.join(labels)}, or change the grant or the forbid"
    else:
        mend = "Take the grant or the forbid out"
    raise PolicyError(where, what, mend)


def _label(terms: Iterable[Term]) -> str:
    return "+".join(term.text for term in terms)


def _origins(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return an origin for each: the name, with the network where two collide, with a number where they still do."""
    often = Counter(name for name, _network in names)
    origins: dict[str, None] = {}
    for name, network in names:
        origin = _storable(name if often[name] == 1 else f"{name}/{network}")
        # one of as many candidates as there are names is free
        numbered = (origin if number == 1 else f"{origin}/{number}" for number in range(1, len(names) + 1))
        origins[next((candidate for candidate in numbered if candidate not in origins), "")] = None
    return list(origins)


def _storable(name: str) -> str:
    """Return a name that the kernel's listing can hold: printable, unquoted ASCII, and short."""
    text = "".join(c if c.isascii() and c.isprintable() and c not in "\"'\\ " else "_" for c in name)
    if len(text) <= _LONGEST_ORIGIN:
        return text
    return f"{text[: _LONGEST_ORIGIN - 9]}~{crc32(name.encode()):08x}"
