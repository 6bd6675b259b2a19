# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python tests/bench/fleet.py HOSTS FOLDER` writes an inventory of so many hosts.

For every 50 hosts there is a group with 15 grants and two forbids. Five of its grants name groups of 50, 100, 150 and
200 hosts. Each host is in one group that grants, or, by `--roles 3`, in three, so that hardly two are alike.
"""

from __future__ import annotations

import argparse
import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

GROUP = 50
TARGETS = (50, 100, 150, 200)
SERVICES = ("https", "ssh", "postgresql", "redis", "amqp", "ldaps", "smtp", "ntp", "dns", "syslog-tls")
# The networks for benchmarks: whoever measures is not in them, and would be taken for a controller.
IPV4, IPV6 = int(ip_address("198.18.0.0")), int(ip_address("2001:2::"))


def inventory(hosts: int, roles: int = 1) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the YAML inventory as data, and the variables of each group."""
    names = [f"host{number}" for number in range(hosts)]
    count = max(1, hosts // GROUP)
    members: dict[str, list[str]] = {f"role{number}": [] for number in range(count)}
    for number, name in enumerate(names):
        for role in {number // count**power % count for power in range(roles)}:
            members[f"role{role}"].append(name)
    for number in range(count):
        size = min(TARGETS[number % len(TARGETS)], hosts)
        start = number * GROUP % max(1, hosts - size + 1)
        members[f"target{number}"] = names[start : start + size]
    children = {group: {"hosts": dict.fromkeys(inside)} for group, inside in members.items()}
    addresses = {name: {"egress_firewall_addresses": _addresses(number)} for number, name in enumerate(names)}
    variables = {f"role{number}": _variables(number, count) for number in range(count)}
    variables["all"] = {
        "egress_firewall_networks": {
            "resolvers": ["10.255.0.53", "fd00:ff::53"],
            "time_servers": ["10.255.0.123"],
            "mirrors": ["10.255.0.80"],
            "databases": ["group:target0"],
        }
    }
    return {"all": {"hosts": addresses, "children": children}}, variables


def _addresses(number: int) -> list[str]:
    # Every other one, so that no two can be merged.
    return [str(ip_address(IPV4 + 2 * number + 2)), str(ip_address(IPV6 + 2 * number + 2))]


def _variables(number: int, count: int) -> dict[str, Any]:
    named = [{"service": SERVICES[i], "to": f"group:target{(number + i) % count}"} for i in range(5)]
    plain = [
        {"service": service, "to": [f"10.{128 + number % 64}.{i}.0/24", f"fd01:{number:x}:{i:x}::/64"]}
        for i, service in enumerate(SERVICES)
    ]
    forbids = ["ftp", {"name": "x11", "service": {"protocol": "tcp", "ports": ["6000-6010"]}, "to": "internet"}]
    return {
        f"egress_firewall_allow__role{number}": named + plain,
        f"egress_firewall_forbid__role{number}": forbids,
    }


def write(hosts: int, folder: Path, roles: int = 1) -> Path:
    """Write the inventory into a folder, as YAML as far as JSON is YAML, and return it."""
    data, group_vars = inventory(hosts, roles)
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(json.dumps(data, indent=1), encoding="utf-8")
    for group, variables in group_vars.items():
        (folder / "group_vars" / f"{group}.yml").write_text(json.dumps(variables, indent=1), encoding="utf-8")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--roles", type=int, default=1)
    given = parser.parse_args()
    write(given.hosts, given.folder, given.roles)
