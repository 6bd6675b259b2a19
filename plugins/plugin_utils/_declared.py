# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of what an inventory declares: forbids, waivers, grants, accepts. Private to this collection.

A host and the routers before it have the same of these, in different chains. Forbids come before grants, so that a
grant of a range or of everything leaks nothing. A forbid with waivers is a chain of its own, which what they exempt
leaves again until they expire, for other forbids and the grants to decide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    FAMILIES,
    Addresses,
)
from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses, format_ports
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import deny, forbid
from ansible_collections.palisade.egress.plugins.plugin_utils._expiry import Lapse, inbound_lapses, lapses
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accept,
    Accepted,
    Composition,
    Forbidden,
    Grant,
    Granted,
    Reach,
    Settings,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ICMP, icmp_types

Rule = dict[str, Any]

# Beginnings of rule names that are not for profiles and groups which happen to be called so.
_RESERVED = ("always/", "forbid/", "palisade/", "waiver/", "until/", "after/", "accept/")
# Chain names may be so long.
_CHAIN_NAME = 20
_NOT_IN_CHAINS = re.compile(r"[^a-z0-9_]")
# Packets of those who began a flow.
ORIGINAL: Mapping[str, Any] = {"ctstate": ["established"], "ct_direction": "original"}
# What the log says of flows that outlived what let them begin.
_EXPIRED = "expired"


@dataclass(frozen=True)
class Lane:
    """Where rules stand: in ``chain``, to which packets get by the base chain ``base``.

    Flows are judged anew in the chain ``expired`` that outlived what let them begin.
    """

    chain: str
    base: str
    expired: str
    settings: Settings


def rule(chain: str, name: str, action: str, **options: Any) -> Rule:
    """Return a rule of the data contract."""
    return {"name": name, "chain": chain, "action": action, **options}


def chain_name(words: str, taken: Collection[str], *, key: str) -> str:
    """Return a name for a chain of our own, from words if it is not ``taken``, else from a digest of a key."""
    kind = words.partition("_")[0]
    name = _NOT_IN_CHAINS.sub("_", words.lower())[:_CHAIN_NAME]
    return f"{kind}_{crc32(key.encode()):08x}" if name in taken else name


def used(composition: Composition) -> list[Granted]:
    """Return the grants of which rules come."""
    return [granted for granted in composition.grants if granted.is_used]


def forbid_chains(forbids: Iterable[Forbidden], taken: Collection[str] = (), scope: str = "") -> dict[str, str]:
    """Return, by origin, a name for the chain of each forbid that has waivers; ``scope`` is whose they are."""
    chains: dict[str, str] = {}
    for origin in (forbidden.origin for forbidden in forbids if forbidden.waived):
        key = f"{scope} {origin}" if scope else origin
        chains[origin] = chain_name(f"forbid_{origin}", {*taken, *chains.values()}, key=key)
    return chains


def outbound_rules(lane: Lane, composition: Composition, chains: Mapping[str, str]) -> Iterator[Rule]:
    """Yield what is forbidden, then what is granted."""
    for forbidden in composition.forbids:
        yield from _forbid_rules(lane, lane.chain, forbidden, chains)
    for granted in used(composition):
        yield from _grant_rules(lane.chain, granted)


def waiver_rules(lane: Lane, composition: Composition, chains: Mapping[str, str]) -> Iterator[Rule]:
    """Yield the chains of forbids with waivers: what is forbidden comes here, and what they exempt leaves again."""
    for forbidden in (forbidden for forbidden in composition.forbids if forbidden.waived):
        chain = chains[forbidden.origin]
        for waived in forbidden.waived:
            for name, reach in named(f"waiver/{waived.origin}", waived.reaches, several=len(waived.reaches) > 1):
                yield rule(chain, name, "return", **matches(reach), **until(waived.waiver.expires))
        yield from forbid(lane.settings, chain, f"forbid/{forbidden.origin}", forbidden, base=lane.base)


def ending_rules(lane: Lane, composition: Composition, chains: Mapping[str, str]) -> Iterator[Rule]:
    """Let flows live until what let them begin expires, and no longer, unless something else lets them begin.

    Neither owner nor rate are asked for before: who closes a socket no longer owns what it has still to send.
    """
    found = lapses(composition)
    for lapse in found:
        name = _grant_name(lapse.origin) if lapse.kind == "grant" else f"waiver/{lapse.origin}"
        for part_name, reach in named(name, lapse.reaches, several=len(lapse.reaches) > 1):
            yield from _lapse_rules(lane, part_name, lapse, matches(reach))
    if any(lapse.is_shared for lapse in found):
        for forbidden in composition.forbids:
            if forbidden.waived:
                yield from _forbid_rules(lane, lane.expired, forbidden, chains)
        for granted in used(composition):
            yield from _grant_rules(lane.expired, granted, is_flow=True)
        yield from deny(lane.settings, lane.expired, "always/expired", _EXPIRED, base=lane.base)


def accept_rules(lane: Lane, accepts: Iterable[Accepted]) -> Iterator[Rule]:
    """Yield what is let in."""
    for accepted in accepts:
        yield from _accept_rules(lane.chain, accepted)


def inbound_ending_rules(lane: Lane, accepts: Sequence[Accepted]) -> Iterator[Rule]:
    """Let flows that began elsewhere live until the accept expires that let them in, unless another one does."""
    found = inbound_lapses(accepts)
    for lapse in found:
        for name, reach in named(f"accept/{lapse.origin}", lapse.reaches, several=len(lapse.reaches) > 1):
            yield from _lapse_rules(lane, name, lapse, matches(reach, "source"))
    if any(lapse.is_shared for lapse in found):
        for accepted in accepts:
            yield from _accept_rules(lane.expired, accepted, is_flow=True)
        yield from deny(lane.settings, lane.expired, "always/expired", _EXPIRED, base=lane.base)


def _forbid_rules(lane: Lane, chain: str, forbidden: Forbidden, chains: Mapping[str, str]) -> Iterator[Rule]:
    name, several = f"forbid/{forbidden.origin}", len(forbidden.forbid.service.parts) > 1
    for rule_name, reach in named(name, forbidden.reaches, several=several):
        if forbidden.waived:
            yield rule(chain, rule_name, "jump", target=chains[forbidden.origin], **matches(reach))
        else:
            yield from forbid(lane.settings, chain, rule_name, forbidden, base=lane.base, **matches(reach))


def _grant_rules(chain: str, granted: Granted, *, is_flow: bool = False) -> Iterator[Rule]:
    """Yield the rules of a grant; one that asks about a flow does not bound how many begin."""
    for rule_name, reach in named(
        _grant_name(granted.origin, is_ours=granted.grant.shipped),
        granted.reaches,
        several=len(granted.grant.service.parts) > 1,
    ):
        conditions = _conditions(granted.grant)
        if is_flow:
            conditions.pop("limit", None)
        yield rule(chain, rule_name, "accept", **matches(reach), **conditions)


def _grant_name(origin: str, *, is_ours: bool = False) -> str:
    """Return what the rules of a grant are called: by its origin, unless it looks like one of another kind."""
    return f"grant/{origin}" if origin.startswith(_RESERVED) and not is_ours else origin


def _accept_rules(chain: str, accepted: Accepted, *, is_flow: bool = False) -> Iterator[Rule]:
    """Yield the rules of an accept; one that asks about a flow does not bound how many begin."""
    accept, several = accepted.accept, len(accepted.accept.service.parts) > 1
    conditions = _bounds(accept)
    if accept.interface:
        conditions["in_interface"] = list(accept.interface)
    if is_flow:
        conditions.pop("limit", None)
    for name, reach in named(f"accept/{accepted.origin}", accepted.reaches, several=several):
        yield rule(chain, name, "accept", **matches(reach, "source"), **conditions)


def _lapse_rules(lane: Lane, name: str, lapse: Lapse, options: Rule) -> Iterator[Rule]:
    """Yield what accepts flows until their lapse, and what becomes of them afterwards."""
    options = {**options, **ORIGINAL}
    yield rule(lane.chain, f"until/{name}", "accept", **options, **until(lapse.expires))
    if lapse.is_shared:
        yield rule(lane.chain, f"after/{name}", "jump", target=lane.expired, **options)
    else:
        yield from deny(lane.settings, lane.chain, f"after/{name}", _EXPIRED, base=lane.base, **options)


def named(name: str, reaches: Iterable[Reach], *, several: bool) -> Iterator[tuple[str, Reach]]:
    """Yield a name for each part, with its protocol where there are ``several``."""
    seen: dict[str, int] = {}
    for reach in reaches:
        protocol = reach.part.protocol
        seen[protocol] = seen.get(protocol, 0) + 1
        number = "" if seen[protocol] == 1 else f"/{seen[protocol]}"
        yield (f"{name}/{protocol}{number}" if several else name), reach


def until(expires: str | None) -> Rule:
    """Return the option that ends a rule, if it ends."""
    return {} if expires is None else {"expires": expires}


def matches(reach: Reach, end: str = "destination") -> Rule:
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
    return {**options, **until(declared.expires)}
