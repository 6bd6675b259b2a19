# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data that everything here speaks: rules, chains, rulesets. Private to this collection.

All of it is frozen and canonical: equal rulesets compare equal, however they were written. Only ``_codec`` makes
these from plain data, and only it validates; code that builds them directly owes the same invariants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges

BASE_CHAINS = ("prerouting", "input", "forward", "output")
FAMILIES = ("ipv4", "ipv6")
ALL_IPV4: Ranges = ((0, 2**32 - 1),)
ALL_IPV6: Ranges = ((0, 2**128 - 1),)
ALL_PORTS: Ranges = ((0, 65535),)


@dataclass(frozen=True)
class Addresses:
    """A set of addresses of both families, as ranges of integers."""

    ipv4: Ranges = ()
    ipv6: Ranges = ()

    def of(self, family: str) -> Ranges:
        """Return the ranges of one family (``ipv4`` or ``ipv6``)."""
        return self.ipv4 if family == "ipv4" else self.ipv6


ALL_ADDRESSES = Addresses(ALL_IPV4, ALL_IPV6)


@dataclass(frozen=True)
class AddressType:
    """What the routing table calls an address (``local``, ``multicast``, …), or anything but that."""

    kind: str
    negated: bool = False


@dataclass(frozen=True)
class TcpFlags:
    """Of the flags in ``mask`` exactly those in ``set`` are on; both sorted."""

    mask: Tuple[str, ...]
    set: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Limit:
    """A token bucket: ``amount`` packets per ``unit`` (second, minute, hour, day), ``burst`` deep.

    ``per`` is ``none``, ``source`` or ``destination``; ``mode`` says which packets match: those ``over`` the rate
    or those ``under`` it.
    """

    amount: int
    unit: str
    burst: int
    per: str
    mode: str


@dataclass(frozen=True)
class Log:
    """A log line: to the kernel log, or to an NFLOG ``group``; at most ``amount`` per ``unit`` (0: unlimited)."""

    prefix: str
    group: Optional[int] = None
    amount: int = 0
    unit: str = "second"


@dataclass(frozen=True)
class Dispatch:
    """Jump to a chain by address, in one lookup.

    ``selector`` is ``source`` or ``destination``; ``branches`` are ``(addresses, chain)``, one a chain, disjoint,
    sorted by chain.
    """

    selector: str
    branches: Tuple[Tuple[Addresses, str], ...]

    def addresses(self, family: str) -> Ranges:
        """Return all that the branches of one family cover, not merged."""
        return tuple(sorted(r for addresses, _chain in self.branches for r in addresses.of(family)))


@dataclass(frozen=True)
class Rule:
    """One rule of the data contract. ``None`` means that the packet may have any value.

    ``family`` is ``any`` only where a packet of either family can match; an address set never holds addresses of a
    family that cannot. Names are sorted, ports and addresses canonical ranges, ``expires`` seconds since 1970 UTC.
    ``protocol`` is a name where ``PROTOCOLS`` in ``_codec`` has one, else a number as text.
    """

    name: str
    chain: str
    action: str
    target: Optional[str] = None
    dispatch: Optional[Dispatch] = None
    family: str = "any"
    protocol: Optional[str] = None
    source: Optional[Addresses] = None
    destination: Optional[Addresses] = None
    source_type: Optional[AddressType] = None
    destination_type: Optional[AddressType] = None
    reverse_path: Optional[str] = None
    source_ports: Optional[Ranges] = None
    destination_ports: Optional[Ranges] = None
    tcp_flags: Optional[TcpFlags] = None
    icmp_type: Optional[Tuple[str, ...]] = None
    in_interface: Optional[Tuple[str, ...]] = None
    out_interface: Optional[Tuple[str, ...]] = None
    ctstate: Optional[Tuple[str, ...]] = None
    ct_direction: Optional[str] = None
    uid_owner: Optional[Tuple[str, ...]] = None
    gid_owner: Optional[Tuple[str, ...]] = None
    cgroup: Optional[Tuple[str, ...]] = None
    limit: Optional[Limit] = None
    log: Optional[Log] = None
    reject_with: Optional[str] = None
    expires: Optional[int] = None
    comment: str = ""

    @property
    def families(self) -> Tuple[str, ...]:
        """The families whose packets can match."""
        return FAMILIES if self.family == "any" else (self.family,)


@dataclass(frozen=True)
class Chain:
    """A chain and its rules, first match wins.

    A base chain has a ``default`` verdict (accept, drop, reject) and a ``priority`` (smaller comes first); a chain
    of one's own has neither: what falls off its end goes on behind the jump.
    """

    name: str
    rules: Tuple[Rule, ...] = ()
    default: Optional[str] = None
    reject_with: Optional[str] = None
    priority: Optional[int] = None

    @property
    def is_base(self) -> bool:
        """Whether packets enter here, not by a jump."""
        return self.name in BASE_CHAINS


@dataclass(frozen=True)
class Ruleset:
    """All chains of ours: base chains in the kernel's order of hooks, then our own by name."""

    chains: Tuple[Chain, ...] = ()

    @property
    def tracks_connections(self) -> bool:
        """Whether a rule asks about connections: the kernel looks at them only if some rule does."""
        return any(rule.ctstate or rule.ct_direction for chain in self.chains for rule in chain.rules)

    def chain(self, name: str) -> Optional[Chain]:
        """Return the chain of this name, or None."""
        return next((chain for chain in self.chains if chain.name == name), None)
