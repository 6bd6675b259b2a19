# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules and chains as nftables objects: what stands in our table for a ruleset. Private to this collection.

A rule becomes one line an address family (or one for both), led by one more where its log has a rate of its own.
All lines of a rule carry its name as comment and count into one counter, which outlives changes of the rule.
Address lists beyond a handful become named sets, so that they can change while the rule stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._codec import format_comment
from ansible_collections.palisade.egress.plugins.module_utils._errors import UnsupportedError
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    BASE_CHAINS,
    FAMILIES,
    Addresses,
    AddressType,
    Chain,
    Limit,
    Log,
    Rule,
    TcpFlags,
)
from ansible_collections.palisade.egress.plugins.module_utils._options import DEFAULT_BURST
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, Ranges
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    ICMP_TYPES,
    ICMPV6_TYPES,
    PROTOCOLS,
    address_text,
    format_ports,
    format_time,
)

# Up to so many addresses and ranges stand in the rule itself.
HANDFUL = 8
# How long, in seconds, a limit per address remembers one that sends no more, at least and (nft takes no more: 49 days)
# at most, and how many of them.
_LIMIT_MEMORY = 60
_MOST_MEMORY = 4294967
LIMIT_SIZE = 65535
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

IP = {"ipv4": "ip", "ipv6": "ip6"}
ADDRESS = {"ipv4": "ipv4_addr", "ipv6": "ipv6_addr"}
REJECT_WITH = {
    "icmp-port-unreachable": "icmpx port-unreachable",
    "icmp-net-unreachable": "icmpx no-route",
    "icmp-host-unreachable": "icmpx host-unreachable",
    "icmp-admin-prohibited": "icmpx admin-prohibited",
    "tcp-reset": "tcp reset",
}
DEFAULT_RULE = "palisade/default"

_IDENTIFIER = re.compile(r"[^A-Za-z0-9_./-]")
_IDENTIFIER_LENGTH = 90


@dataclass(frozen=True)
class NamedSet:
    """A set or map of ours: of addresses, of the memory of a limit, or of chains by address.

    ``branches`` are the chains of a map's ranges; ``memory`` is for how many seconds a set that the kernel itself fills
    keeps an element that is not used.
    """

    name: str
    family: str
    ranges: Ranges = ()
    branches: Optional[Tuple[Tuple[Range, str], ...]] = None
    memory: int = 0

    @property
    def kind(self) -> str:
        """What nft calls it."""
        return "set" if self.branches is None else "map"


@dataclass(frozen=True)
class Rendered:
    """What one rule is in nftables: its lines in order, and the counter and sets that they use."""

    lines: Tuple[str, ...]
    counter: str
    sets: Tuple[NamedSet, ...] = ()


def render_rule(rule: Rule) -> Rendered:
    """Return the nftables form of a rule whose owners are numbers; raises ``UnsupportedError``."""
    _refuse(rule)
    lines: List[str] = []
    sets: List[NamedSet] = []
    for family in line_families(rule):
        matches = list(_matches(rule, family, sets))
        end = f'comment "{format_comment(rule)}"'
        log = [_log(rule.log)] if rule.log else []
        if rule.log and rule.log.amount:
            rate = f"limit rate {rule.log.amount}/{rule.log.unit} burst {DEFAULT_BURST} packets"
            lines.append(" ".join([*matches, rate, *log, end]))
            log = []
        verdict = _verdict(rule, family, sets)
        lines.append(" ".join([*matches, f'counter name "{counter_name(rule)}"', *log, *verdict, end]))
    return Rendered(tuple(lines), counter_name(rule), tuple(sets))


def all_rules(chain: Chain) -> Tuple[Rule, ...]:
    """Return the rules of a chain and those that carry out its default verdict.

    The chain's policy alone would drop, too: the rule at the end counts and, unlike a policy, can reject.
    """
    tail: Tuple[Rule, ...] = ()
    if chain.default in ("drop", "reject"):
        rule = Rule(DEFAULT_RULE, chain.name, chain.default, reject_with=chain.reject_with)
        if chain.reject_with == "tcp-reset":
            tcp = replace(rule, name=f"{DEFAULT_RULE}/tcp", protocol="tcp")
            tail = (tcp, replace(rule, reject_with="icmp-port-unreachable"))
        else:
            tail = (rule,)
    return chain.rules + tail


def chain_name(name: str) -> str:
    """Return what a chain is called in nftables: one of one's own could else be called like a keyword."""
    return name if name in BASE_CHAINS else f"own/{name}"


def counter_name(rule: Rule) -> str:
    """Return the name of a rule's counter."""
    return f"{chain_name(rule.chain)}/{_identifier(rule.name)}"


def chain_definition(chain: Chain) -> str:
    """Return what stands behind ``add chain inet TABLE``."""
    if not chain.is_base:
        return chain_name(chain.name)
    policy = "accept" if chain.default == "accept" else "drop"
    return f"{chain.name} {{ type filter hook {chain.name} priority {chain.priority}; policy {policy}; }}"


def set_definition(named: NamedSet) -> str:
    """Return what stands behind ``add set inet TABLE`` or ``add map inet TABLE``, elements included.

    The kernel takes 100,000 of them in a third less time so than by a command of their own.
    """
    if named.memory:
        features = f"size {LIMIT_SIZE}; flags dynamic; timeout {named.memory}s;"
        return f"{named.name} {{ type {ADDRESS[named.family]}; {features} }}"
    verdict = "" if named.branches is None else " : verdict"
    return f"{named.name} {{ type {ADDRESS[named.family]}{verdict}; flags interval; elements = {_elements(named)}; }}"


def _elements(named: NamedSet) -> str:
    if named.branches is not None:
        return _branches(named.branches, named.family)
    return "{ " + ", ".join(_range_texts(named.ranges, named.family)) + " }"


def _refuse(rule: Rule) -> None:
    where = f"rule {rule.name!r} in {rule.chain}"
    if rule.cgroup is not None:
        raise UnsupportedError(f"{where}.cgroup", "is not supported yet", "use uid_owner or gid_owner")
    if rule.limit is not None and rule.log is not None and rule.log.amount:
        mend = "jump with the limit to a chain of your own that logs and decides"
        raise UnsupportedError(f"{where}.log.rate", "one nftables rule cannot have it beside a limit", mend)


def line_families(rule: Rule) -> Tuple[Optional[str], ...]:
    """Return the families that need a line each; None is one line for both."""
    by_address = (rule.source, rule.destination, rule.dispatch) != (None, None, None)
    by_rate = rule.limit is not None and rule.limit.per != "none"
    return rule.families if rule.family != "any" or by_address or by_rate else (None,)


def _matches(rule: Rule, family: Optional[str], sets: List[NamedSet]) -> Iterator[str]:
    addresses = list(_address_matches(rule, family, sets)) if family else []
    if family and not addresses and rule.icmp_type is None:
        yield f"meta nfproto {family}"
    if rule.in_interface:
        yield f"iifname {_braced([_quoted(name) for name in rule.in_interface])}"
    if rule.out_interface:
        yield f"oifname {_braced([_quoted(name) for name in rule.out_interface])}"
    yield from addresses
    yield from _kind_matches(rule)
    yield from _protocol_matches(rule)
    for option, text in _SIMPLE.items():
        value = getattr(rule, option)
        if value is not None:
            yield text(value)
    yield from _limit(rule, family, sets)


def _address_matches(rule: Rule, family: str, sets: List[NamedSet]) -> Iterator[str]:
    for option, field, suffix in (("source", "saddr", "from"), ("destination", "daddr", "to")):
        addresses: Optional[Addresses] = getattr(rule, option)
        if addresses is None or addresses.of(family) == ALL_ADDRESSES.of(family):
            continue
        ranges = addresses.of(family)
        if len(ranges) > HANDFUL:
            named = NamedSet(_set_name(rule, suffix, family), family, ranges)
            sets.append(named)
            yield f"{IP[family]} {field} @{named.name}"
        else:
            yield f"{IP[family]} {field} {_braced(_range_texts(ranges, family))}"


def _kind_matches(rule: Rule) -> Iterator[str]:
    for option, field in (("source_type", "saddr"), ("destination_type", "daddr")):
        kind: Optional[AddressType] = getattr(rule, option)
        if kind is not None:
            yield f"fib {field} type {'!= ' if kind.negated else ''}{kind.kind}"
    if rule.reverse_path is not None:
        yield f"fib saddr{' . iif' if rule.reverse_path == 'strict' else ''} oif missing"


def _protocol_matches(rule: Rule) -> Iterator[str]:
    if rule.source_ports is not None:
        yield f"{rule.protocol} sport {_braced(format_ports(rule.source_ports))}"
    if rule.destination_ports is not None:
        yield f"{rule.protocol} dport {_braced(format_ports(rule.destination_ports))}"
    if rule.tcp_flags is not None:
        yield _tcp_flags(rule.tcp_flags)
    if rule.icmp_type is not None:
        types = ICMP_TYPES if rule.protocol == "icmp" else ICMPV6_TYPES
        yield f"{rule.protocol} type {_braced([str(types.get(name, name)) for name in rule.icmp_type])}"
    if rule.protocol is not None and not any(
        (rule.source_ports, rule.destination_ports, rule.tcp_flags, rule.icmp_type)
    ):
        yield f"meta l4proto {PROTOCOLS.get(rule.protocol, rule.protocol)}"


def _tcp_flags(flags: TcpFlags) -> str:
    wanted = "|".join(flags.set) if flags.set else "0"
    return f"tcp flags & ({'|'.join(flags.mask)}) == {f'({wanted})' if len(flags.set) > 1 else wanted}"


_SIMPLE: Dict[str, Callable[..., str]] = {
    "ctstate": lambda states: f"ct state {','.join(states)}",
    "ct_direction": lambda direction: f"ct direction {direction}",
    "uid_owner": lambda users: f"meta skuid {_braced(users)}",
    "gid_owner": lambda groups: f"meta skgid {_braced(groups)}",
    "expires": lambda seconds: f'meta time < "{format_time(seconds).translate({84: " ", 90: None})}"',
}


def _limit(rule: Rule, family: Optional[str], sets: List[NamedSet]) -> Iterator[str]:
    limit = rule.limit
    if limit is None:
        return
    rate = (
        f"limit rate {'over ' if limit.mode == 'over' else ''}{limit.amount}/{limit.unit} burst {limit.burst} packets"
    )
    if limit.per == "none" or family is None:
        yield rate
        return
    named = NamedSet(_set_name(rule, "rate", family), family, memory=_memory(limit))
    sets.append(named)
    field = "saddr" if limit.per == "source" else "daddr"
    yield f"update @{named.name} {{ {IP[family]} {field} {rate} }}"


def _memory(limit: Limit) -> int:
    """Return the seconds after which the bucket of an address is full again: forgetting it then makes no difference."""
    full = -(-limit.burst * _SECONDS[limit.unit] // limit.amount)
    return min(max(_LIMIT_MEMORY, full), _MOST_MEMORY)


def _log(log: Log) -> str:
    return f'log prefix "{log.prefix}"' + (f" group {log.group}" if log.group is not None else "")


def _verdict(rule: Rule, family: Optional[str], sets: List[NamedSet]) -> List[str]:
    if rule.dispatch is not None and family is not None:
        field = "saddr" if rule.dispatch.selector == "source" else "daddr"
        branches = sorted((r, chain) for addresses, chain in rule.dispatch.branches for r in addresses.of(family))
        if len(branches) <= HANDFUL:
            return [f"{IP[family]} {field} vmap {_branches(tuple(branches), family)}"]
        named = NamedSet(_set_name(rule, "by", family), family, branches=tuple(branches))
        sets.append(named)
        return [f"{IP[family]} {field} vmap @{named.name}"]
    if rule.action == "jump" and rule.target is not None:
        return [f"jump {chain_name(rule.target)}"]
    if rule.action == "reject" and rule.reject_with is not None:
        return [f"reject with {REJECT_WITH[rule.reject_with]}"]
    return [] if rule.action == "log" else [rule.action]


def _branches(branches: Tuple[Tuple[Range, str], ...], family: str) -> str:
    jumps = (f"{_range_text(r, family)} : jump {chain_name(chain)}" for r, chain in branches)
    return "{ " + ", ".join(jumps) + " }"


def _range_texts(ranges: Ranges, family: str) -> List[str]:
    return [_range_text(r, family) for r in ranges]


def _range_text(r: Range, family: str) -> str:
    first, last = r
    text = address_text(first, family)
    if first == last:
        return text
    differing = first ^ last
    if first & differing or differing & (differing + 1):
        return f"{text}-{address_text(last, family)}"
    return f"{text}/{(32 if family == 'ipv4' else 128) - differing.bit_length()}"


def _braced(texts: List[str]) -> str:
    return texts[0] if len(texts) == 1 else "{ " + ", ".join(texts) + " }"


def _quoted(text: str) -> str:
    return f'"{text}"'


def _set_name(rule: Rule, suffix: str, family: str) -> str:
    return f"{counter_name(rule)}/{suffix}{'4' if family == FAMILIES[0] else '6'}"


def _identifier(name: str) -> str:
    """Return a name as nft takes it: what it cannot hold is replaced, and a digest keeps two such names apart."""
    plain = _IDENTIFIER.sub("_", name)[:_IDENTIFIER_LENGTH]
    return plain if plain == name else f"{plain}.{sha256(name.encode()).hexdigest()[:8]}"
