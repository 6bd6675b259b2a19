# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lowers policies to rules and chains of the data contract. Private to this collection.

The order within a chain is the policy: what every host needs to live, then what is forbidden, then what is granted,
then the default verdict. Forbids come before grants, so that a grant of a range or of everything leaks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    FAMILIES,
    Addresses,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses, format_ports
from ansible_collections.palisade.egress.plugins.plugin_utils._compose import ECHO_REQUEST
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Composition,
    Forbidden,
    Grant,
    Granted,
    Part,
    Policy,
    Reach,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ICMP, icmp_types

Rule = dict[str, Any]
Chains = dict[str, dict[str, Any]]

# Beginnings of rule names that are not for profiles and groups which happen to be called so.
_RESERVED = ("always/", "forbid/", "palisade/")
# A host sends these before an address is its own (RFC 4862, RFC 3810).
_FROM_UNSPECIFIED = ["nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report"]
_DISCOVERY = ["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]
_MLD = ["mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report"]


def lower(policy: Policy) -> tuple[list[Rule], Chains]:
    """Return the rules and chains of one host; none where everything of ours is to go."""
    if policy.settings.state == "absent":
        return [], {}
    rules = list(_output(policy.composition, policy.settings.default_verdict))
    chains: Chains = {"output": {"default": policy.settings.default_verdict}}
    if policy.settings.input == "guard":
        rules.extend(_input_guard())
        chains["input"] = {"default": "accept"}
    if not policy.composition.is_router:
        chains["forward"] = {"default": "drop"}
    decode(rules, chains)  # what the module would refuse must not get as far as a host
    return rules, chains


def _rule(chain: str, name: str, action: str, **options: Any) -> Rule:
    return {"name": name, "chain": chain, "action": action, **options}


def _output(composition: Composition, verdict: str) -> Iterator[Rule]:
    used = [granted for granted in composition.grants if granted.state in ("in use", "cut")]
    yield _rule("output", "always/loopback", "accept", out_interface=["lo"])
    yield from _unspecified_source(used)
    yield _rule("output", "always/spoofed-source", "drop", source_type="not:local")
    yield _rule("output", "always/established", "accept", ctstate=["established"])
    for protocol in ("icmp", "icmpv6"):
        yield _rule("output", f"always/related-{protocol}", "accept", protocol=protocol, ctstate=["related"])
    yield _rule("output", "always/invalid", "drop", ctstate=["invalid"])
    yield _rule("output", "always/neighbour-discovery", "accept", protocol="icmpv6", icmp_type=_DISCOVERY)
    yield _rule("output", "always/mld", "accept", protocol="icmpv6", icmp_type=_MLD)
    yield _rule("output", "always/igmp", "accept", protocol="igmp")
    for forbidden in composition.forbids:
        yield from _forbid_rules(forbidden, verdict)
    for granted in used:
        yield from _grant_rules(granted)


def _unspecified_source(used: Iterable[Granted]) -> Iterator[Rule]:
    """Let pass what leaves before a host has an address; in IPv4 that is DHCP, where it is granted."""
    yield _rule(
        "output",
        "always/unspecified-source",
        "accept",
        source=["::/128"],
        protocol="icmpv6",
        icmp_type=_FROM_UNSPECIFIED,
    )
    interfaces = {name for granted in used if _is_dhcp(granted) for name in granted.grant.interface}
    if interfaces:
        yield _rule(
            "output",
            "always/unspecified-source-dhcp",
            "accept",
            source=["0.0.0.0/32"],
            protocol="udp",
            source_ports=["68"],
            destination_ports=["67"],
            out_interface=sorted(interfaces),
        )


def _is_dhcp(granted: Granted) -> bool:
    return any(
        reach.part.protocol == "udp" and contains(reach.part.source_ports, 68) and contains(reach.part.selector, 67)
        for reach in granted.reaches
    )


def _forbid_rules(forbidden: Forbidden, verdict: str) -> Iterator[Rule]:
    name = f"forbid/{forbidden.origin}"
    parts = forbidden.forbid.service.parts
    for rule_name, reach in _named(name, parts, forbidden.reaches):
        yield _rule("output", rule_name, verdict, **_matches(reach))


def _grant_rules(granted: Granted) -> Iterator[Rule]:
    reserved = granted.origin.startswith(_RESERVED) and granted.origin != ECHO_REQUEST
    name = f"grant/{granted.origin}" if reserved else granted.origin
    for rule_name, reach in _named(name, granted.grant.service.parts, granted.reaches):
        yield _rule("output", rule_name, "accept", **_matches(reach), **_conditions(granted.grant))


def _named(name: str, parts: tuple[Part, ...], reaches: Iterable[Reach]) -> Iterator[tuple[str, Reach]]:
    """Yield a name for each part, with its protocol where the service has several parts."""
    seen: dict[str, int] = {}
    for reach in reaches:
        protocol = reach.part.protocol
        seen[protocol] = seen.get(protocol, 0) + 1
        number = "" if seen[protocol] == 1 else f"/{seen[protocol]}"
        yield (name if len(parts) == 1 else f"{name}/{protocol}{number}"), reach


def _matches(reach: Reach) -> Rule:
    """Return the options that match what a part reaches; an option that matches all is left out."""
    part = reach.part
    options: Rule = {}
    families = [f for f in FAMILIES if part.family in ("any", f) and reach.destination.of(f)]
    if len(families) == 1:
        options["family"] = families[0]
    if any(reach.destination.of(family) != ALL_ADDRESSES.of(family) for family in families):
        kept = (reach.destination.of(family) if family in families else () for family in FAMILIES)
        options["destination"] = _cidrs(Addresses(*kept))
    if part.protocol != "any":
        options["protocol"] = part.protocol
    if part.source_ports != ALL_PORTS:
        options["source_ports"] = format_ports(part.source_ports)
    if part.selector != ALL_PORTS and part.protocol in ICMP:
        options["icmp_type"] = icmp_types(part)
    elif part.selector != ALL_PORTS:
        options["destination_ports"] = format_ports(part.selector)
    return options


@lru_cache(maxsize=1024)
def _cidrs(addresses: Addresses) -> list[str]:
    """Return the CIDRs of a set; callers share the list and must not change it."""
    return format_addresses(addresses)


def _conditions(grant: Grant) -> Rule:
    """Return the options that bind a grant to interface, owner, rate and time."""
    options: Rule = {}
    for option, words in (
        ("out_interface", grant.interface),
        ("uid_owner", grant.user),
        ("gid_owner", grant.group),
    ):
        if words:
            options[option] = list(words)
    if grant.limit is not None:
        burst = {} if grant.limit.burst is None else {"burst": grant.limit.burst}
        options["limit"] = {"rate": grant.limit.rate, **burst, "per": grant.limit.per, "mode": "under"}
    if grant.expires is not None:
        options["expires"] = grant.expires
    return options


def _input_guard() -> Iterator[Rule]:
    """Refuse what cannot be honest, and what would let a flow that was fenced in come back as an inbound one."""
    yield _rule("input", "always/loopback", "accept", in_interface=["lo"])
    # A host's own multicast and broadcast come back to it: only what is addressed to the host itself is spoofed.
    yield _rule("input", "always/spoofed-source", "drop", source_type="local", destination_type="local")
    yield _rule("input", "always/loopback-destination", "drop", destination=["127.0.0.0/8", "::1/128"])
    yield _rule("input", "always/invalid", "drop", ctstate=["invalid"])
    yield _rule("input", "always/no-syn", "drop", protocol="tcp", ctstate=["new"], tcp_flags={"mask": ["syn"]})
