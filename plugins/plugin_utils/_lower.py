# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lowers policies to rules and chains of the data contract. Private to this collection.

The order within a chain is the policy: what every host needs to live, then what is forbidden, then what is granted,
then what logs the rest, then the default verdict. Forbids come before grants, so that a grant of a range or of
everything leaks nothing. A forbid with waivers is a chain of its own, which what they exempt leaves again until they
expire, for other forbids and the grants to decide. Nothing forbids what comes in: where input is closed, all but what
is accepted is stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    FAMILIES,
    Addresses,
    Ruleset,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses, format_ports
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import (
    default,
    deny,
    log_default,
    refuse,
    refuse_spoofed,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._expiry import Lapse, inbound_lapses, lapses
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accept,
    Accepted,
    Composition,
    Forbidden,
    Grant,
    Granted,
    Policy,
    Reach,
    Settings,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ICMP, icmp_types

Rule = dict[str, Any]
Chains = dict[str, dict[str, Any]]

# Beginnings of rule names that are not for profiles and groups which happen to be called so.
_RESERVED = ("always/", "forbid/", "palisade/", "waiver/", "until/", "after/", "accept/")
# Chain names may be so long.
_CHAIN_NAME = 20
_NOT_IN_CHAINS = re.compile(r"[^a-z0-9_]")
# Where flows are judged anew that outlived what let them begin, and what the log says of those that end.
_EXPIRED, _EXPIRED_INBOUND = "expired", "expired_inbound"
# The ports of a DHCP client and its server.
_DHCP = {"ipv4": (68, 67), "ipv6": (546, 547)}
# A host sends these before an address is its own (RFC 4862, RFC 3810).
_FROM_UNSPECIFIED = ["nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report"]
_DISCOVERY = ["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]
# What tells about a flow that it fails. Conntrack counts a redirect as related, too.
_ERRORS = {
    "icmp": ["destination-unreachable", "time-exceeded", "parameter-problem"],
    "icmpv6": ["destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"],
}
# What neighbours and routers ask and tell. Redirects are not among it: whoever may send them takes over a route.
_DISCOVERY_INBOUND = ["nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-advert"]
_MLD = ["mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report"]


def lower(policy: Policy) -> tuple[list[Rule], Chains]:
    """Return the rules and chains of one host; none where everything of ours is to go."""
    return lower_to_ruleset(policy)[:2]


def lower_to_ruleset(policy: Policy) -> tuple[list[Rule], Chains, Ruleset]:
    """Return the rules and chains of one host, and the ruleset that they are."""
    if policy.settings.state == "absent":
        return [], {}, Ruleset()
    settings = policy.settings
    rules = [*_output(policy.composition, settings), *log_default(settings, "output")]
    chains: Chains = {"output": {"default": default(settings, "output")}}
    if settings.input != "off":
        rules.extend(_input_guard(settings))
        chains["input"] = {"default": default(settings, "input")}
    if settings.input == "closed":
        rules.extend([*_input_closed(policy.composition, settings), *log_default(settings, "input")])
    if not policy.composition.is_router:
        rules.extend(log_default(settings, "forward"))
        chains["forward"] = {"default": default(settings, "forward")}
    return rules, chains, decode(rules, chains)  # what the module would refuse must not get as far as a host


def _rule(chain: str, name: str, action: str, **options: Any) -> Rule:
    return {"name": name, "chain": chain, "action": action, **options}


def _output(composition: Composition, settings: Settings) -> Iterator[Rule]:
    used, chains = _used(composition), _forbid_chains(composition.forbids)
    yield _rule("output", "always/loopback", "accept", out_interface=["lo"])
    yield from _unspecified_source(used)
    yield from refuse_spoofed(settings, "output", source_type="not:local")
    if settings.live_flows == "end":
        yield from _ending_rules(composition, used, settings, chains)
    yield _rule("output", "always/established", "accept", ctstate=["established"])
    for protocol in ICMP:
        yield _rule("output", f"always/related-{protocol}", "accept", protocol=protocol, ctstate=["related"])
    yield from refuse(settings, "output", "always/invalid", "invalid", ctstate=["invalid"])
    yield _rule("output", "always/neighbour-discovery", "accept", protocol="icmpv6", icmp_type=_DISCOVERY)
    yield _rule("output", "always/mld", "accept", protocol="icmpv6", icmp_type=_MLD)
    yield _rule("output", "always/igmp", "accept", protocol="igmp")
    for forbidden in composition.forbids:
        yield from _forbid_rules("output", forbidden, settings, chains)
    for granted in used:
        yield from _grant_rules("output", granted)
    for forbidden in composition.forbids:
        yield from _waiver_rules(forbidden, settings, chains)


def _used(composition: Composition) -> list[Granted]:
    return [granted for granted in composition.grants if granted.state in ("in use", "cut")]


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
    for expires, interfaces in _dhcp_interfaces(used, *_DHCP["ipv4"]).items():
        yield _rule(
            "output",
            "always/unspecified-source-dhcp" + (f"/{expires}" if expires else ""),
            "accept",
            source=["0.0.0.0/32"],
            protocol="udp",
            source_ports=["68"],
            destination_ports=["67"],
            out_interface=interfaces,
            **_until(expires),
        )


def _dhcp_interfaces(used: Iterable[Granted], client: int, server: int) -> dict[str | None, list[str]]:
    """Return the interfaces to which DHCP is granted, by when it expires."""
    by_end: dict[str | None, set[str]] = {}
    for granted in (g for g in used if g.grant.interface and _is_dhcp(g, client, server)):
        by_end.setdefault(granted.grant.expires, set()).update(granted.grant.interface)
    return {expires: sorted(interfaces) for expires, interfaces in by_end.items()}


def _is_dhcp(granted: Granted, client: int, server: int) -> bool:
    parts = [reach.part for reach in granted.reaches if reach.part.protocol == "udp"]
    return any(contains(part.source_ports, client) and contains(part.selector, server) for part in parts)


def _forbid_chains(forbids: Iterable[Forbidden]) -> dict[str, str]:
    """Return a name for the chain of each forbid that has waivers, by its origin."""
    chains: dict[str, str] = {}
    for origin in (forbidden.origin for forbidden in forbids if forbidden.waived):
        name = f"forbid_{_NOT_IN_CHAINS.sub('_', origin.lower())}"[:_CHAIN_NAME]
        if name in chains.values():
            name = f"forbid_{crc32(origin.encode()):08x}"
        chains[origin] = name
    return chains


def _forbid_rules(chain: str, forbidden: Forbidden, settings: Settings, chains: dict[str, str]) -> Iterator[Rule]:
    name, several = f"forbid/{forbidden.origin}", len(forbidden.forbid.service.parts) > 1
    for rule_name, reach in _named(name, forbidden.reaches, several=several):
        if forbidden.waived:
            yield _rule(chain, rule_name, "jump", target=chains[forbidden.origin], **_matches(reach))
        else:
            yield from deny(settings, chain, rule_name, forbidden.origin, **_matches(reach))


def _waiver_rules(forbidden: Forbidden, settings: Settings, chains: dict[str, str]) -> Iterator[Rule]:
    """Yield the chain of a forbid with waivers: what is forbidden comes here, and what they exempt leaves again."""
    if not forbidden.waived:
        return
    chain = chains[forbidden.origin]
    for waived in forbidden.waived:
        for name, reach in _named(f"waiver/{waived.origin}", waived.reaches, several=len(waived.reaches) > 1):
            yield _rule(chain, name, "return", **_matches(reach), **_until(waived.waiver.expires))
    yield from deny(settings, chain, f"forbid/{forbidden.origin}", forbidden.origin)


def _grant_rules(chain: str, granted: Granted, *, is_flow: bool = False) -> Iterator[Rule]:
    """Yield the rules of a grant; one that asks about a flow does not bound how many begin."""
    for rule_name, reach in _named(
        _grant_name(granted.origin, is_ours=granted.grant.shipped),
        granted.reaches,
        several=len(granted.grant.service.parts) > 1,
    ):
        conditions = _conditions(granted.grant)
        if is_flow:
            conditions.pop("limit", None)
        yield _rule(chain, rule_name, "accept", **_matches(reach), **conditions)


def _grant_name(origin: str, *, is_ours: bool = False) -> str:
    """Return what the rules of a grant are called: by its origin, unless it looks like one of another kind."""
    return f"grant/{origin}" if origin.startswith(_RESERVED) and not is_ours else origin


def _ending_rules(
    composition: Composition, used: Iterable[Granted], settings: Settings, chains: dict[str, str]
) -> Iterator[Rule]:
    """Let flows that began here live until what let them begin expires, and no longer, unless something else does.

    Neither owner nor rate are asked for before: who closes a socket no longer owns what it has still to send.
    """
    found = lapses(composition)
    for lapse in found:
        name = _grant_name(lapse.origin) if lapse.kind == "grant" else f"waiver/{lapse.origin}"
        for part_name, reach in _named(name, lapse.reaches, several=len(lapse.reaches) > 1):
            yield from _lapse_rules("output", part_name, lapse, _matches(reach), settings)
    if any(lapse.is_shared for lapse in found):
        for forbidden in composition.forbids:
            if forbidden.waived:
                yield from _forbid_rules(_EXPIRED, forbidden, settings, chains)
        for granted in used:
            yield from _grant_rules(_EXPIRED, granted, is_flow=True)
        yield from deny(settings, _EXPIRED, "always/expired", _EXPIRED)


def _lapse_rules(chain: str, name: str, lapse: Lapse, matches: Rule, settings: Settings) -> Iterator[Rule]:
    """Yield what accepts flows until their lapse, and what becomes of them afterwards."""
    matches = {**matches, "ctstate": ["established"], "ct_direction": "original"}
    yield _rule(chain, f"until/{name}", "accept", **matches, **_until(lapse.expires))
    if lapse.is_shared:
        target = _EXPIRED if chain == "output" else _EXPIRED_INBOUND
        yield _rule(chain, f"after/{name}", "jump", target=target, **matches)
    else:
        yield from deny(settings, chain, f"after/{name}", _EXPIRED, base=chain, **matches)


def _named(name: str, reaches: Iterable[Reach], *, several: bool) -> Iterator[tuple[str, Reach]]:
    """Yield a name for each part, with its protocol where there are ``several``."""
    seen: dict[str, int] = {}
    for reach in reaches:
        protocol = reach.part.protocol
        seen[protocol] = seen.get(protocol, 0) + 1
        number = "" if seen[protocol] == 1 else f"/{seen[protocol]}"
        yield (f"{name}/{protocol}{number}" if several else name), reach


def _until(expires: str | None) -> Rule:
    return {} if expires is None else {"expires": expires}


def _matches(reach: Reach, end: str = "destination") -> Rule:
    """Return the options that match what a part reaches at an end; an option that matches all is left out."""
    part = reach.part
    options: Rule = {}
    families = [f for f in FAMILIES if part.family in ("any", f) and reach.addresses.of(f)]
    if len(families) == 1:
        options["family"] = families[0]
    if any(reach.addresses.of(family) != ALL_ADDRESSES.of(family) for family in families):
        kept = (reach.addresses.of(family) if family in families else () for family in FAMILIES)
        options[end] = _cidrs(Addresses(*kept))
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
    return {**options, **_bounds(grant)}


def _bounds(declared: Grant | Accept) -> Rule:
    """Return the options that bound rate and time."""
    options: Rule = {}
    if limit := declared.limit:
        burst = {} if limit.burst is None else {"burst": limit.burst}
        options["limit"] = {"rate": limit.rate, **burst, "per": limit.per, "mode": "under"}
    return {**options, **_until(declared.expires)}


def _input_guard(settings: Settings) -> Iterator[Rule]:
    """Refuse what cannot be honest, and what would let a flow that was fenced in come back as an inbound one."""
    yield _rule("input", "always/loopback", "accept", in_interface=["lo"])
    # A host's own multicast and broadcast come back to it: only what is addressed to the host itself is spoofed.
    yield from refuse_spoofed(settings, "input", source_type="local", destination_type="local")
    loopback: Rule = {"destination": ["127.0.0.0/8", "::1/128"]}
    no_syn: Rule = {"protocol": "tcp", "ctstate": ["new"], "tcp_flags": {"mask": ["syn"]}}
    yield from refuse(settings, "input", "always/loopback-destination", "loopback", **loopback)
    yield from refuse(settings, "input", "always/invalid", "invalid", ctstate=["invalid"])
    yield from refuse(settings, "input", "always/no-syn", "no-syn", **no_syn)


def _input_closed(composition: Composition, settings: Settings) -> Iterator[Rule]:
    """Let in what belongs to known flows, what the host needs to live, and what is accepted."""
    accepts = [accepted for accepted in composition.accepts if accepted.state == "in use"]
    if settings.live_flows == "end":
        yield from _inbound_ending_rules(accepts, settings)
    yield _rule("input", "always/established", "accept", ctstate=["established"])
    for protocol, errors in _ERRORS.items():
        name = f"always/related-{protocol}"
        yield _rule("input", name, "accept", protocol=protocol, icmp_type=errors, ctstate=["related"])
    yield _rule("input", "always/neighbour-discovery", "accept", protocol="icmpv6", icmp_type=_DISCOVERY_INBOUND)
    yield _rule("input", "always/mld", "accept", protocol="icmpv6", icmp_type=["mld-listener-query"])
    yield _rule("input", "always/igmp", "accept", protocol="igmp")
    for protocol, types in ICMP.items():
        if wanted := [name for name in settings.icmp.inbound if name in types]:
            yield _rule("input", f"always/{protocol}", "accept", protocol=protocol, icmp_type=wanted)
    yield from _dhcp_replies(_used(composition))
    for accepted in accepts:
        yield from _accept_rules("input", accepted)


def _dhcp_replies(used: Sequence[Granted]) -> Iterator[Rule]:
    """Let in what DHCP servers answer where DHCP is granted: not from where, nor to where, the question went."""
    for family, (client, server) in _DHCP.items():
        for expires, interfaces in _dhcp_interfaces(used, client, server).items():
            yield _rule(
                "input",
                f"always/dhcp-{family}" + (f"/{expires}" if expires else ""),
                "accept",
                family=family,
                protocol="udp",
                source_ports=[str(server)],
                destination_ports=[str(client)],
                in_interface=interfaces,
                **_until(expires),
            )


def _accept_rules(chain: str, accepted: Accepted, *, is_flow: bool = False) -> Iterator[Rule]:
    """Yield the rules of an accept; one that asks about a flow does not bound how many begin."""
    accept, several = accepted.accept, len(accepted.accept.service.parts) > 1
    conditions = _bounds(accept)
    if accept.interface:
        conditions["in_interface"] = list(accept.interface)
    if is_flow:
        conditions.pop("limit", None)
    for name, reach in _named(f"accept/{accepted.origin}", accepted.reaches, several=several):
        yield _rule(chain, name, "accept", **_matches(reach, "source"), **conditions)


def _inbound_ending_rules(accepts: Sequence[Accepted], settings: Settings) -> Iterator[Rule]:
    """Let flows that began elsewhere live until the accept expires that let them in, unless another one does."""
    found = inbound_lapses(accepts)
    for lapse in found:
        for name, reach in _named(f"accept/{lapse.origin}", lapse.reaches, several=len(lapse.reaches) > 1):
            yield from _lapse_rules("input", name, lapse, _matches(reach, "source"), settings)
    if any(lapse.is_shared for lapse in found):
        for accepted in accepts:
            yield from _accept_rules(_EXPIRED_INBOUND, accepted, is_flow=True)
        yield from deny(settings, _EXPIRED_INBOUND, "always/expired", _EXPIRED, base="input")
