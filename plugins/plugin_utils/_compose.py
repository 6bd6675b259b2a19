# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Composes the policy of hosts that share profiles and suffixed variables. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NoReturn

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, FAMILIES, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import union
from ansible_collections.palisade.egress.plugins.plugin_utils._accept import accepted
from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import (
    Box,
    boxes,
    common,
    is_covered,
    meet,
    passes,
    reaches,
    without,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks, embed, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accept,
    Accepted,
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
    Waived,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._probes import probed
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import CONTAINER_HOST
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ECHO, icmp_service
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import as_suffix
from ansible_collections.palisade.egress.plugins.plugin_utils._waive import at, label, named, waive

# How long the waiver lasts that an error offers.
_WHILE = timedelta(days=30)


@dataclass(frozen=True)
class _Fence:
    """A forbid ready to be held against grants: by family the boxes of what its waivers leave of it."""

    forbidden: Forbidden
    boxes: tuple[tuple[str, Box], ...]


def compose(fleet: Fleet, host: Host, networks: Networks) -> Composition:
    """Return the composition of this host; errors name it, though others may share what is wrong."""
    profiles = [fleet.profiles[name] for name in host.profiles]
    overlays = [fleet.overlays[suffix] for suffix in host.overlays]
    declared: list[Profile | Overlay] = [*profiles, *overlays]
    _check_containers(declared, host)
    forbids = _forbid([forbid for part in declared for forbid in part.forbids], networks, host.name)
    waivers = [waiver for overlay in overlays for waiver in overlay.waivers]
    forbids, expired = waive(forbids, waivers, networks, host.name, fleet.now)
    grants = _expire(_grant([grant for part in declared for grant in part.grants], networks, host.name), fleet.now)
    fences = [_Fence(forbidden, tuple(_fenced(forbidden))) for forbidden in forbids]
    held = [_hold(granted, fences, expired, host.name, fleet.now) for granted in (*_icmp(fleet, host), *grants)]
    own = [granted for granted in held if not granted.grant.containers]
    probes = [probe for part in declared for probe in part.probes]
    tried, left_out = probed(probes, own, [item for fence in fences for item in fence.boxes], networks, host.name)
    accepts = accepted([accept for part in declared for accept in part.accepts], networks, host.name, fleet.now)
    notices = [*_replacements(profiles), *_over(expired, held, accepts), *_idle(fences, held), *left_out]
    return Composition(
        host.profiles,
        tuple(own),
        tuple(forbids),
        tuple(accepted for accepted in accepts if not accepted.accept.containers),
        tuple(tried),
        tuple(notices),
        tuple(granted for granted in held if granted.grant.containers),
        tuple(accepted for accepted in accepts if accepted.accept.containers),
    )


def _check_containers(declared: Iterable[Profile | Overlay], host: Host) -> None:
    """Refuse what is for containers where there are none: somebody counts on it."""
    if CONTAINER_HOST in host.profiles:
        return
    items: list[Grant | Accept] = []
    for part in declared:
        items += [*part.grants, *part.accepts]
    for item in items:
        if item.containers:
            what = f"the host does not have the profile {CONTAINER_HOST}, and without it lets no container out or in"
            mend = f"Put it into the group {CONTAINER_HOST}, or set this in {PREFIX}allow__{CONTAINER_HOST} or the like"
            at(item.place, host.name).key("containers").fail(what, mend)


def _replacements(profiles: Iterable[Profile]) -> list[str]:
    return [
        f"the inventory replaces the forbids of the shipped profile {profile.name}"
        for profile in profiles
        if "forbids" in profile.replaced
    ]


def _over(waived: Iterable[Waived], held: Iterable[Granted], accepts: Iterable[Accepted]) -> list[str]:
    """Return a notice for all that has expired and stands in the inventory still."""
    return [
        *(f"the waiver {w.origin} of the forbid {w.waiver.forbid} expired at {w.waiver.expires}" for w in waived),
        *(f"the grant {g.origin} expired at {g.grant.expires}" for g in held if g.state == "expired"),
        *(f"the accept {a.origin} expired at {a.accept.expires}" for a in accepts if a.state == "expired"),
    ]


def _idle(fences: Iterable[_Fence], held: Iterable[Granted]) -> list[str]:
    """Return a notice for each waiver that lets nothing pass, as it grants nothing."""
    granted = [item for item in held if item.is_used]
    closed = [item for fence in fences for item in fence.boxes]
    return [
        f"the waiver {waived.origin} lets nothing pass: nothing that it exempts is granted and not forbidden otherwise"
        for fence in fences
        for waived in fence.forbidden.waived
        if not any(passes(common(mine, its), closed) for mine in waived.reaches for g in granted for its in g.reaches)
    ]


def _expire(grants: Iterable[Granted], now: str) -> list[Granted]:
    """Return the grants with those as expired that are: no rule comes of them, and no contradiction."""
    return [
        replace(g, state="expired", reaches=()) if g.grant.expires is not None and g.grant.expires <= now else g
        for g in grants
    ]


def _fenced(forbidden: Forbidden) -> Iterable[tuple[str, Box]]:
    """Yield the boxes of what is forbidden and not exempted."""
    exempted = [item for waived in forbidden.waived for item in _all_boxes(waived.reaches)]
    for family, whole in _all_boxes(forbidden.reaches):
        left = [whole]
        for exempt in (box for f, box in exempted if f == family):
            left = [piece for box in left for piece in without(box, exempt)]
        yield from ((family, piece) for piece in left)


def _icmp(fleet: Fleet, host: Host) -> Iterator[Granted]:
    """Yield the ICMP types that may leave, echo requests by default, unless a forbid says otherwise."""
    for name in host.settings.icmp.outbound:
        is_echo = name == ECHO
        place = Place("shipped rules" if is_echo else f"{PREFIX}icmp.out")
        service = fleet.services["ping"] if is_echo else icmp_service(name)
        grant = Grant(place, "always", service, (Term("any", "any"),), default=True, shipped=True)
        yield Granted(f"always/{name}", grant, "in use", reaches(service, ALL_ADDRESSES))


def _grant(grants: Iterable[Grant], networks: Networks, host: str) -> list[Granted]:
    """Return grants with their addresses and origins, those of shipped profiles without addresses as not in use."""
    used: list[tuple[Grant, Addresses]] = []
    unused: list[Grant] = []
    for grant in grants:
        place = at(grant.place, host).key("to")
        destination = networks.resolve(grant.to, place, lenient=grant.shipped)
        if destination != Addresses():
            used.append((grant, destination))
        elif grant.shipped:
            unused.append(grant)
        else:
            place.fail(f"{label(grant.to)} has no addresses", "Define it, or take the grant out")
    origins = named([(f"{g.label}/{g.service.name}", label(g.to)) for g, _destination in used])
    granted = [
        Granted(origin, grant, "in use", reaches(grant.service, destination))
        for origin, (grant, destination) in zip(origins, used, strict=True)
    ]
    for item in granted:
        if not item.reaches:
            what = f"{item.grant.service.name} and {label(item.grant.to)} have no IP family in common"
            at(item.grant.place, host).fail(what, "Name addresses of the family that the service uses")
    return granted + [Granted(f"{g.label}/{g.service.name}/{label(g.to)}", g, "not in use") for g in unused]


def _forbid(forbids: Sequence[Forbid], networks: Networks, host: str) -> list[Forbidden]:
    origins = named([(f"{f.label}/{f.name}", label(f.to)) for f in forbids])
    forbidden: list[Forbidden] = []
    for origin, forbid in zip(origins, forbids, strict=True):
        place = at(forbid.place, host)
        to, excepted = (
            _with_embedded(networks.resolve(terms, place.key(key), lenient=forbid.shipped))
            for terms, key in ((forbid.to, "to"), (forbid.without, "except"))
        )
        found = reaches(forbid.service, minus(to, excepted))
        if not found and not forbid.shipped:
            place.fail("it forbids nothing, as no address is left of it", "Mend 'to' and 'except', or take it out")
        forbidden.append(Forbidden(origin, forbid, found))
    return forbidden


def _with_embedded(addresses: Addresses) -> Addresses:
    """A forbid of an IPv4 address is one of the same host behind a translator, too."""
    return Addresses(addresses.ipv4, union(addresses.ipv6, embed(addresses.ipv4)))


def _all_boxes(reaches: Iterable[Reach]) -> tuple[tuple[str, Box], ...]:
    return tuple(item for reach in reaches for item in boxes(reach))


def _hold(granted: Granted, fences: Sequence[_Fence], expired: Sequence[Waived], host: str, now: str) -> Granted:
    """Return a grant as the forbids leave it; of one that is no default they must leave something."""
    by: dict[str, Forbidden] = {}
    left: list[Reach] = []
    for reach in granted.reaches:
        families = {family: _left_of(b, family, fences, by) for family, b in boxes(reach)}
        kept = Addresses(*(reach.addresses.of(f) if families.get(f) else () for f in FAMILIES))
        if kept != Addresses():
            left.append(Reach(reach.part, kept))
    if not by:
        return granted
    if not left and not granted.grant.default:
        _fail_contradiction(granted, list(by.values()), expired, host, now)
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


def _fail_contradiction(
    granted: Granted, by: Sequence[Forbidden], expired: Sequence[Waived], host: str, now: str
) -> NoReturn:
    grant, origins = granted.grant, [forbidden.origin for forbidden in by]
    names = " and ".join(f"'{origin}'" for origin in origins)
    where = f"{grant.place.path} on host {host}"
    what = f"nothing is left of the grant '{granted.origin}' to {label(grant.to)}, as the forbid {names} beats it"
    over = [
        f", and the waiver '{w.origin}' expired at {w.waiver.expires}" for w in expired if w.waiver.forbid in origins
    ]
    labels = sorted({grant.label, *(forbidden.forbid.label for forbidden in by)})
    if len(labels) > 1:
        mend = f"Decide what the host is: take it out of one of {', '.join(labels)}, or change the grant or the forbid"
    else:
        mend = "Take the grant or the forbid out"
    raise PolicyError(
        where, what + "".join(over), f"{mend}, or exempt it for a while: {_offer(granted, by, host, now)}"
    )


def _offer(granted: Granted, by: Sequence[Forbidden], host: str, now: str) -> str:
    """Return the waivers that would let a grant through, as they would stand in the inventory."""
    grant = granted.grant
    to = ", ".join(term.text for term in grant.to)
    expires = (datetime.fromisoformat(now) + _WHILE).strftime("%Y-%m-%dT%H:%M:%SZ")
    service = grant.service.text or grant.service.name
    waivers = (
        f'{{forbid: {forbidden.origin}, service: {service}, to: [{to}], reason: …, owner: …, expires: "{expires}"}}'
        for forbidden in by
    )
    return f"{PREFIX}waivers__{as_suffix(host)}: [{', '.join(waivers)}]"
