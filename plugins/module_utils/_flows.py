# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which live flows a ruleset denies. Pure. Private to this collection.

Rules accept what belongs to an established flow without asking again whether it may begin. So when rules tighten, the
flows that could not begin any more have to be found, by evaluating the packet that each of them began with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, Iterable, Iterator, Mapping, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, either, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses, Limit, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains

# Stands for what cannot be known of a flow that has begun: `either` takes it for a match and for none.
_UNKNOWN = Limit(1, "second", 1, "none", "under")


@dataclass(frozen=True)
class Flow:
    """A flow as conntrack keeps it: by the packet that it began with. Addresses are integers.

    ``translated`` is the address and port that somebody sends it to instead of its destination.
    """

    family: str
    protocol: str
    source: int
    destination: int
    source_port: int
    destination_port: int
    translated: Optional[Tuple[int, int]] = None

    @property
    def target(self) -> Tuple[int, int]:
        """The address and port that it arrives at; chains that filter see these."""
        return self.translated or (self.destination, self.destination_port)

    def reversed(self) -> Flow:
        """Return the flow as it would be, had the other end begun."""
        return Flow(self.family, self.protocol, self.destination, self.source, self.destination_port, self.source_port)

    def packet(self, chain: str, **fields: Any) -> Packet:
        """Return a packet of it as a base chain sees it; ``fields`` are what else is known."""
        address, port = self.target
        return Packet(
            chain=chain,
            family=self.family,
            source=self.source,
            destination=address,
            protocol=self.protocol,
            source_port=self.source_port,
            destination_port=port,
            **fields,
        )


@dataclass(frozen=True)
class Socket:
    """A TCP socket of this host: its own end and the other one, and its number in the kernel.

    ``is_listener`` sockets wait for flows to begin; of them only ``port`` and ``inode`` have a meaning.
    """

    family: str
    address: int
    port: int
    peer_address: int
    peer_port: int
    is_listener: bool
    inode: int


def open_flows(sockets: Iterable[Socket]) -> Iterator[Flow]:
    """Yield the flow of each connected socket; who began it follows from whether its port has a listener."""
    sockets = tuple(sockets)
    listening = frozenset(socket.port for socket in sockets if socket.is_listener)
    for socket in sockets:
        if not socket.is_listener:
            outbound = Flow(socket.family, "tcp", socket.address, socket.peer_address, socket.port, socket.peer_port)
            yield outbound.reversed() if socket.port in listening else outbound


def denied_flows(
    ruleset: Ruleset,
    flows: Iterable[Flow],
    own: FrozenSet[Tuple[str, int]],
    sockets: Iterable[Socket],
    now: float,
    behind: Mapping[str, Addresses],
) -> Iterator[Flow]:
    """Yield the flows that could not begin under these rules, whatever is not known of them.

    ``own`` are this host's addresses with their family, ``behind`` those to which interfaces lead that lead nowhere
    else. A TCP flow out of a port that has a listener counts as one that the other end began: conntrack takes whoever
    it heard first for the one who did.
    """
    listening = frozenset(socket.port for socket in sockets if socket.is_listener)
    rules, between = doubtful(ruleset), _Between(ruleset, behind)
    for flow in flows:
        from_here, to_here = (flow.family, flow.source) in own, (flow.family, flow.target[0]) in own
        began = flow
        if from_here and not to_here and flow.protocol == "tcp" and flow.source_port in listening:
            began, from_here, to_here = flow.reversed(), False, True
        if from_here and to_here:
            continue
        asked = rules if from_here or to_here else between.rules(began)
        if _is_denied(asked, began, from_here, to_here, now):
            yield flow


class _Between:
    """A ruleset as it may treat what is forwarded, by the interfaces of which it is known that it passes them."""

    def __init__(self, ruleset: Ruleset, behind: Mapping[str, Addresses]) -> None:
        self._ruleset = ruleset
        self._behind = behind
        self._rules: Dict[Tuple[Optional[str], Optional[str]], Ruleset] = {}

    def rules(self, flow: Flow) -> Ruleset:
        ways = self._way(flow.family, flow.source), self._way(flow.family, flow.target[0])
        if ways not in self._rules:
            chains = self._ruleset.chains
            kept = (replace(c, rules=tuple(r for rule in c.rules for r in self._narrowed(rule, *ways))) for c in chains)
            self._rules[ways] = doubtful(Ruleset(tuple(kept)))
        return self._rules[ways]

    def _way(self, family: str, address: int) -> Optional[str]:
        """Return the interface that leads to an address; None is any of those that lead elsewhere, too."""
        found = (name for name, addresses in self._behind.items() if contains(addresses.of(family), address))
        return next(found, None)

    def _narrowed(self, rule: Rule, came_by: Optional[str], goes_by: Optional[str]) -> Iterator[Rule]:
        """Yield a rule without what is known of its interfaces, unless it is about others."""
        into, out = self._possible(rule.in_interface, came_by), self._possible(rule.out_interface, goes_by)
        if into != () and out != ():
            yield replace(rule, in_interface=into, out_interface=out)

    def _possible(self, names: Optional[Tuple[str, ...]], way: Optional[str]) -> Optional[Tuple[str, ...]]:
        if names is None or way in names:
            return None
        return () if way else tuple(name for name in names if name not in self._behind)


def doubtful(ruleset: Ruleset) -> Ruleset:
    """Return the ruleset as it may treat flows between this host and others, whatever is not known of them.

    Rules that ask for what nobody can tell may match or not: ``either`` then finds all verdicts that are possible.
    """
    return Ruleset(
        tuple(replace(c, rules=tuple(without_unknowns(r) for r in c.rules if not loops(r))) for c in ruleset.chains)
    )


def _is_denied(ruleset: Ruleset, flow: Flow, from_here: bool, to_here: bool, now: float) -> bool:
    packet = flow.packet(
        "output" if from_here else "input" if to_here else "forward",
        tcp_flags=("syn",) if flow.protocol == "tcp" else (),
        source_type="local" if from_here else "unicast",
        destination_type="local" if to_here else "unicast",
        time=now,
    )
    return all(verdict.action != "accept" for verdict in evaluate(ruleset, packet, either).verdicts)


def without_unknowns(rule: Rule) -> Rule:
    """Return the rule as it may match, whatever the interfaces, owners and the check of the way back."""
    return without(rule, ("in_interface", "out_interface", "uid_owner", "gid_owner", "reverse_path"))


def without(rule: Rule, unknown: Iterable[str]) -> Rule:
    """Return the rule without options about what is not known of a packet; if it has any, it may match or not."""
    nothing: Dict[str, Any] = dict.fromkeys(unknown)
    known = replace(rule, **nothing)
    return rule if known == rule else replace(known, limit=_UNKNOWN)


def loops(rule: Rule) -> bool:
    """Tell whether a rule is about the loopback only, which no flow to or from another host uses."""
    return ("lo",) in (rule.in_interface, rule.out_interface)
