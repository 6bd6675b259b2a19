# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes of declared probes what a host has to try. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Addresses, Limit, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import MAX_PROBES, PARSERS
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError, address_text
from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import Box, passes
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks, is_usable
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Granted,
    Part,
    Policy,
    Probe,
    Probed,
    Reach,
    Target,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ECHO, ICMP, way_to
from ansible_collections.palisade.egress.plugins.plugin_utils._waive import at, label, named

# A probe tries each of its addresses: a few say as much as many.
_MOST_ADDRESSES = 16
# An origin that leaves room for an address in the name of what egress_probe takes.
_LONGEST_ORIGIN = 80
_SOURCE_PORT = 50000  # one of those that the kernel chooses from
_PERHAPS = Limit(1, "second", 1, "none", "under")


def probed(
    declared: Iterable[Probe],
    held: Sequence[Granted],
    closed: Sequence[tuple[str, Box]],
    networks: Networks,
    host: str,
) -> tuple[list[Probed], list[str]]:
    """Return probes with their origins and targets, and a notice for each shipped one that cannot be had.

    ``held`` are the host's grants, ``closed`` what is forbidden: a shipped probe tries only what they let pass.
    Raises ``PolicyError`` for a probe of the inventory that cannot be had.
    """
    used = [probe for probe in declared if not probe.shipped or _is_granted(probe, held)]
    origins = named([(f"{probe.label}/{probe.name}", label(probe.to)) for probe in used], _LONGEST_ORIGIN)
    found: list[Probed] = []
    notices: list[str] = []
    for origin, probe in zip(origins, used, strict=True):
        place = at(probe.place, host).key("to")
        try:
            targets = _targets(probe, networks.resolve(probe.to, place, lenient=False))
        except BadValueError as bad:
            if not probe.shipped:
                place.fail(bad.what, bad.mend)
            notices.append(f"the shipped probe {origin} is left out: {bad.what}")
            continue
        found.append(Probed(origin, probe, tuple(t for t in targets if not probe.shipped or passes(_reach(t), closed))))
    if (count := sum(len(item.targets) for item in found)) > MAX_PROBES:
        what = f"with this one the host has {count} addresses to probe, and {MAX_PROBES} are possible"
        at(found[-1].probe.place, host).fail(what, "Take some of its probes out, or name fewer addresses")
    return [item for item in found if item.targets], notices


def _is_granted(probe: Probe, held: Iterable[Granted]) -> bool:
    """Tell whether a grant from the profile of a probe is in use for the same, and for whoever sends it."""
    wanted = (probe.label, probe.service, probe.to)
    granted = [item.grant for item in held if item.is_used]
    return any(
        (grant.label, grant.service, grant.to) == wanted
        and not (grant.interface or grant.user or grant.group or grant.limit)
        for grant in granted
    )


def _targets(probe: Probe, to: Addresses) -> list[Target]:
    """Return what a probe tries; raises ``BadValueError`` where that cannot be."""
    name = label(probe.to)
    if to == Addresses():
        raise BadValueError(f"{name} has no addresses", "Define it, or take the probe out")
    if sum(last - first + 1 for family in FAMILIES for first, last in to.of(family)) > _MOST_ADDRESSES:
        what = f"{name} has more than {_MOST_ADDRESSES} addresses, each of which would be tried"
        raise BadValueError(what, "Name single addresses, a prefix cannot be probed")
    if not is_usable(to):
        what = f"{name} has loopback, multicast or unspecified addresses in it"
        raise BadValueError(what, "Name the addresses of other hosts")
    targets = [
        Target(family, address, way)
        for family in FAMILIES
        if (way := way_to(probe.service, family))
        for first, last in to.of(family)
        for address in range(first, last + 1)
    ]
    if not targets:
        what = f"{probe.service.name} and {name} have no IP family in common"
        raise BadValueError(what, "Name addresses of the family that the service uses")
    for target in targets:
        PARSERS["host"](address_text(target.address, target.family))
    return targets


def _reach(target: Target) -> Reach:
    """Return what a target is to the forbids."""
    protocol, port = target.way.protocol, target.way.port
    if port is None:
        protocol = "icmp" if target.family == "ipv4" else "icmpv6"
        echo = ICMP[protocol][ECHO]
        part = Part(protocol, target.family, ((echo, echo),))
    else:
        part = Part(protocol, target.family, ((port, port),), ((_SOURCE_PORT, _SOURCE_PORT),))
    address = ((target.address, target.address),)
    destination = Addresses(ipv4=address) if target.family == "ipv4" else Addresses(ipv6=address)
    return Reach(part, destination)


def without_own(found: tuple[Probed, ...], own: Addresses | None) -> tuple[Probed, ...]:
    """Return probes without a host's own addresses, which no rule stands before; the very same if there are none."""
    if own is None or not any(_is_in(target, own) for item in found for target in item.targets):
        return found
    others = (replace(item, targets=tuple(t for t in item.targets if not _is_in(t, own))) for item in found)
    return tuple(item for item in others if item.targets)


def _is_in(target: Target, addresses: Addresses) -> bool:
    return contains(addresses.of(target.family), target.address)


def encode(item: Probed) -> list[dict[str, Any]]:
    """Return a probe as egress_probe takes it: one for each target."""
    probe = item.probe
    is_group = probe.expect == "reachable" and len(item.targets) > 1
    encoded = []
    for target in item.targets:
        host, way = address_text(target.address, target.family), target.way
        options = {
            "port": way.port,
            "payload": way.payload,
            "query": probe.query if way.payload == "dns" else None,
            "timeout": probe.timeout,
            "group": item.origin if is_group else None,
        }
        known = {key: value for key, value in options.items() if value is not None}
        name = f"{item.origin} {host}"
        encoded.append({"name": name, "host": host, "protocol": way.protocol, "expect": probe.expect, **known})
    return encoded


def check_probes(policies: Mapping[str, Policy], rulesets: Mapping[str, Ruleset], now: int) -> None:
    """Raise ``PolicyError`` for the first probe that can never be satisfied, as the host's own rules stand."""
    checked: set[tuple[int, int]] = set()
    for host, policy in policies.items():
        key = (id(rulesets[host]), id(policy.probes))
        if policy.probes and key not in checked:
            checked.add(key)
            ruleset = _unbound(rulesets[host])
            for item in policy.probes:
                _check(item, host, ruleset, now)


def _unbound(ruleset: Ruleset) -> Ruleset:
    """Return a ruleset in which grants to users and interfaces may match or not: who probes, and by which, is open."""
    chains = (replace(chain, rules=tuple(map(_perhaps, chain.rules))) for chain in ruleset.chains)
    return Ruleset(tuple(chains))


def _perhaps(rule: Rule) -> Rule:
    if rule.name.startswith("always/") or not (rule.out_interface or rule.uid_owner or rule.gid_owner):
        return rule
    return replace(rule, out_interface=None, uid_owner=None, gid_owner=None, limit=_PERHAPS)


def _check(item: Probed, host: str, ruleset: Ruleset, now: int) -> None:
    is_wanted = item.probe.expect == "reachable"
    answers = [(target, evaluate(ruleset, _packet(target, now)).verdicts) for target in item.targets]
    wrong = [(t, found[0]) for t, found in answers if all((v.action == "accept") != is_wanted for v in found)]
    if not wrong or (is_wanted and len(wrong) < len(answers)):
        return
    target, verdict = wrong[0]
    by = f"the rule '{verdict.rule}'" if verdict.rule else "the default, as no rule is about it,"
    what = (
        f"the probe '{item.origin}' expects {address_text(target.address, target.family)} to be {item.probe.expect}, "
        f"and {by} {'stops it' if is_wanted else 'lets it pass'}"
    )
    mend = f"Mend the probe, or {'grant' if is_wanted else 'forbid'} what it tries"
    at(item.probe.place, host).fail(what, mend)


def _packet(target: Target, now: int) -> Packet:
    """Return the packet that a probe begins with; of its source, rules ask only whether it is the host's."""
    part = _reach(target).part
    return Packet(
        "output",
        target.family,
        source=1,
        destination=target.address,
        protocol=part.protocol,
        source_port=None if target.way.port is None else _SOURCE_PORT,
        destination_port=target.way.port,
        tcp_flags=("syn",) if part.protocol == "tcp" else (),
        icmp_type=ECHO if target.way.port is None else None,
        source_type="local",
        time=now,
    )
