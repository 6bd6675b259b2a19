# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small inventory that compiles, for tests to change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._report import policies

# When all of this is compiled, so that what expires does so for ever.
NOW = parse_time("2026-06-01T00:00:00Z")

GROUPS: dict[str, list[str]] = {
    "mail": ["mail1"],
    "web": ["web1", "web2"],
    "database": ["db1"],
    "web-eu": ["web2"],
    "app-x": ["web1"],
    "app_x": ["db1"],
    "office": ["printer1"],
    "nobody": [],
}
ADDRESSES = {
    "mail1": ["198.51.100.10", "2001:db8:1::10"],
    "web1": ["198.51.100.11", "2001:db8:1::11"],
    "web2": ["198.51.100.12"],
    "db1": ["198.51.100.13", "2001:db8:1::13"],
    "ns1": ["198.51.100.53", "2001:db8:1::53"],
}
HOSTS = (*ADDRESSES, "printer1")
NETWORKS = {
    "resolvers": ["host:ns1"],
    "time_servers": [],
    "relays": ["203.0.113.25"],
    "databases": "group:database",
}


def site() -> dict[str, dict[str, Any]]:
    """Return the variables of all hosts."""
    hostvars: dict[str, dict[str, Any]] = {
        host: {"egress_firewall_addresses": list(addresses), "egress_firewall_networks": deepcopy(NETWORKS)}
        for host, addresses in ADDRESSES.items()
    }
    hostvars["printer1"] = {"egress_firewall_managed": False, "egress_firewall_networks": deepcopy(NETWORKS)}
    return hostvars


def members(target: str) -> list[str]:
    """Return the hosts of a group, of ``all``, or the host itself."""
    return list(HOSTS) if target == "all" else GROUPS.get(target, [target])


def changed(
    target: str,
    variables: dict[str, Any],
    groups: dict[str, list[str]] | None = None,
    more: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the policies of the site with these variables of ``target``, and ``more`` of other hosts."""
    hostvars = site()
    for host, values in (more or {}).items():
        hostvars[host].update(deepcopy(values))
    for host in members(target):
        hostvars[host].update(deepcopy(variables))
    return policies(Inventory(hostvars, {"all": list(HOSTS), **GROUPS, **(groups or {})}), NOW)
