# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules under which a host would lose an address that DHCP lent it are refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import LockoutError
from ansible_collections.palisade.egress.plugins.module_utils._leases import Address, check_leases
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_network

NOW = 1_800_000_000
DROP = {"output": {"default": "drop"}}
DHCP4 = {
    "name": "dhcp4", "chain": "output", "action": "accept", "family": "ipv4", "protocol": "udp",
    "source_ports": ["68"], "destination_ports": ["67"],
}  # fmt: skip
DHCP6 = {**DHCP4, "name": "dhcp6", "family": "ipv6", "source_ports": ["546"], "destination_ports": ["547"]}
ANY = {"name": "any", "chain": "output", "action": "accept"}


def address(text: str, *, ends: bool = True) -> Address:
    """Return an address of eth0, from text with the length of its prefix."""
    plain, _slash, length = text.partition("/")
    value = parse_network(plain)[1][0]
    return Address("ipv6" if ":" in plain else "ipv4", value, int(length), "eth0", ends)


LEASED4, LEASED6 = address("198.51.100.20/24"), address("2001:db8:1::20/128")


def check(rules: list[dict[str, Any]], *addresses: Address, **chains: Any) -> None:
    check_leases(decode(rules, chains or DROP), addresses, NOW)


LOST: dict[str, tuple[list[dict[str, Any]], Address]] = {
    "no rule": ([], LEASED4),
    "no rule, IPv6": ([], LEASED6),
    "the other family": ([DHCP6], LEASED4),
    "the other family, IPv6": ([DHCP4], LEASED6),
    "another interface": ([{**DHCP4, "out_interface": ["eth1"]}], LEASED4),
    "other ports": ([{**DHCP4, "source_ports": ["1024-65535"]}], LEASED4),
    "TCP": ([{**DHCP4, "protocol": "tcp"}], LEASED4),
    "established only": ([{**DHCP4, "ctstate": ["established"]}], LEASED4),
    "expired": ([{**DHCP4, "expires": "2020-01-01T00:00:00Z"}], LEASED4),
    "before there is an address": ([{**DHCP4, "source": ["0.0.0.0"]}], LEASED4),
    "one server, where all are asked": ([{**DHCP6, "destination": ["2001:db8:1::1"]}], LEASED6),
    "forbidden": ([{**ANY, "name": "no", "action": "drop", "protocol": "udp"}, ANY], LEASED4),
}
KEPT: dict[str, tuple[list[dict[str, Any]], Address]] = {
    "granted": ([DHCP4], LEASED4),
    "granted, IPv6": ([DHCP6], LEASED6),
    "on its interface": ([{**DHCP4, "out_interface": ["eth0", "eth1"]}], LEASED4),
    "to a server": ([{**DHCP4, "destination": ["198.51.100.1"]}], LEASED4),
    "to all servers": ([{**DHCP6, "destination": ["ff02::1:2"]}], LEASED6),
    "to a user that nobody can tell": ([{**DHCP4, "uid_owner": ["0"]}], LEASED4),
    "anything": ([ANY], LEASED4),
    "forbidden elsewhere": ([{**ANY, "name": "no", "action": "drop", "destination": ["203.0.113.0/24"]}, ANY], LEASED4),
    "a permanent address": ([], address("198.51.100.20/24", ends=False)),
    "a permanent address, IPv6": ([], address("2001:db8:1::20/128", ends=False)),
    "an address by a router's advertisement": ([], address("2001:db8:1::20/64")),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_refused(case: str) -> None:
    rules, lease = LOST[case]
    with pytest.raises(LockoutError, match="is leased by DHCP"):
        check(rules, lease)


@pytest.mark.parametrize("case", KEPT)
def test_what_is_not(case: str) -> None:
    rules, lease = KEPT[case]
    check(rules, lease)


def test_a_host_whose_output_nobody_judges_keeps_its_addresses() -> None:
    check([], LEASED4, LEASED6, output={"default": "accept"})
    check([], LEASED4, LEASED6, input={"default": "drop"})


def test_each_address_counts_and_the_error_tells_what_to_grant() -> None:
    with pytest.raises(LockoutError) as caught:
        check([DHCP4], LEASED4, LEASED6)
    assert str(caught.value) == (
        "guard: the address 2001:db8:1::20 of eth0 is leased by DHCP, and what renews it (udp from port 546 to 547, by "
        "eth0) would meet a drop by the default of the chain output: the host would lose it when the lease ends. Grant "
        "it, as with egress_firewall_allow__<group or host>: [{service: dhcp, to: any, interface: eth0}], or set "
        "guard: false if the host can do without that address."
    )
