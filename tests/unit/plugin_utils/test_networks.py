# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks: what is in them and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import INTERNET

# address: whether it is in `internet`
INTERNET_CASES = {
    "8.8.8.8": True,
    "9.255.255.255": True,
    "10.0.0.0": False,
    "10.255.255.255": False,
    "11.0.0.0": True,
    "100.64.0.1": False,
    "100.128.0.1": True,
    "127.0.0.1": False,
    "169.254.169.254": False,
    "168.63.129.15": True,
    "168.63.129.16": False,
    "168.63.129.17": True,
    "172.15.0.1": True,
    "172.31.255.255": False,
    "192.0.0.1": False,
    "192.0.0.9": True,
    "192.0.0.10": True,
    "192.0.0.11": False,
    "192.0.0.170": False,
    "192.0.2.1": False,
    "192.31.196.1": True,
    "192.52.193.1": True,
    "192.168.1.1": False,
    "192.175.48.1": True,
    "198.19.0.1": False,
    "198.51.100.1": False,
    "203.0.113.1": False,
    "224.0.0.1": False,
    "240.0.0.1": False,
    "255.255.255.255": False,
    "0.0.0.0": False,
    "::": False,
    "::1": False,
    "::ffff:8.8.8.8": False,
    "100::1": False,
    "2000::1": True,
    "2001::1": False,
    "2001:1::1": True,
    "2001:1::4": False,
    "2001:2::1": False,
    "2001:3::1": True,
    "2001:4:112::1": True,
    "2001:10::1": False,
    "2001:20::1": True,
    "2001:30::1": True,
    "2001:200::1": True,
    "2001:db8::1": False,
    "2620:4f:8000::1": True,
    "2a00::1": True,
    "3fff::1": False,
    "3fff:1000::1": True,
    "5f00::1": False,
    "64:ff9b::8.8.8.8": True,
    "64:ff9b::10.0.0.1": False,
    "64:ff9b::203.0.113.1": False,
    "64:ff9b::168.63.129.16": False,
    "64:ff9b:1::8.8.8.8": False,
    "fc00::1": False,
    "fe80::1": False,
    "ff02::1": False,
}


@pytest.mark.parametrize(("address", "expected"), INTERNET_CASES.items())
def test_internet(address: str, expected: bool) -> None:
    one = parse_addresses([address])
    family = "ipv6" if ":" in address else "ipv4"
    assert contains(INTERNET.of(family), one.of(family)[0][0]) is expected


# expression in a grant's `to` or a definition: the CIDRs it resolves to
EXPRESSIONS = r"""
any                                                      | any
198.51.100.7                                             | 198.51.100.7/32
[198.51.100.0/25, 198.51.100.128/25]                     | 198.51.100.0/24
['2001:db8::/33', '2001:db8:8000::/33']                  | 2001:db8::/32
host:web1                                                | 198.51.100.11/32 2001:db8:1::11/128
group:web                                                | 198.51.100.11/32 198.51.100.12/32 2001:db8:1::11/128
group:web-eu                                             | 198.51.100.12/32
[resolvers, relays]                                      | 198.51.100.53/32 203.0.113.25/32 2001:db8:1::53/128
{include: 198.51.100.0/30, except: 198.51.100.2}         | 198.51.100.0/31 198.51.100.3/32
{include: [group:web, relays], except: [host:web2]}      | 198.51.100.11/32 203.0.113.25/32 2001:db8:1::11/128
{include: databases, except: '::/0'}                     | 198.51.100.13/32
"""


@pytest.mark.parametrize("line", EXPRESSIONS.strip().splitlines())
def test_expression_resolves_to(line: str) -> None:
    expression, expected = (cell.strip() for cell in line.split(" | "))
    site_networks = {
        "resolvers": "host:ns1",
        "time_servers": [],
        "relays": "203.0.113.25",
        "databases": "group:database",
    }
    networks: dict[str, Any] = {**site_networks, "thing": yaml.safe_load(expression)}
    policies = changed("all", {"egress_firewall_networks": networks, "egress_firewall_allow__mail": TO_THING})
    rule = next(rule for rule in policies["mail1"]["rules"] if rule["name"] == "mail/ssh")
    assert " ".join(rule.get("destination", ["any"])) == expected


TO_THING = [{"service": "ssh", "to": "thing"}]
OWN_RESOLVERS = {"egress_firewall_networks__web": {"resolvers": ["192.0.2.53"], "mirrors": "resolvers"}}


def test_redefined_networks_count_for_their_hosts_only() -> None:
    policies = changed("all", OWN_RESOLVERS)
    found = {
        host: {
            r["name"]: r["destination"] for r in policies[host]["rules"] if r["name"] in ("base/dns/udp", "base/http")
        }
        for host in ("web1", "db1")
    }
    assert found == {
        "web1": {"base/dns/udp": ["192.0.2.53/32"], "base/http": ["192.0.2.53/32"]},
        "db1": {"base/dns/udp": ["198.51.100.53/32", "2001:db8:1::53/128"]},
    }


def test_definitions_that_use_a_redefined_network_follow_it() -> None:
    networks = {"resolvers": "host:ns1", "time_servers": "resolvers"}
    policies = changed(
        "all", {"egress_firewall_networks": networks, "egress_firewall_profiles": PLAIN_MAIL, **OWN_RESOLVERS}
    )
    rule = next(rule for rule in policies["web1"]["rules"] if rule["name"] == "base/ntp")
    assert rule["destination"] == ["192.0.2.53/32"]


PLAIN_MAIL = {"mail": {"grants": []}}
