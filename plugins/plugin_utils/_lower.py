# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lowers policies to rules and chains of the data contract. Private to this collection.

The order within a chain is the policy: what every host needs to live, then what is forbidden, then what is granted,
then what logs the rest, then the default verdict. Nothing forbids what comes in: where input is closed, all but what is
accepted is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.plugin_utils._always import (
    FROM_UNSPECIFIED,
    RESET,
    inbound_icmp,
    refuse_no_syn,
    related_errors,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._border import border_rules, reset_for_others
from ansible_collections.palisade.egress.plugins.plugin_utils._containers import container_rules
from ansible_collections.palisade.egress.plugins.plugin_utils._declared import (
    Lane,
    Rule,
    accept_rules,
    ending_rules,
    forbid_chains,
    inbound_ending_rules,
    outbound_rules,
    rule,
    until,
    used,
    waiver_rules,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import (
    base_chain,
    log_default,
    refuse,
    refuse_spoofed,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition, Granted, Policy, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ICMP

Chains = dict[str, dict[str, Any]]

# The ports of a DHCP client and its server.
_DHCP = {"ipv4": (68, 67), "ipv6": (546, 547)}
_DISCOVERY = ["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]
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
    rules = [*(reset_for_others() if policy.border else ()), *_output(policy.composition, settings)]
    rules.extend(log_default(settings, "output"))
    chains: Chains = {"output": base_chain(settings, "output")}
    if settings.input != "off":
        rules.extend(_input_guard(settings))
        chains["input"] = base_chain(settings, "input")
    if settings.input == "closed":
        rules.extend([*_input_closed(policy.composition, settings), *log_default(settings, "input")])
    if policy.border:
        rules.extend(border_rules(policy.border, settings))
        chains |= {"prerouting": {"priority": "raw"}, "forward": base_chain(settings, "forward")}
    elif policy.composition.is_container_host:
        rules.extend(container_rules(policy.composition, settings))
        chains["forward"] = base_chain(settings, "forward")
    elif not policy.composition.is_router:
        # Who forwards nothing answers nobody.
        silent = replace(settings, default_verdict="drop")
        rules.extend(log_default(silent, "forward"))
        chains["forward"] = base_chain(silent, "forward")
    return rules, chains, decode(rules, chains)  # what the module would refuse must not get as far as a host


def _output(composition: Composition, settings: Settings) -> Iterator[Rule]:
    lane, chains = Lane("output", "output", "expired", settings), forbid_chains(composition.forbids)
    yield rule("output", "always/loopback", "accept", out_interface=["lo"])
    yield from _unspecified_source(used(composition))
    yield from refuse_spoofed(settings, "output", source_type="not:local")
    if settings.live_flows == "end":
        yield from ending_rules(lane, composition, chains)
    yield rule("output", "always/established", "accept", ctstate=["established"])
    for protocol in ICMP:
        yield rule("output", f"always/related-{protocol}", "accept", protocol=protocol, ctstate=["related"])
    if base_chain(settings, "input").get("reject_with") == "tcp-reset":
        # What input refuses with leaves here, and is related to what it refuses.
        yield rule("output", "always/related-reset", "accept", **RESET)
    yield from refuse(settings, "output", "always/invalid", "invalid", ctstate=["invalid"])
    yield rule("output", "always/neighbour-discovery", "accept", protocol="icmpv6", icmp_type=_DISCOVERY)
    yield rule("output", "always/mld", "accept", protocol="icmpv6", icmp_type=_MLD)
    yield rule("output", "always/igmp", "accept", protocol="igmp")
    yield from outbound_rules(lane, composition, chains)
    yield from waiver_rules(lane, composition, chains)


def _unspecified_source(granted: Iterable[Granted]) -> Iterator[Rule]:
    """Let pass what leaves before a host has an address; in IPv4 that is DHCP, where it is granted."""
    yield rule(
        "output",
        "always/unspecified-source",
        "accept",
        source=["::/128"],
        protocol="icmpv6",
        icmp_type=FROM_UNSPECIFIED,
    )
    for expires, interfaces in _dhcp_interfaces(granted, *_DHCP["ipv4"]).items():
        yield rule(
            "output",
            "always/unspecified-source-dhcp" + (f"/{expires}" if expires else ""),
            "accept",
            source=["0.0.0.0/32"],
            protocol="udp",
            source_ports=["68"],
            destination_ports=["67"],
            out_interface=interfaces,
            **until(expires),
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


def _input_guard(settings: Settings) -> Iterator[Rule]:
    """Refuse what cannot be honest, and what would let a flow that was fenced in come back as an inbound one."""
    yield rule("input", "always/loopback", "accept", in_interface=["lo"])
    # A host's own multicast and broadcast come back to it: only what is addressed to the host itself is spoofed.
    yield from refuse_spoofed(settings, "input", source_type="local", destination_type="local")
    loopback: Rule = {"destination": ["127.0.0.0/8", "::1/128"]}
    yield from refuse(settings, "input", "always/loopback-destination", "loopback", **loopback)
    yield from refuse(settings, "input", "always/invalid", "invalid", ctstate=["invalid"])
    yield from refuse_no_syn(settings, "input")


def _input_closed(composition: Composition, settings: Settings) -> Iterator[Rule]:
    """Let in what belongs to known flows, what the host needs to live, and what is accepted."""
    lane = Lane("input", "input", "expired_inbound", settings)
    accepts = [accepted for accepted in composition.accepts if accepted.is_used]
    if settings.live_flows == "end":
        yield from inbound_ending_rules(lane, accepts)
    yield rule("input", "always/established", "accept", ctstate=["established"])
    yield from related_errors("input")
    yield rule("input", "always/neighbour-discovery", "accept", protocol="icmpv6", icmp_type=_DISCOVERY_INBOUND)
    yield rule("input", "always/mld", "accept", protocol="icmpv6", icmp_type=["mld-listener-query"])
    yield rule("input", "always/igmp", "accept", protocol="igmp")
    yield from inbound_icmp(settings, "input")
    yield from _dhcp_replies(used(composition))
    yield from accept_rules(lane, accepts)


def _dhcp_replies(used: Sequence[Granted]) -> Iterator[Rule]:
    """Let in what DHCP servers answer where DHCP is granted: not from where, nor to where, the question went."""
    for family, (client, server) in _DHCP.items():
        for expires, interfaces in _dhcp_interfaces(used, client, server).items():
            yield rule(
                "input",
                f"always/dhcp-{family}" + (f"/{expires}" if expires else ""),
                "accept",
                family=family,
                protocol="udp",
                source_ports=[str(server)],
                destination_ports=[str(client)],
                in_interface=interfaces,
                **until(expires),
            )
