# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether this host can renew the addresses that DHCP servers lent it. Pure. Private to this collection.

A host that cannot loses them, but hours later, when nobody is looking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import LockoutError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, Verdict, either, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._flows import without
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._values import address_text

# The ports of a client and of servers, by family.
_PORTS = {"ipv4": (68, 67), "ipv6": (546, 547)}
# Where a client asks that has heard nothing of its server for a while (RFC 2131), or that asks at all (RFC 8415).
_ALL_SERVERS = {"ipv4": "255.255.255.255", "ipv6": "ff02::1:2"}
_LINK_LOCAL = "fe80::1"
# What nobody can tell of a renewal: who the client runs as, and in IPv4 which server it asks.
_UNKNOWN = {
    "ipv4": ("uid_owner", "gid_owner", "cgroup", "destination", "destination_type"),
    "ipv6": ("uid_owner", "gid_owner", "cgroup"),
}


@dataclass(frozen=True)
class Address:
    """An address of this host, as an integer, with the length of its prefix; ``ends``: it goes if nobody renews it."""

    family: str
    value: int
    length: int
    interface: str
    ends: bool

    @property
    def is_leased(self) -> bool:
        """Whether it comes by DHCP.

        In IPv6 routers lend addresses, too, out of a prefix that is on the link; DHCP knows of no prefix.
        """
        return self.ends and (self.family == "ipv4" or self.length == 128)


def check_leases(ruleset: Ruleset, addresses: Iterable[Address], now: float) -> None:
    """Raise ``LockoutError`` if an address that DHCP lent this host could not be renewed under the rules."""
    for address in addresses:
        if address.is_leased:
            verdicts = _verdicts(ruleset, address, now)
            if all(verdict.action != "accept" for verdict in verdicts):
                raise _lost(address, verdicts[0])


def _verdicts(ruleset: Ruleset, address: Address, now: float) -> Tuple[Verdict, ...]:
    """Return what may become of a renewal as it leaves."""
    client, server = _PORTS[address.family]
    source = address_text(address.value, "ipv4") if address.family == "ipv4" else _LINK_LOCAL
    renewal = Packet.between(
        source,
        _ALL_SERVERS[address.family],
        chain="output",
        protocol="udp",
        source_port=client,
        destination_port=server,
        out_interface=address.interface,
        source_type="local",
        destination_type="broadcast" if address.family == "ipv4" else "multicast",
        time=now,
    )
    unknown = _UNKNOWN[address.family]
    rules = Ruleset(
        tuple(replace(chain, rules=tuple(without(rule, unknown) for rule in chain.rules)) for chain in ruleset.chains)
    )
    return evaluate(rules, renewal, either).verdicts


def _lost(address: Address, verdict: Verdict) -> LockoutError:
    client, server = _PORTS[address.family]
    decided = f"the rule {verdict.rule!r}" if verdict.rule else "the default"
    return LockoutError(
        "guard",
        f"the address {address_text(address.value, address.family)} of {address.interface} is leased by DHCP, and what "
        f"renews it (udp from port {client} to {server}, by {address.interface}) would meet a {verdict.action} by "
        f"{decided} of the chain {verdict.chain}: the host would lose it when the lease ends",
        f"grant it, as with egress_firewall_allow__<group or host>: [{{service: dhcp, to: any, interface: "
        f"{address.interface}}}], or set guard: false if the host can do without that address",
    )
