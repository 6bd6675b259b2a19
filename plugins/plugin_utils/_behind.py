# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the hosts behind routers, and what of their policies can be seen there. Private to this collection.

A router sees addresses, protocols and ports. It does not see who on a host sends, nor by which of the host's
interfaces: what a grant binds to these, the router lets pass for the whole host.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, FAMILIES, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import (
    Range,
    Ranges,
    intersect,
    merge,
    subtract,
)
from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import INTERNET, Networks, join, meet, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    NOWHERE,
    Accepted,
    Behind,
    Border,
    Composition,
    Fleet,
    Granted,
    Host,
    Outside,
    RateLimit,
    Router,
    Term,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._words import short

_INTERNET = (Term("internet", "network", "internet"),)


class Borders:
    """The borders of one fleet. Hosts are found by address: there may be as many routers as sites."""

    def __init__(self, fleet: Fleet, composition: Callable[[Host], Composition]) -> None:
        self._fleet = fleet
        self._composition = composition
        self._seen: dict[int, Composition] = {}
        self._ranges = {family: _ranges(fleet.hosts.values(), family) for family in FAMILIES}
        self._wide = {family: [r for r in ranges if r[0] != r[1]] for family, ranges in self._ranges.items()}

    def of(self, host: Host, router: Router, networks: Networks) -> Border:
        """Return what a router lets pass for others; ``networks`` are those that it knows."""
        prefixes = join(inside.prefixes for inside in router.inside)
        found = self._inside(prefixes) if router.behind is None else self._named(router, prefixes)
        special_use = tuple(_special_use(outside, router, networks) for outside in router.outside)
        _check_own(host, router, prefixes, special_use)
        return Border(router, self._behind([other for other in found if other is not host], prefixes), special_use)

    def _inside(self, prefixes: Addresses) -> list[Host]:
        """Return the hosts that have an address in these prefixes, in the order of the inventory."""
        names: set[str] = set()
        for family in FAMILIES:
            ranges = self._ranges[family]
            for low, high in prefixes.of(family):
                names.update(r[2] for r in ranges[bisect_left(ranges, (low,)) : bisect_right(ranges, (high, high + 1))])
                names.update(name for first, last, name in self._wide[family] if first <= high and last >= low)
        return [host for host in self._fleet.hosts.values() if host.name in names] if names else []

    def _named(self, router: Router, prefixes: Addresses) -> list[Host]:
        """Return the hosts that the inventory puts behind a router; each must have an address there."""
        names: dict[str, None] = {}
        for term in router.behind or ():
            names.update(dict.fromkeys(self._fleet.groups[term.name] if term.kind == "group" else (term.name,)))
        hosts = [self._fleet.hosts[name] for name in names]
        for host in hosts:
            if not meet(host.addresses, prefixes):
                what = f"host {host.name} has no address in the prefixes of 'inside'"
                router.place.key("behind").fail(what, "Take it out, or add the prefix that it is in")
        return hosts

    def _behind(self, hosts: Sequence[Host], prefixes: Addresses) -> tuple[Behind, ...]:
        """Return these hosts, those together that a router treats alike."""
        alike: dict[_Kind, list[Host]] = {}
        for host in hosts:
            alike.setdefault(self._kind(host), []).append(host)
        claimed = {family: _settle(alike, prefixes.of(family), family) for family in FAMILIES}
        return tuple(
            Behind(
                tuple(host.name for host in members),
                Addresses(*(claimed[family].get(kind, ()) for family in FAMILIES)),
                self._as_seen(self._composition(members[0])),
                kind.is_audit,
            )
            for kind, members in alike.items()
        )

    def _kind(self, host: Host) -> _Kind:
        composition = self._composition(host)
        # A bound for each destination counts for a host, and would count for all who share a rule.
        shares_nothing = any(g.grant.limit and g.grant.limit.per == "destination" for g in composition.grants)
        return _Kind(id(composition), host.settings.is_audit, host.name if shares_nothing else "")

    def _as_seen(self, composition: Composition) -> Composition:
        if id(composition) not in self._seen:
            self._seen[id(composition)] = _as_seen(composition)
        return self._seen[id(composition)]


@dataclass(frozen=True)
class _Kind:
    """What a router treats alike: hosts of one composition, in audit or not; ``host`` where one stands for itself."""

    composition: int
    is_audit: bool
    host: str


def _ranges(hosts: Iterable[Host], family: str) -> list[tuple[int, int, str]]:
    return sorted(
        (first, last, host.name) for host in hosts if host.addresses for first, last in host.addresses.of(family)
    )


def _settle(alike: Mapping[_Kind, Sequence[Host]], prefixes: Ranges, family: str) -> dict[_Kind, Ranges]:
    """Return the addresses of each kind; what a pool and a host claim both is the host's."""
    claims = [
        (last - first, first, last, kind, host)
        for kind, hosts in alike.items()
        for host in hosts
        for first, last in intersect(host.addresses_of(family), prefixes)
    ]
    taken: list[tuple[int, int, _Claim]] = []
    settled: dict[_Kind, list[Range]] = {}
    for size, first, last, kind, host in sorted(claims, key=lambda claim: claim[:3]):
        left: Ranges = ((first, last),)
        for low, high, other in _overlapping(taken, first, last):
            if other.kind != kind and (low < first or high > last or other.size == size):
                _fail_claimed(host, other.host, family, max(low, first))
            left = subtract(left, ((low, high),))
        for piece in left:
            insort(taken, (*piece, _Claim(kind, size, host)), key=lambda entry: entry[0])
        settled.setdefault(kind, []).extend(left)
    return {kind: merge(ranges) for kind, ranges in settled.items()}


@dataclass(frozen=True)
class _Claim:
    """Who has a range of addresses, and how large the whole of it was."""

    kind: _Kind
    size: int
    host: Host


def _overlapping(taken: list[tuple[int, int, _Claim]], first: int, last: int) -> list[tuple[int, int, _Claim]]:
    """Return those of disjoint, sorted ranges that overlap with one."""
    at = bisect_left(taken, first, key=lambda entry: entry[1])
    end = bisect_right(taken, last, key=lambda entry: entry[0])
    return taken[at:end]


def _fail_claimed(host: Host, other: Host, family: str, address: int) -> NoReturn:
    (text,) = format_addresses(Addresses(**{family: ((address, address),)}))
    what = f"{short(text)} is an address of host {other.name}, too, and a router could not tell which policy it follows"
    Place(PREFIX + "addresses", host.name).fail(what, "Give each its own, or both the same groups")


def _special_use(outside: Outside, router: Router, networks: Networks) -> Addresses:
    """Return the addresses that are nobody's on the internet, less what is declared to be met here."""
    place = router.place.key("outside").key(outside.interface).key("special_use")
    internet = networks.resolve(_INTERNET, router.place, lenient=False)
    declared = networks.resolve(outside.special_use, place, lenient=False)
    return minus(ALL_ADDRESSES, join((INTERNET, internet, declared)))


def _check_own(host: Host, router: Router, prefixes: Addresses, special_use: Sequence[Addresses]) -> None:
    """Refuse a router that would drop what its own neighbours outside send."""
    beyond = minus(host.addresses or NOWHERE, prefixes)
    for family in FAMILIES:
        for own in beyond.of(family) if special_use else ():
            if all(intersect((own,), special.of(family)) for special in special_use):
                (text, *_more) = format_addresses(Addresses(**{family: (own,)}))
                what = f"its own address {short(text)} is in none of the prefixes inside, and for special use outside"
                mend = "Add the prefix that it is in to 'inside', or to 'special_use' of an interface outside"
                router.place.fail(what, mend)


def _as_seen(composition: Composition) -> Composition:
    """Return a policy as far as a router sees it: what containers send has the address of their host."""
    return replace(
        composition,
        grants=tuple(_grant_as_seen(granted) for granted in (*composition.grants, *composition.containers)),
        accepts=tuple(_accept_as_seen(accepted) for accepted in composition.accepts),
    )


def _grant_as_seen(granted: Granted) -> Granted:
    grant = granted.grant
    limit = _for_each(grant.limit, "source")
    return replace(granted, grant=replace(grant, interface=(), user=(), group=(), limit=limit))


def _accept_as_seen(accepted: Accepted) -> Accepted:
    accept = accepted.accept
    return replace(accepted, accept=replace(accept, interface=(), limit=_for_each(accept.limit, "destination")))


def _for_each(limit: RateLimit | None, host: str) -> RateLimit | None:
    """Return the limit of one host as one for each of those who share a rule."""
    return replace(limit, per=host) if limit and limit.per == "none" else limit
