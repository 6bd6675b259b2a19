# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a ruleset does with one packet: its verdicts, and the rules that matched. Private to this collection.

Pure: all that the kernel would find out about a packet (its connection, its route, its owner) is given with it.
A matcher stands in ``_MATCHERS`` for each option that matches; a new option needs one more line there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._codec import DEFAULT_REJECT
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    FAMILIES,
    Addresses,
    AddressType,
    Chain,
    Dispatch,
    Rule,
    Ruleset,
    TcpFlags,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_network

# States of packets that belong to no flow: they have no direction either.
FLOWLESS = ("invalid", "untracked")


@dataclass(frozen=True)
class Packet:
    """One packet, whole (never a fragment), as one base chain sees it.

    Another chain may see it otherwise: before conntrack (prerouting and output, priority below -200) a packet is
    ``invalid`` unless it comes over the loopback; see ``follow``. Words are the contract's canonical ones, names of
    ICMP types included; addresses are integers (``Packet.between`` takes text).

    - ``chain``: the base chain; ``family``: ``ipv4`` or ``ipv6``; ports are None where the protocol has none.
    - ``tcp_flags``: those that are on.
    - ``ct_direction``: ``original`` or ``reply``; of no account for ``invalid`` and ``untracked``.
    - ``source_type``, ``destination_type``: what the routing table calls the address (any word, if it has none).
    - ``failed_reverse_path``: the checks it fails: neither, ``("strict",)``, or ``("strict", "loose")``.
    - ``uid``, ``gid``: the socket's owner, written as in the rules (``resolve_owners`` gives those numbers); None
      for what the kernel itself sends. ``cgroup``: the socket's, without a leading slash.
    - ``time``: seconds since 1970 UTC; the default is before anything expires.
    """

    chain: str
    family: str
    source: int
    destination: int
    protocol: str
    source_port: Optional[int] = None
    destination_port: Optional[int] = None
    tcp_flags: Tuple[str, ...] = ()
    icmp_type: Optional[str] = None
    in_interface: Optional[str] = None
    out_interface: Optional[str] = None
    ctstate: str = "new"
    ct_direction: Optional[str] = "original"
    source_type: str = "unicast"
    destination_type: str = "unicast"
    failed_reverse_path: Tuple[str, ...] = ()
    uid: Optional[str] = None
    gid: Optional[str] = None
    cgroup: Optional[str] = None
    time: float = 0

    @classmethod
    def between(cls, source: str, destination: str, **fields: Any) -> Packet:
        """Return the packet with two addresses given as text; raises ``BadValueError`` for what is none."""
        family = FAMILIES[":" in source]
        first, second = (parse_network(text)[1][0] for text in (source, destination))
        return cls(family=family, source=first, destination=second, **fields)


@dataclass(frozen=True)
class Verdict:
    """``accept``, ``drop`` or ``reject``, and what decided: the rule of this name in ``chain``.

    ``rule`` is None where it was the default of the base chain (which may not be there: then it accepts).
    """

    action: str
    chain: str
    rule: Optional[str] = None
    reject_with: Optional[str] = None


@dataclass(frozen=True)
class Evaluation:
    """The verdicts that are possible, and the rules that can match on the way there, in that order.

    There is one verdict, and the rules surely match, unless limits were left open. A rule that is reached twice, by
    two jumps, stands there twice: ``trace`` is what the kernel's counters count.
    """

    verdicts: Tuple[Verdict, ...]
    trace: Tuple[Rule, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The one verdict; raises ``ValueError`` where limits leave more than one possible."""
        (verdict,) = self.verdicts
        return verdict


# Whether the limit of a rule lets this packet match: (True,), (False,) or, unknown, both. Asked once for each time
# that all else in the rule matches, in the kernel's order, so that an oracle can count.
Limits = Callable[[Rule], Tuple[bool, ...]]


def either(_rule: Rule) -> Tuple[bool, ...]:
    """Leave every limit open: what is proven then holds however full the buckets are."""
    return (True, False)


def met(_rule: Rule) -> Tuple[bool, ...]:
    """Let every rule with a limit match."""
    return (True,)


def missed(_rule: Rule) -> Tuple[bool, ...]:
    """Let no rule with a limit match."""
    return (False,)


def evaluate(ruleset: Ruleset, packet: Packet, limits: Limits = either) -> Evaluation:
    """Return what one base chain, ``packet.chain``, does with a packet."""
    chain = ruleset.chain(packet.chain)
    if chain is None:
        return Evaluation((Verdict("accept", packet.chain),))
    walk = _Walk(ruleset, packet, limits)
    if walk.through(chain):
        walk.verdicts.append(_default(chain, packet))
    return Evaluation(tuple(dict.fromkeys(walk.verdicts)), tuple(walk.trace))


def follow(ruleset: Ruleset, packets: Iterable[Packet], limits: Limits = either) -> Evaluation:
    """Return what becomes of a packet on its way through several base chains, given as each of them sees it.

    The first verdict but ``accept`` ends it; the verdict of a packet that gets through is the last chain's.
    """
    trace: List[Rule] = []
    stopped: List[Verdict] = []
    accepted: List[Verdict] = []
    for packet in packets:
        found = evaluate(ruleset, packet, limits)
        trace += found.trace
        stopped += [verdict for verdict in found.verdicts if verdict.action != "accept"]
        accepted = [verdict for verdict in found.verdicts if verdict.action == "accept"]
        if not accepted:
            break
    return Evaluation(tuple(dict.fromkeys(stopped + accepted)), tuple(trace))


def matches(rule: Rule, packet: Packet) -> bool:
    """Tell whether all matches of a rule hold, its limit aside."""
    return packet.family in rule.families and all(
        holds(getattr(rule, option), packet) for option, holds in _MATCHERS.items() if getattr(rule, option) is not None
    )


class _Walk:
    """One packet's way through the chains; where limits leave it open, all ways at once."""

    def __init__(self, ruleset: Ruleset, packet: Packet, limits: Limits) -> None:
        self.verdicts: List[Verdict] = []
        self.trace: List[Rule] = []
        self._ruleset = ruleset
        self._packet = packet
        self._limits = limits

    def through(self, chain: Chain) -> bool:
        """Note verdicts and rules of a chain; tell whether the packet can leave it without a verdict."""
        can_return = False
        for rule in chain.rules:
            if not matches(rule, self._packet):
                continue
            chances = (True,) if rule.limit is None else self._limits(rule)
            if True not in chances:
                continue
            self.trace.append(rule)
            can_return = can_return or rule.action == "return"
            if not self._goes_on(rule) and False not in chances:
                return can_return
        return True

    def _goes_on(self, rule: Rule) -> bool:
        """Carry out a rule that matches; tell whether the one behind it can be reached."""
        if rule.action in ("accept", "drop", "reject"):
            self.verdicts.append(Verdict(rule.action, rule.chain, rule.name, rule.reject_with))
            return False
        if rule.action in ("jump", "dispatch"):
            target = rule.target if rule.dispatch is None else _branch(rule.dispatch, self._packet)
            chain = self._ruleset.chain(target) if target else None
            return chain is None or self.through(chain)
        return rule.action != "return"


def _branch(dispatch: Dispatch, packet: Packet) -> Optional[str]:
    address = packet.source if dispatch.selector == "source" else packet.destination
    return next((chain for table, chain in dispatch.branches if contains(table.of(packet.family), address)), None)


def _default(chain: Chain, packet: Packet) -> Verdict:
    reject_with = chain.reject_with
    if reject_with == "tcp-reset" and packet.protocol != "tcp":
        reject_with = DEFAULT_REJECT
    return Verdict(chain.default or "accept", chain.name, reject_with=reject_with)


def _is_kind(kind: AddressType, found: str) -> bool:
    return (found == kind.kind) != kind.negated


def _in(addresses: Addresses, family: str, address: int) -> bool:
    return contains(addresses.of(family), address)


def _has_flags(flags: TcpFlags, packet: Packet) -> bool:
    return set(flags.mask) & set(packet.tcp_flags) == set(flags.set)


def _in_cgroup(groups: Tuple[str, ...], packet: Packet) -> bool:
    path = f"{packet.cgroup or ''}/"
    return any(path.startswith(f"{group}/") for group in groups)


def _in_ports(ports: Tuple[Tuple[int, int], ...], port: Optional[int]) -> bool:
    return port is not None and contains(ports, port)


_MATCHERS: Dict[str, Callable[[Any, Packet], bool]] = {
    "protocol": lambda protocol, packet: bool(packet.protocol == protocol),
    "source": lambda addresses, packet: _in(addresses, packet.family, packet.source),
    "destination": lambda addresses, packet: _in(addresses, packet.family, packet.destination),
    "source_type": lambda kind, packet: _is_kind(kind, packet.source_type),
    "destination_type": lambda kind, packet: _is_kind(kind, packet.destination_type),
    "reverse_path": lambda check, packet: check in packet.failed_reverse_path,
    "source_ports": lambda ports, packet: _in_ports(ports, packet.source_port),
    "destination_ports": lambda ports, packet: _in_ports(ports, packet.destination_port),
    "tcp_flags": _has_flags,
    "icmp_type": lambda types, packet: packet.icmp_type in types,
    "in_interface": lambda names, packet: packet.in_interface in names,
    "out_interface": lambda names, packet: packet.out_interface in names,
    "ctstate": lambda states, packet: packet.ctstate in states,
    "ct_direction": lambda way, packet: packet.ctstate not in FLOWLESS and bool(packet.ct_direction == way),
    "uid_owner": lambda users, packet: packet.uid in users,
    "gid_owner": lambda groups, packet: packet.gid in groups,
    "cgroup": _in_cgroup,
    "expires": lambda seconds, packet: bool(packet.time < seconds),
}
