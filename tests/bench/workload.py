# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rulesets that are measured."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import make_script

CHAINS = {"output": {"default": "accept"}}


@dataclass(frozen=True)
class Workload:
    """Rules as a user writes them, and how many there are of what counts."""

    name: str
    rules: tuple[dict[str, Any], ...]

    def variables(self) -> dict[str, Any]:
        """Return them as variables of a play."""
        return {"rules": list(self.rules), "chains": CHAINS}

    def script(self) -> str:
        """Return them as nft takes them."""
        return "".join(f"{command.text}\n" for command in make_script(None, decode(list(self.rules), CHAINS)))


def many_rules(count: int) -> Workload:
    """Return so many rules for a network and a port each, which builtin.iptables can express too."""
    return Workload(f"{count:,} rules", tuple(_rule(number) for number in range(count)))


def with_one_change(workload: Workload) -> Workload:
    """Return the same rules, but for a port of the one in the middle."""
    middle = len(workload.rules) // 2
    changed = {**workload.rules[middle], "destination_ports": ["9"]}
    return replace(workload, rules=(*workload.rules[:middle], changed, *workload.rules[middle + 1 :]))


def one_rule(count: int) -> Workload:
    """Return one rule for so many prefixes, three in five of them IPv4, in no order; none can be merged."""
    ipv4 = [f"100.{number >> 15}.{number >> 7 & 255}.{number * 2 & 255}/32" for number in range(count * 3 // 5)]
    ipv6 = [f"2001:db8:{number >> 15:x}:{number * 2 & 65535:x}::/64" for number in range(count - len(ipv4))]
    addresses = ipv4 + ipv6
    random.Random(0).shuffle(addresses)
    rule = {"name": "large", "chain": "output", "action": "accept", "destination": addresses}
    return Workload(f"1 rule, {count:,} addresses", (rule,))


def _rule(number: int) -> dict[str, Any]:
    return {
        "name": f"grant/{number}",
        "chain": "output",
        "action": "accept",
        "protocol": "tcp",
        "destination": [f"10.{number >> 8}.{number & 255}.0/24"],
        "destination_ports": [str(1024 + number)],
    }
