# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuses a policy that would lock Ansible out. Private to this collection.

Single packets are evaluated rather than assertions proven: whoever logs in is one user by one interface, so that a
grant bound to them is enough, and one family of addresses is enough, too. Neither is what `allowed` says of an
assertion. The packets stand for all others, as there is one for each part into which rules divide the addresses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import (
    Packet,
    Verdict,
    either,
    evaluate,
    matches,
)
from ansible_collections.palisade.egress.plugins.module_utils._flows import loops, without_unknowns
from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Addresses, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, contains, intersect
from ansible_collections.palisade.egress.plugins.module_utils._values import MAX_TIME, format_addresses, parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import Outcome
from ansible_collections.palisade.egress.plugins.plugin_utils._crossings import Crossings
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import join, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import NOWHERE, Fleet, Policy
from ansible_collections.palisade.egress.plugins.plugin_utils._prove import verdict
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import as_suffix
from ansible_collections.palisade.egress.plugins.plugin_utils._ways import End, Way
from ansible_collections.palisade.egress.plugins.plugin_utils._words import short, tell

_NO_RULES = Ruleset()
_SSH = 22


@dataclass(frozen=True)
class _Facing:
    """The rules of one chain that may decide about a login, and the addresses that they ask for."""

    ruleset: Ruleset
    sources: tuple[Addresses, ...]
    destinations: tuple[Addresses, ...]


@dataclass(frozen=True)
class _Look:
    """A base chain of a host that packets between these addresses meet, and by which interfaces, if that is known."""

    chain: str
    host: str
    source: Ranges
    to: Ranges
    in_interface: str | None = None
    out_interface: str | None = None


@dataclass(frozen=True)
class _Denial:
    """The packet of a login that is denied, and where and by what. ``later``: not before what lets it pass expires."""

    packet: Packet
    at: str
    by: Verdict
    later: bool


@dataclass(frozen=True)
class _Broken:
    """A login that a policy denies; ``more`` others from there are denied, too."""

    way: Way
    receiver: End
    place: Place
    denial: _Denial
    more: int


def check_ways(
    ways: Iterable[Way], fleet: Fleet, policies: Mapping[str, Policy], rulesets: Mapping[str, Ruleset]
) -> None:
    """Raise ``PolicyError`` for the first login that the policies deny."""
    guard = _Guard(fleet, rulesets, Crossings(fleet, policies))
    for alike in _together(ways, rulesets):
        if broken := guard.broken(alike):
            _fail(broken, fleet, policies, rulesets)


def _together(ways: Iterable[Way], rulesets: Mapping[str, Ruleset]) -> Iterable[list[Way]]:
    """Return together the ways to the same receivers of hosts with the same rules and families."""
    found: dict[tuple[object, ...], list[Way]] = {}
    for way in ways:
        families = tuple(bool(way.sender.addresses.of(family)) for family in FAMILIES)
        rules = id(rulesets.get(way.sender.host)) if way.sender.host else id(way)
        found.setdefault((rules, families, id(way.receivers)), []).append(way)
    return found.values()


class _Guard:
    """Finds logins that are denied; what rulesets say of a port is picked out once."""

    def __init__(self, fleet: Fleet, rulesets: Mapping[str, Ruleset], crossings: Crossings) -> None:
        self._rulesets = rulesets
        self._crossings = crossings
        self._now = float(parse_time(fleet.now))
        self._facing: dict[tuple[object, ...], _Facing] = {}

    def broken(self, ways: Sequence[Way]) -> _Broken | None:
        """Return the first login that is denied, of ways whose senders have the same rules."""
        sources = join(way.sender.addresses for way in ways)
        first: _Broken | None = None
        for receiver, place in ways[0].receivers:
            # What a host sends to itself leaves nothing.
            way = next((way for way in ways if way.sender.name != receiver.name), None)
            if way is None:
                continue
            denial = self._denial(way.sender, sources, receiver)
            if denial and first:
                first = replace(first, more=first.more + 1)
            elif denial:
                first = _Broken(way, receiver, place or way.place, denial, 0)
        return first

    def _denial(self, sender: End, sources: Addresses, receiver: End) -> _Denial | None:
        """Return what denies a login; None if it works by one family, or if the ends have none in common."""
        first = None
        for family in FAMILIES:
            source, to = sources.of(family), receiver.reached.of(family)
            if source and to:
                denial = self._denied(sender, receiver, family, source, to)
                if denial is None:
                    return None
                first = first or denial
        return first

    def _denied(self, sender: End, receiver: End, family: str, source: Ranges, to: Ranges) -> _Denial | None:
        for look in self._looks(sender, receiver, family, source, to):
            ruleset = self._rulesets.get(look.host, _NO_RULES)
            if not ruleset.chains:
                continue
            packet = _login(look, family, receiver.port)
            facing = self._face(ruleset, packet)
            for one in _packets(packet, look.source, look.to, facing):
                by = _stopped(facing.ruleset, one)
                if by:
                    today = replace(one, time=self._now)
                    return _Denial(one, look.host, by, later=not _stopped(self._face(ruleset, today).ruleset, today))
        return None

    def _looks(self, sender: End, receiver: End, family: str, source: Ranges, to: Ranges) -> Iterator[_Look]:
        """Yield who looks at the login, in this order: its sender, routers, its receiver."""
        yield _Look("output", sender.host, source, to)
        for found in self._crossings.between(family, source, to):
            ways = (found.in_interface, found.out_interface)
            yield _Look("forward", found.router, found.source, found.destination, *ways)
        yield _Look("input", receiver.host, source, to)

    def _face(self, ruleset: Ruleset, packet: Packet) -> _Facing:
        """Return what a ruleset says to packets like this one, whatever their addresses and whoever sends them."""
        ways = (packet.in_interface, packet.out_interface)
        key = (id(ruleset), packet.chain, packet.family, packet.destination_port or 0, packet.time, ways)
        if key not in self._facing:
            self._facing[key] = _face(ruleset, packet)
        return self._facing[key]


def _login(look: _Look, family: str, port: int) -> Packet:
    """Return the packet that a login begins with, at a time when all has expired that ever will.

    A login that works only until then would lock out, and no run could mend it.
    """
    return Packet(
        chain=look.chain,
        family=family,
        source=look.source[0][0],
        destination=look.to[0][0],
        protocol="tcp",
        destination_port=port,
        tcp_flags=("syn",),
        in_interface=look.in_interface,
        out_interface=look.out_interface,
        source_type="local" if look.chain == "output" else "unicast",
        destination_type="local" if look.chain == "input" else "unicast",
        time=MAX_TIME,
    )


def _face(ruleset: Ruleset, packet: Packet) -> _Facing:
    chains = tuple(
        replace(chain, rules=tuple(_as_known(rule, packet) for rule in chain.rules if _may_match(rule, packet)))
        for chain in ruleset.chains
        if chain.name == packet.chain or not chain.is_base
    )
    rules = [rule for chain in chains for rule in chain.rules]
    return _Facing(
        Ruleset(chains),
        tuple(_asked(rules, "source")),
        tuple(_asked(rules, "destination")),
    )


def _asked(rules: Iterable[Rule], end: str) -> Iterator[Addresses]:
    """Yield the addresses of one end that rules ask for."""
    for rule in rules:
        addresses = getattr(rule, end)
        if addresses is not None:
            yield addresses
        if rule.dispatch is not None and rule.dispatch.selector == end:
            yield from (addresses for addresses, _chain in rule.dispatch.branches)


def _may_match(rule: Rule, packet: Packet) -> bool:
    return not loops(rule) and matches(replace(_as_known(rule, packet), source=None, destination=None), packet)


def _as_known(rule: Rule, packet: Packet) -> Rule:
    """Return a rule as far as it is known whether it matches: the interfaces of routers are, those of hosts are not."""
    return rule if packet.chain == "forward" else without_unknowns(rule)


def _packets(packet: Packet, source: Ranges, to: Ranges, facing: _Facing) -> Iterator[Packet]:
    """Yield one packet for each part into which the rules divide these addresses."""
    for first in _points(source, [addresses.of(packet.family) for addresses in facing.sources]):
        for second in _points(to, [addresses.of(packet.family) for addresses in facing.destinations]):
            is_other = (first, second) != (packet.source, packet.destination)
            yield replace(packet, source=first, destination=second) if is_other else packet


def _points(ranges: Ranges, divisions: Collection[Ranges]) -> list[int]:
    """Return an address of each part into which these sets divide the ranges."""
    if not divisions:
        return [ranges[0][0]]
    found = {first for first, _last in ranges}
    for first, last in ranges if any(first != last for first, last in ranges) else ():
        inside = [part for division in divisions for part in intersect(((first, last),), division)]
        found.update(edge for low, high in inside for edge in (low, high + 1) if edge <= last)
    return sorted(found)


def _stopped(ruleset: Ruleset, packet: Packet) -> Verdict | None:
    """Return the verdict that stops a packet, whatever is not known of it; None if it may pass."""
    verdicts = evaluate(ruleset, packet, either).verdicts
    return None if any(found.action == "accept" for found in verdicts) else verdicts[0]


def _fail(broken: _Broken, fleet: Fleet, policies: Mapping[str, Policy], rulesets: Mapping[str, Ruleset]) -> None:
    denial, sender, receiver = broken.denial, broken.way.sender, broken.receiver
    rules = [rule for chain in rulesets[denial.at].chains for rule in chain.rules if rule.name == denial.by.rule]
    outcome = Outcome(denial.by.action, denial.by.chain, rules[0] if rules else None, [])
    said = verdict(outcome, policies[denial.at])
    what = f'"{broken.way.text}" does not hold: {tell(denial.packet, sender.name, receiver.name)} is {said}'
    if denial.later:
        what += ", once what lets it pass has expired"
    if broken.more:
        what += f", and {broken.more} more logins from there are denied"
    raise PolicyError(str(broken.place), what, _mend(broken, fleet))


def _mend(broken: _Broken, fleet: Fleet) -> str:
    """Return both ways out: to permit the login where it is denied, or to do without this check."""
    denial, sender, receiver = broken.denial, broken.way.sender, broken.receiver
    names = [name for name in dict.fromkeys((sender.host, receiver.host)) if name]
    off = f"or set {PREFIX}guard: false for {' or '.join(names)}"
    if denial.packet.chain == "forward":
        return f"{_mend_at_router(broken, fleet)}, {off}"
    if denial.packet.chain == "input":
        return f"{_let_in(broken, fleet)}, {off}"
    if denial.by.rule:
        return f"Take it out of what stops it and grant it there with {_grant(broken, fleet)}, {off}"
    return f"Grant it there with {_grant(broken, fleet)}, {off}"


def _grant(broken: _Broken, fleet: Fleet) -> str:
    sender, receiver = broken.way.sender, broken.receiver
    to = _named(receiver, receiver.reached, fleet) + (", …" if broken.more else "")
    return f"{PREFIX}allow__{as_suffix(sender.name)}: [{{service: {_service(receiver)}, to: [{to}]}}]"


def _mend_at_router(broken: _Broken, fleet: Fleet) -> str:
    """Return what lets a login pass that a router denies: it knows what hosts are granted, and what they accept."""
    denial, sender = broken.denial, broken.way.sender
    router, rule = f"{PREFIX}router on host {denial.at}", denial.by.rule or ""
    if rule == "always/special-use":
        return f"Declare where it goes in 'special_use' of {router}"
    if _comes_in(denial, fleet):
        return _accept(broken, fleet)
    if sender.name not in fleet.hosts:
        return f"Put {sender.name} into the inventory with its addresses and {PREFIX}managed: false, and grant it ssh"
    if rule == "always/unknown-source":
        return f"Put it among those 'behind' in {router}"
    return f"Grant it with {_grant(broken, fleet)}"


def _comes_in(denial: _Denial, fleet: Fleet) -> bool:
    """Tell whether a router denies a login that comes from outside."""
    router = fleet.hosts[denial.at].router
    inside = join(side.prefixes for side in router.inside) if router else NOWHERE
    return not contains(inside.of(denial.packet.family), denial.packet.source)


def _let_in(broken: _Broken, fleet: Fleet) -> str:
    """Return what lets a login in that is denied where it arrives."""
    return "Change what stops it" if broken.denial.by.rule else _accept(broken, fleet)


def _accept(broken: _Broken, fleet: Fleet) -> str:
    sender, receiver = broken.way.sender, broken.receiver
    source = _named(sender, sender.addresses, fleet)
    accept = f"{PREFIX}accept__{as_suffix(receiver.name)}: [{{service: {_service(receiver)}, from: [{source}]}}]"
    return f"Accept it there with {accept}"


def _service(receiver: End) -> str:
    return "ssh" if receiver.port == _SSH else f"{{protocol: tcp, ports: [{receiver.port}]}}"


def _named(end: End, addresses: Addresses, fleet: Fleet) -> str:
    """Return how a grant or an accept names these addresses of one end of a login."""
    host = fleet.hosts.get(end.name)
    if host and host.addresses and minus(addresses, host.addresses) == NOWHERE:
        return f"host:{end.name}"
    return ", ".join(short(text) for text in format_addresses(addresses))
