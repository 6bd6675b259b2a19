# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules in the words of a diff."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._describe import describe

Plain = dict[str, Any]

WEB: Plain = {"name": "web", "chain": "output", "action": "accept"}
TCP: Plain = {"protocol": "tcp"}
HUNDREDS = [f"198.51.{n // 128}.{2 * n % 256}" for n in range(1001)]

LINES: list[tuple[Plain, str]] = [
    ({}, "accept"),
    ({"comment": "why"}, "accept  # why"),
    ({"action": "reject"}, "reject with icmp-port-unreachable"),
    ({"action": "log", "log": {"prefix": "x", "group": 5}}, "log (prefix x, group 5)"),
    ({"action": "drop", "log": {"prefix": "x", "rate": "5/second"}}, "drop log (prefix x, rate 5/second)"),
    ({"action": "jump", "target": "own"}, "jump to chain own"),
    ({"action": "dispatch", "dispatch": {"source": {"198.51.100.1": "own", "2001:db8::/64": "own"}}},
     "dispatch by source 198.51.100.1 to chain own,2001:db8::/64 to chain own"),
    ({"family": "ipv6", "protocol": "udp"}, "accept ipv6 udp"),
    ({"source": ["198.51.100.1", "2001:db8::1"]}, "accept from 198.51.100.1,2001:db8::1"),
    ({"source": ["198.51.100.0/24"], "destination": ["203.0.113.7"]},
     "accept ipv4 from 198.51.100.0/24 to 203.0.113.7"),
    ({"source_type": "not:local", "destination_type": "multicast"}, "accept from type not:local to type multicast"),
    ({"chain": "input", "reverse_path": "strict", "in_interface": ["lo"]}, "accept failing reverse path strict in lo"),
    ({**TCP, "source_ports": ["1024-65535"], "destination_ports": [80, 443]},
     "accept tcp from port 1024-65535 port 80,443"),
    ({**TCP, "tcp_flags": {"mask": ["syn", "ack"], "set": ["syn"]}}, "accept tcp flags (mask ack,syn, set syn)"),
    ({"protocol": "icmp", "icmp_type": [8]}, "accept icmp type echo-request"),
    ({"ctstate": ["new"], "ct_direction": "reply"}, "accept state new direction reply"),
    ({"out_interface": ["eth0"], "uid_owner": [0], "gid_owner": [5, 7]}, "accept out eth0 user 0 group 5,7"),
    ({"limit": {"rate": "5/second"}}, "accept limit (rate 5/second, burst 5, per none, mode under)"),
    ({"expires": "2027-01-31T00:00:00Z"}, "accept until 2027-01-31T00:00:00Z"),
    ({**TCP, "destination_ports": [1, 3, 5, 7, 9, 11, "13-15"]},
     "accept tcp port 7 entries:\n      1\n      3\n      5\n      7\n      9\n      11\n      13-15"),
    ({"source": HUNDREDS}, "accept ipv4 from 1001 entries (sha256 "),
]  # fmt: skip


@pytest.mark.parametrize("case", LINES, ids=str)
def test_rules(case: tuple[Plain, str]) -> None:
    options, expected = case
    rule = {**WEB, **options}
    chain = rule["chain"]
    ruleset = decode([rule, {**WEB, "name": "x", "action": "jump", "target": "own"}], {"own": {}})
    text = describe(ruleset).partition(f"chain {chain}: default accept, priority 0\n")[2]
    assert text.startswith(f"  web: {expected}")
    assert expected.endswith(" ") or text.removeprefix(f"  web: {expected}")[0] == "\n"


def test_chains_and_strays() -> None:
    chains = {"output": {"default": "reject"}, "prerouting": {"default": "drop"}, "own": {}}
    text = describe(decode([{**WEB, "action": "jump", "target": "own"}], chains), ["counter mine"])
    assert text == (
        "chain prerouting: default drop, priority -300\n"
        "chain output: default reject, reject_with icmp-port-unreachable, priority 0\n"
        "  web: jump to chain own\n"
        "chain own: reached by jumps\n"
        "stray: counter mine\n"
    )


def test_long_lists_differ_where_their_elements_do() -> None:
    one, other = (describe(decode([{**WEB, "source": HUNDREDS[n:]}], {})) for n in (0, 0))
    assert one == other
    changed = describe(decode([{**WEB, "source": [*HUNDREDS[1:], "203.0.113.7"]}], {}))
    assert changed != one
    assert len(changed) == len(one)
