# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs against the evaluator: no packet contradicts what is proven, and a refutation is true of its packet."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from unit.plugin_utils.sites import GROUPS, HOSTS, site

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, contains
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import read_assertions
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._prove import Prover, Refutation
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import Ruled, rule

SOURCES = ("group:web", "host:mail1")
DESTINATIONS = ("any", "relays", "databases", "resolvers", "203.0.113.0/24", "198.51.100.8/29", "2001:db8::/32")
SERVICES = {"smtp": ("tcp", 25), "dns": ("udp", 53), "postgresql": ("tcp", 5432), "ssh": ("tcp", 22)}
ALLOW = "egress_firewall_allow__web"
INPUT = "egress_firewall_input"
SITES = {
    "as it is": {},
    "wide": {ALLOW: [{"service": "any", "to": "any"}]},
    "halves": {ALLOW: [{"service": "ssh", "to": "203.0.113.0/25"}, {"service": "ssh", "to": "203.0.113.128/25"}]},
    "nearly": {ALLOW: [{"service": "ssh", "to": "203.0.113.0/25"}, {"service": "ssh", "to": "203.0.113.128/26"}]},
    "bound": {
        ALLOW: [{"service": "ssh", "to": "any", "user": "bob"}, {"service": "smtps", "to": "any", "limit": "1/day"}]
    },
    "closed": {INPUT: "closed"},
    "closed, with accepts": {
        INPUT: "closed",
        ALLOW: [{"service": "ssh", "to": "any"}],
        "egress_firewall_accept__all": [
            {"service": "postgresql", "from": "group:web"},
            {"service": "dns", "from": "any"},
            {"service": "ssh", "from": "host:web1"},
        ],
    },
}


def ruled(variables: dict[str, object]) -> Ruled:
    hostvars = site()
    for host in HOSTS:
        hostvars[host] |= deepcopy(variables)
    return rule(Inventory(hostvars, {"all": list(HOSTS), **GROUPS}))


@pytest.mark.parametrize("variables", SITES.values(), ids=SITES)
def test_no_packet_contradicts_what_is_proven(variables: dict[str, object]) -> None:
    found, random, decided = ruled(variables), Random(0), set()
    for source, to, service in product(SOURCES, DESTINATIONS, SERVICES):
        for expect in ("allowed", "denied"):
            value = [{"from": source, "to": to, "service": service, "expect": expect}]
            (assertion,) = read_assertions(value, Place("assertions"), found.fleet)
            prover = Prover(found.fleet, found.rulesets, [assertion])
            refuted = prover.refute(assertion)
            decided.add(refuted is None)
            if refuted is not None:
                assert_is_so(refuted, found)
                continue
            for packet, host in packets(found, source, to, service, random):
                if expect == "denied" or own_of(found, host, packet):
                    assert arrives(found, host, packet) == (expect == "allowed"), (source, to, service, expect, packet)
    assert decided == {True, False}


def own_of(found: Ruled, host: str, packet: Packet) -> Ranges:
    """Return what a host is known to send such a packet from."""
    addresses = found.fleet.hosts[host].addresses
    return addresses.of(packet.family) if addresses else ()


def arrives(found: Ruled, host: str, packet: Packet) -> bool:
    """Tell whether a packet may leave a host and, if it goes to another one, may come in there."""
    steps = [(host, packet)]
    for name, other in found.fleet.hosts.items():
        if (
            name in found.rulesets
            and other.addresses
            and contains(other.addresses.of(packet.family), packet.destination)
        ):
            own = own_of(found, host, packet) or ((packet.source, packet.source),)
            seen = {"source": own[0][0], "source_type": "unicast", "destination_type": "local", "out_interface": None}
            steps.append((name, replace(packet, chain="input", uid=None, **seen)))
    verdicts = ({v.action for v in evaluate(found.rulesets[name], step).verdicts} for name, step in steps)
    return all("accept" in actions for actions in verdicts)


def assert_is_so(refuted: Refutation, found: Ruled) -> None:
    """Check that the packet gets the verdict that the refutation tells, from the rule that it names."""
    verdicts = evaluate(found.rulesets[refuted.at], refuted.packet).verdicts
    name = refuted.outcome.rule.name if refuted.outcome.rule else None
    assert (refuted.outcome.action, name) in {(verdict.action, verdict.rule) for verdict in verdicts}
    assert refuted.outcome.accepts == (refuted.assertion.expect == "denied")


def packets(found: Ruled, source: str, to: str, service: str, random: Random) -> list[tuple[Packet, str]]:
    """Return random packets of an assertion, each with the host that sends it."""
    fleet, made = found.fleet, []
    hosts = list(fleet.groups[source[6:]]) if source.startswith("group:") else [source[5:]]
    value = [{"from": source, "to": to, "service": service, "expect": "allowed"}]
    (assertion,) = read_assertions(value, Place("assertions"), fleet)
    prover = Prover(fleet, found.rulesets, [assertion])
    protocol, port = SERVICES[service]
    for host, family in product(hosts, ("ipv4", "ipv6")):
        own = fleet.hosts[host].addresses
        ranges = prover.views.of(fleet.hosts[host]).resolve(assertion.to, assertion.place, lenient=False).of(family)
        for _number in range(8 if ranges else 0):
            first, last = random.choice(ranges)
            destination = random.choice([first, last, random.randint(first, last)])
            if own is None or any(low <= destination <= high for low, high in own.of(family)):
                continue
            user = random.choice([None, "bob", "eve"])
            fields = {"source_port": random.randint(1, 65535), "destination_port": port, "uid": user}
            flags = ("syn",) if protocol == "tcp" else ()
            now = parse_time(fleet.now)
            packet = Packet("output", family, 9, destination, protocol, **fields, tcp_flags=flags, time=now)
            made.append((Packet(**{**packet.__dict__, "source_type": "local", "out_interface": "eth0"}), host))
    return made
