# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves assertions for all packets of a whole fleet, or names one packet that breaks them. Private to this collection.

A packet passes from one host to another if the sender's output and the receiver's input accept it. What a host sends
to itself leaves nothing and is no matter of assertions. Hosts without rules of ours stop nothing, but routers before
them may. Where a router is between two hosts, it has to accept the packet, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    FAMILIES,
    Addresses,
    Chain,
    Ruleset,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, contains, subtract
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import (
    LOCAL,
    UNICAST,
    Frame,
    Outcome,
    Walk,
    beginning,
    frame,
    part_of,
    shared,
    walk,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import Assertion
from ansible_collections.palisade.egress.plugins.plugin_utils._compile import Views
from ansible_collections.palisade.egress.plugins.plugin_utils._crossings import (
    Crossing,
    Crossings,
    at_routers,
    past_routers,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import join, meet, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Fleet, Host, Part, Policy, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    AXIS,
    NOTHING,
    Box,
    Condition,
    Region,
    Symbols,
    cut,
    divide,
    hull,
    within,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import minus as minus_region
from ansible_collections.palisade.egress.plugins.plugin_utils._services import protocol_numbers
from ansible_collections.palisade.egress.plugins.plugin_utils._sources import source_of, sources
from ansible_collections.palisade.egress.plugins.plugin_utils._words import Contexts, tell, witness

Names = Collection[tuple[str, str]]
_NO_RULES = Ruleset()
_UNSPECIFIED: Ranges = ((0, 0),)
_ALL = ALL_ADDRESSES.ipv6


@dataclass(frozen=True)
class Refutation:
    """A packet that breaks an assertion: who sends it to whom, and the rule (None: a default) at ``at`` that decides.

    ``more`` is the number of other hosts with the same rules that the assertion is about.
    """

    assertion: Assertion
    packet: Packet
    sender: str
    receiver: str
    at: str
    outcome: Outcome
    more: int = 0


def check(
    fleet: Fleet, assertions: Iterable[Assertion], policies: Mapping[str, Policy], rulesets: Mapping[str, Ruleset]
) -> None:
    """Raise ``PolicyError`` for the first assertion that does not hold; policies are those of managed hosts."""
    assertions = tuple(assertions)
    prover = Prover(fleet, rulesets, assertions, Crossings(fleet, policies))
    broken = [found for assertion in assertions if (found := prover.refute(assertion))]
    if not broken:
        return
    first, others = broken[0], len(broken) - 1
    what = f'"{first.assertion.text}" does not hold: {tell(first.packet, first.sender, first.receiver)} is '
    what += verdict(first.outcome, policies.get(first.at))
    if first.more:
        what += f", and the same holds for {first.more} more with the same rules"
    if others:
        what += f"; {others} more of the assertions do not hold"
    opposite = "lets it pass" if first.outcome.accepts else "stops it"
    raise PolicyError(str(first.assertion.place), what, f"Change what {opposite}, or the assertion")


def verdict(outcome: Outcome, policy: Policy | None) -> str:
    """Return what becomes of a packet on the host of a policy (None: one without rules), and why, in words."""
    verb = {"accept": "accepted", "drop": "dropped", "reject": "rejected"}[outcome.action]
    if policy is None:
        return f"{verb}, as the host that sends it has no rules of ours"
    where = f"{outcome.chain} of host {policy.host}"
    if outcome.rule is None:
        return f"{verb} by the default of {where}, as no rule is about it"
    source = source_of(outcome.rule.name, sources(policy.composition))
    return f"{verb} by the rule '{outcome.rule.name}' in {where}" + (f", from the {source}" if source else "")


class Prover:
    """Proves assertions about one fleet; what hosts with equal rules have in common is looked at once."""

    def __init__(
        self,
        fleet: Fleet,
        rulesets: Mapping[str, Ruleset],
        assertions: Iterable[Assertion] = (),
        crossings: Crossings | None = None,
    ) -> None:
        assertions = tuple(assertions)
        self._fleet = fleet
        self._rulesets = rulesets
        self.crossings = Crossings(fleet, {}) if crossings is None else crossings
        self.views = Views(fleet)
        self._anywhere = self.views.of(Host("", None, Settings()))
        self._frames: dict[tuple[int, str, str], Frame] = {}
        self._more = {
            "in_interface": ("lo",),
            "out_interface": ("lo", *(name for assertion in assertions for name in assertion.interface)),
            "uid_owner": tuple(name for assertion in assertions for name in assertion.user),
            "gid_owner": tuple(name for assertion in assertions for name in assertion.group),
        }
        self._receivers = self._find_receivers()
        self._inside = join(host.addresses for host in fleet.hosts.values() if host.addresses is not None)

    def refute(self, assertion: Assertion) -> Refutation | None:
        """Return a packet that breaks an assertion, or None if it is proven; raises where it is about nothing."""
        found, is_about = self._refute_outside(assertion)
        for hosts in self._senders(assertion):
            if found:
                break
            meant = self._meant(assertion, hosts[0])
            is_about |= any(_elsewhere(region, host, family) for host in hosts for family, region in meant)
            found = self._refute_from(assertion, hosts, meant)
        if not is_about:
            what = "no packet that a host of the inventory sends or receives is meant, so it would prove nothing"
            assertion.place.fail(what, "Mend 'from', 'to' and 'except'")
        return found

    def symbols(self, host: Host) -> Symbols:
        """Return the names that tell packets of a host."""
        return self.frame(self._rulesets.get(host.name, _NO_RULES), "ipv4", "output").symbols

    def outcomes(self, assertion: Assertion, host: Host, family: str, without: Names = ()) -> Walk:
        """Return what becomes of the packets of an assertion that leave a host, as if it had no rules ``without``."""
        whole = self.frame(self._rulesets.get(host.name, _NO_RULES), family, "output")
        return walk(whole, "output", dict(self._meant(assertion, host))[family], without)

    def is_about(self, assertion: Assertion, host: Host) -> bool:
        """Tell whether a packet of an assertion can leave a host."""
        return any(_elsewhere(region, host, family) for family, region in self._meant(assertion, host))

    def contexts(self, host: Host) -> Contexts:
        """Return all packets that can leave a host, as ``describe`` takes for granted what they have in common."""
        ruleset = self._rulesets.get(host.name, _NO_RULES)
        return {family: hull(self.frame(ruleset, family, "output").start) for family in FAMILIES}

    def _find_receivers(self) -> list[tuple[str, Ruleset, Addresses]]:
        """Return the addresses of hosts that look at what comes in, those of equal rules together with one's name."""
        found: dict[tuple[Chain, ...], tuple[str, Ruleset, list[Addresses]]] = {}
        keys: dict[int, tuple[Chain, ...]] = {}
        for name, ruleset in self._rulesets.items():
            addresses = self._fleet.hosts[name].addresses
            if id(ruleset) not in keys:
                keys[id(ruleset)] = _inbound(ruleset)
            if keys[id(ruleset)] and addresses is not None:
                found.setdefault(keys[id(ruleset)], (name, ruleset, []))[2].append(addresses)
        return [(name, ruleset, join(addresses)) for name, ruleset, addresses in found.values()]

    def _senders(self, assertion: Assertion) -> list[list[Host]]:
        """Return the hosts that send, those together that have the same rules and networks."""
        named: dict[str, None] = {}
        for term in assertion.sources:
            if term.kind in ("group", "host"):
                named.update(dict.fromkeys(self._fleet.groups[term.name] if term.kind == "group" else (term.name,)))
        plain = self._plain_sources(assertion)
        if plain != Addresses():
            named.update((name, None) for name, host in self._fleet.hosts.items() if meet(host.addresses, plain))
        together: dict[tuple[int, int], list[Host]] = {}
        for name in named:
            host = self._fleet.hosts[name]
            key = (id(self._rulesets.get(name, _NO_RULES)), id(self.views.of(host)))
            together.setdefault(key, []).append(host)
        return list(together.values())

    def _plain_sources(self, assertion: Assertion) -> Addresses:
        """Return the sources that are given as addresses or networks."""
        terms = tuple(term for term in assertion.sources if term.kind not in ("group", "host"))
        return self._anywhere.resolve(terms, assertion.place.key("from"), lenient=False)

    def frame(self, ruleset: Ruleset, family: str, chain: str) -> Frame:
        """Return the frame of packets that go from host to host, as one base chain sees them."""
        key = (id(ruleset), family, chain)
        if key not in self._frames:
            symbols = Symbols.of((ruleset,), **self._more)
            start = beginning(family, symbols, chain, ruleset, parse_time(self._fleet.now))
            self._frames[key] = frame(ruleset, family, symbols, within(start, _honest(chain, symbols)))
        return self._frames[key]

    def _meant(self, assertion: Assertion, host: Host | None) -> list[tuple[str, Region]]:
        """Return what an assertion is about that leaves a host, or (None) its parts and destinations alone."""
        view = self._anywhere if host is None else self.views.of(host)
        to = view.resolve(assertion.to, assertion.place.key("to"), lenient=False)
        if assertion.without:
            to = minus(to, view.resolve(assertion.without, assertion.place.key("except"), lenient=False))
        ruleset = _NO_RULES if host is None else self._rulesets.get(host.name, _NO_RULES)
        frames = [self.frame(ruleset, family, "output") for family in FAMILIES]
        return [(whole.family, _region(assertion, whole, to.of(whole.family))) for whole in frames]

    def _refute_from(
        self, assertion: Assertion, hosts: Sequence[Host], meant: Iterable[tuple[str, Region]]
    ) -> Refutation | None:
        """Return a packet of these hosts that breaks the assertion."""
        ruleset = self._rulesets.get(hosts[0].name, _NO_RULES)
        for family, region in meant:
            whole = self.frame(ruleset, family, "output")
            for outcome in walk(whole, "output", region).outcomes:
                if not outcome.accepts:
                    found = self._refute_stopped(assertion, hosts, outcome, whole)
                elif assertion.expect == "denied":
                    found = self._refute_passing(assertion, hosts, outcome, whole)
                else:
                    found = self._refute_on_the_way(assertion, hosts, outcome.region, family)
                if found:
                    return replace(found, more=len(hosts) - 1)
        return None

    def _refute_stopped(
        self, assertion: Assertion, hosts: Iterable[Host], outcome: Outcome, whole: Frame
    ) -> Refutation | None:
        for host in hosts if assertion.expect == "allowed" else ():
            if region := _elsewhere(outcome.region, host, whole.family):
                return self._refutation(assertion, host, replace(outcome, region=region), whole)
        return None

    def _refute_passing(
        self, assertion: Assertion, hosts: Iterable[Host], outcome: Outcome, whole: Frame
    ) -> Refutation | None:
        """Return a packet that leaves one of these hosts and that neither a router nor its receiver stops."""
        for host in hosts:
            if host.name not in self._rulesets and not _can_send(host, whole.family):
                continue
            region = self._past_routers(_elsewhere(outcome.region, host, whole.family), host, whole.family)
            left = _not_to(region, [addresses.of(whole.family) for _n, _r, addresses in self._receivers])
            if region and not left:
                at_receivers = self.arrivals(region, whole.family, host.addresses_of(whole.family))
                arrived = (found for _name, found in at_receivers if found.accepts)
                left = [box for found in arrived for other in found.region for box in within(region, shared(other))]
            if left:
                return self._refutation(assertion, host, replace(outcome, region=left), whole)
        return None

    def _past_routers(self, region: Region, host: Host, family: str) -> Region:
        """Return the packets of a host that get past the routers, at least from one of its addresses."""
        parts = self.crossings.parts(family, host.addresses_of(family))
        left = [past_routers(list(self.at_routers(region, family, part)), region) for part in parts]
        return [box for passing in left for box in passing] if left else region

    def at_routers(self, region: Region, family: str, source: Ranges) -> Iterator[tuple[Crossing, Outcome]]:
        """Yield what may become of packets at the routers that they cross."""
        return at_routers(self.crossings, self._rulesets, self.frame, family, source, region)

    def _refute_on_the_way(
        self, assertion: Assertion, hosts: Sequence[Host], region: Region, family: str
    ) -> Refutation | None:
        """Return a packet that leaves one of these hosts and that a router or its receiver stops."""
        addresses = [host.addresses for host in hosts]
        source = join(known for known in addresses if known is not None).of(family)
        if not source and None not in addresses:
            return None  # they have no address of this family to send from
        region = region if len(hosts) > 1 else _elsewhere(region, hosts[0], family)
        for crossing, found in self.at_routers(region, family, source):
            if not found.accepts:
                return self._refutation_at_router(assertion, crossing, found, family, hosts[0].name)
        for name, found in self.arrivals(region, family, source):
            if not found.accepts:
                packet = witness(
                    found.region[0], family, "input", self.frame(self._rulesets[name], family, "input").symbols
                )
                at = self._name_of(family, packet.destination)
                sender = self._name_of(family, packet.source) or hosts[0].name
                return Refutation(assertion, packet, sender, at, at, found)
        return None

    def _refutation_at_router(
        self, assertion: Assertion, crossing: Crossing, outcome: Outcome, family: str, sender: str = ""
    ) -> Refutation:
        symbols = self.frame(self._rulesets[crossing.router], family, "forward").symbols
        packet = witness(outcome.region[0], family, outcome.chain, symbols)
        ends = self._name_of(family, packet.source) or sender, self._name_of(family, packet.destination)
        return Refutation(assertion, packet, *ends, crossing.router, outcome)

    def _refutation(self, assertion: Assertion, host: Host, outcome: Outcome, whole: Frame) -> Refutation:
        """Return the refutation by a packet that a host's own rules decide about."""
        box = _from_own(outcome.region[0], host, whole.family)
        packet = witness(box, whole.family, "output", whole.symbols)
        at = host.name if self._rulesets.get(host.name, _NO_RULES).chains else ""
        return Refutation(assertion, packet, host.name, self._name_of(whole.family, packet.destination), at, outcome)

    def arrivals(self, region: Region, family: str, source: Ranges) -> Iterator[tuple[str, Outcome]]:
        """Yield what becomes of packets at hosts that look at what comes in, with the name of such a host."""
        for name, ruleset, addresses in self._receivers:
            inside = within(region, ((AXIS["destination"], addresses.of(family)),))
            if inside:
                whole = self.frame(ruleset, family, "input")
                start = within(whole.start, ((AXIS["source"], source),)) if source else whole.start
                arriving = [box for other in inside for box in within(start, shared(other))]
                yield from ((name, outcome) for outcome in walk(whole, "input", arriving).outcomes)

    def _refute_outside(self, assertion: Assertion) -> tuple[Refutation | None, bool]:
        """Return a packet from addresses of no host that breaks the assertion, and whether it is about any."""
        sources = minus(self._plain_sources(assertion), self._inside)
        is_about = False
        for family, region in self._meant(assertion, None) if sources != Addresses() else ():
            for part in self.crossings.parts(family, sources.of(family)) if sources.of(family) else ():
                found, is_met = self._refute_coming(assertion, family, region, part)
                is_about |= is_met
                if found:
                    return found, True
        return None, is_about

    def _refute_coming(
        self, assertion: Assertion, family: str, region: Region, source: Ranges
    ) -> tuple[Refutation | None, bool]:
        """Return a packet from these addresses that breaks the assertion, and whether anybody looks at any."""
        at_routers = list(self.at_routers(region, family, source))
        is_wrong = assertion.expect == "denied"
        if is_wrong:
            region = past_routers(at_routers, region)
        else:
            for crossing, outcome in at_routers:
                if not outcome.accepts:
                    return self._refutation_at_router(assertion, crossing, outcome, family), True
        is_met = bool(at_routers)
        for name, outcome in self.arrivals(region, family, source):
            is_met = True
            if outcome.accepts == is_wrong:
                whole = self.frame(self._rulesets[name], family, "input")
                packet = witness(outcome.region[0], family, "input", whole.symbols)
                at = self._name_of(family, packet.destination)
                return Refutation(assertion, packet, "", at, at, outcome), True
        for crossing, outcome in at_routers if is_wrong else ():
            left = _not_to(outcome.region, [addresses.of(family) for _n, _r, addresses in self._receivers])
            if outcome.accepts and left:
                return self._refutation_at_router(assertion, crossing, replace(outcome, region=left), family), True
        return None, is_met

    def _name_of(self, family: str, address: int) -> str:
        """Return the name of the host with this address, if it is one."""
        hosts = self._fleet.hosts.items()
        return next((name for name, h in hosts if h.addresses and contains(h.addresses.of(family), address)), "")


def _inbound(ruleset: Ruleset) -> tuple[Chain, ...]:
    """Return the chains that packets to a host can meet."""
    return part_of(ruleset, "input").chains


def _can_send(host: Host, family: str) -> bool:
    """Tell whether a host has addresses of a family; of one whose addresses nobody knows that is to be assumed."""
    return host.addresses is None or bool(host.addresses.of(family))


def _honest(chain: str, symbols: Symbols) -> Condition:
    """Return the condition that a packet goes from host to host, and that nobody lies about addresses."""
    side = "out_interface" if chain == "output" else "in_interface"
    demands = {side: subtract(symbols.whole(side), symbols.ranges(side, ["lo"]))}
    if chain == "output":
        demands["source"] = subtract(_ALL, _UNSPECIFIED)
    else:
        arrives = UNICAST if chain == "forward" else LOCAL
        demands |= {"source_type": UNICAST, "destination_type": arrives, "reverse_path": NOTHING}
    return tuple(sorted((AXIS[axis], ranges) for axis, ranges in demands.items()))


def _region(assertion: Assertion, whole: Frame, to: Ranges) -> Region:
    """Return the packets of a family that an assertion is about."""
    found: list[Box] = []
    narrow: dict[int, Ranges] = {AXIS["destination"]: to}
    for axis, names in (
        ("out_interface", assertion.interface),
        ("uid_owner", assertion.user),
        ("gid_owner", assertion.group),
    ):
        if names:
            narrow[AXIS[axis]] = whole.symbols.ranges(axis, names)
    for part in assertion.parts if to else ():
        if part.family in ("any", whole.family):
            new = within(whole.start, tuple(sorted({**narrow, **dict(part_condition(part))}.items())))
            found += minus_region(new, found)
    return found


def part_condition(part: Part) -> Condition:
    """Return what a part of a service demands."""
    found = [(AXIS["protocol"], protocol_numbers(part))]
    for axis, ranges in (("selector", part.selector), ("source_ports", part.source_ports)):
        if ranges != ALL_PORTS:
            found.append((AXIS[axis], ranges))
    return tuple(found)


def _elsewhere(region: Region, host: Host, family: str) -> Region:
    """Return the packets that do not go to the host itself."""
    own = host.addresses_of(family)
    return divide(region, ((AXIS["destination"], own),))[1] if own else region


def _not_to(region: Region, addresses: Iterable[Ranges]) -> Region:
    for ranges in addresses:
        if ranges:
            region = divide(region, ((AXIS["destination"], ranges),))[1]
    return region


def _from_own(box: Box, host: Host, family: str) -> Box:
    """Return the part of a box that has the host's own address as source, where it is known."""
    own = host.addresses_of(family)
    inside = cut(box, ((AXIS["source"], own),))[0] if own else None
    return inside or box
