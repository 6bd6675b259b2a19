# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spellings that mean the same, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._codec import (
    decode,
    encode,
    format_comment,
    parse_comment,
)

Plain = dict[str, Any]

WEB: Plain = {"name": "web", "chain": "output", "action": "accept"}
TCP: Plain = {"protocol": "tcp"}
JUMP: Plain = {"name": "to", "chain": "output", "action": "jump", "target": "own"}

SAME: list[tuple[Plain, Plain]] = [
    ({}, {"family": "any"}),
    ({}, {"comment": ""}),
    ({}, {"source": ["0.0.0.0/0", "::/0"]}),
    ({}, {"destination": ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]}),
    ({"family": "ipv4"}, {"source": ["0.0.0.0/0"]}),
    ({"family": "ipv6"}, {"destination": ["::/0"]}),
    ({"source": ["198.51.100.1"]}, {"source": ["198.51.100.1/32"]}),
    ({"source": ["198.51.100.1"]}, {"source": ["198.51.100.1"], "family": "ipv4"}),
    ({"source": ["198.51.100.1", "198.51.100.9"]}, {"source": ["198.51.100.9", "198.51.100.1", "198.51.100.9/32"]}),
    ({"source": ["198.51.100.0/24"]}, {"source": ["198.51.100.128/25", "198.51.100.0/25", "198.51.100.7"]}),
    ({"source": ["10.0.0.0/7"]}, {"source": ["10.0.0.0/8", "11.0.0.0/8"]}),
    ({"source": ["2001:db8::1"]}, {"source": ["2001:0DB8:0:0::0001/128"]}),
    ({"source": ["::ffff:198.51.100.1"]}, {"source": ["::ffff:c633:6401"]}),
    ({"source": ["198.51.100.1"]}, {"source": ["198.51.100.1", "::1"], "destination": ["0.0.0.0/0"]}),
    ({"source": ["198.51.100.1"]}, {"source": ["198.51.100.1"], "destination": ["0.0.0.0/0", "::/0"]}),
    ({"protocol": "tcp"}, {"protocol": 6}),
    ({"protocol": "tcp"}, {"protocol": "6"}),
    ({"protocol": "tcp"}, {"protocol": "006"}),
    ({"protocol": "tcp"}, {"protocol": "tcp", "destination_ports": ["0-65535"]}),
    ({"protocol": "tcp"}, {"protocol": "tcp", "source_ports": ["0-1023", "1024-65535"]}),
    ({"protocol": "icmpv6"}, {"protocol": "ipv6-icmp"}),
    ({"protocol": "icmpv6"}, {"protocol": 58, "family": "ipv6"}),
    ({"protocol": "ipip"}, {"protocol": "ipencap"}),
    ({"protocol": "ospf"}, {"protocol": "ospfigp"}),
    ({"protocol": "ipcomp"}, {"protocol": 108}),
    ({"protocol": "200"}, {"protocol": 200}),
    ({"protocol": "icmp"}, {"protocol": "icmp", "family": "ipv4", "source": ["0.0.0.0/0"]}),
    ({**TCP, "destination_ports": [22]}, {**TCP, "destination_ports": ["22"]}),
    ({**TCP, "destination_ports": [22]}, {**TCP, "destination_ports": ["22-22", 22]}),
    ({**TCP, "destination_ports": ["22-25"]}, {**TCP, "destination_ports": [25, "22", "23-24"]}),
    ({**TCP, "source_ports": ["00022"]}, {**TCP, "source_ports": [22]}),
    ({**TCP, "tcp_flags": {"mask": ["syn", "ack"], "set": ["syn"]}},
     {**TCP, "tcp_flags": {"set": ["syn", "syn"], "mask": ["ack", "syn", "ack"]}}),
    ({"protocol": "icmp", "icmp_type": ["echo-request"]}, {"protocol": "icmp", "icmp_type": [8]}),
    ({"protocol": "icmp", "icmp_type": ["redirect", "200"]}, {"protocol": 1, "icmp_type": ["200", "5", "redirect"]}),
    ({"protocol": "icmpv6", "icmp_type": ["mld-listener-done"]},
     {"protocol": "icmpv6", "icmp_type": ["mld-listener-reduction", 132]}),
    ({"out_interface": ["eth0", "eth1"]}, {"out_interface": ["eth1", "eth0", "eth1"]}),
    ({"out_interface": ["0"]}, {"out_interface": [0]}),
    ({"ctstate": ["new", "related"]}, {"ctstate": ["related", "new", "related"]}),
    ({"uid_owner": ["0", "postfix"]}, {"uid_owner": ["postfix", 0]}),
    ({"gid_owner": ["7"]}, {"gid_owner": ["007", 7]}),
    ({"limit": {"rate": "5/second"}},
     {"limit": {"rate": "05/second", "burst": 5, "per": "none", "mode": "under"}}),
    ({"action": "reject"}, {"action": "reject", "reject_with": "icmp-port-unreachable"}),
    ({"action": "dispatch", "dispatch": {"source": {"198.51.100.0/24": "own"}}},
     {"action": "dispatch", "dispatch": {"source": {"198.51.100.128/25": "own", "198.51.100.0/25": "own"}}}),
    ({"action": "dispatch", "dispatch": {"source": {"198.51.100.1": "own"}}},
     {"action": "dispatch", "dispatch": {"source": {"198.51.100.1/32": "own"}}, "family": "ipv4"}),
]  # fmt: skip

SAME_CHAINS: list[tuple[dict[str, Plain], dict[str, Plain]]] = [
    ({}, {"output": {}}),
    ({}, {"output": {"default": "accept"}}),
    ({}, {"output": {"priority": "filter"}}),
    ({}, {"output": {"priority": 0}}),
    ({}, {"own": {}}),
    ({"input": {"priority": -150}}, {"input": {"priority": "mangle"}}),
    ({"input": {"priority": 50}}, {"input": {"priority": "security"}}),
    ({"prerouting": {}}, {"prerouting": {"priority": "raw", "default": "accept"}}),
    ({"input": {"default": "reject"}}, {"input": {"default": "reject", "reject_with": "icmp-port-unreachable"}}),
    ({"forward": {}, "input": {}}, {"input": {}, "forward": {}}),
]


@pytest.mark.parametrize("case", SAME, ids=str)
def test_rules(case: tuple[Plain, Plain]) -> None:
    one, other = ([JUMP, {**WEB, **options}, {**WEB, "chain": "own"}] for options in case)
    assert decode(one, {}) == decode(other, {})
    assert encode(decode(one, {})) == encode(decode(other, {}))


@pytest.mark.parametrize("case", SAME_CHAINS, ids=str)
def test_chains(case: tuple[dict[str, Plain], dict[str, Plain]]) -> None:
    one, other = case
    rules = [WEB, JUMP, {**WEB, "chain": "own"}]
    assert decode(rules, one) == decode(rules, other)


DIFFERENT: list[tuple[Plain, Plain]] = [
    ({}, {"family": "ipv4"}),
    ({}, {"name": "Web"}),
    ({}, {"action": "drop"}),
    ({}, {"comment": "x"}),
    ({"source": ["198.51.100.1"]}, {"destination": ["198.51.100.1"]}),
    ({"source": ["0.0.0.0/0"]}, {"source": ["0.0.0.0/1"]}),
    ({"source": ["198.51.100.1"]}, {"source": ["198.51.100.1", "::/0"]}),
    ({"protocol": "tcp"}, {"protocol": "udp"}),
    ({**TCP, "source_ports": [22]}, {**TCP, "destination_ports": [22]}),
    ({"source_type": "local"}, {"source_type": "not:local"}),
    ({"source": ["198.51.100.1", "::/0"]}, {}),
    ({"destination": ["0.0.0.0/0", "2001:db8::/32"]}, {}),
    ({"log": {"prefix": "x"}}, {"log": {"prefix": "x", "group": 0}}),
    ({"log": {"prefix": "x"}}, {"log": {"prefix": "x", "rate": "5/second"}}),
    ({"limit": {"rate": "60/minute"}}, {"limit": {"rate": "1/second"}}),
]


@pytest.mark.parametrize("case", DIFFERENT, ids=str)
def test_rules_that_differ(case: tuple[Plain, Plain]) -> None:
    one, other = ([{**WEB, **options}] for options in case)
    assert decode(one, {}) != decode(other, {})


def test_chains_come_in_the_order_of_the_hooks() -> None:
    rules = [JUMP, {**WEB, "chain": "own"}, {**WEB, "chain": "input"}, {**JUMP, "target": "a", "name": "x"}]
    ruleset = decode(rules, {"a": {}, "prerouting": {}, "forward": {}})
    assert [chain.name for chain in ruleset.chains] == ["prerouting", "input", "forward", "output", "a", "own"]
    assert decode(rules[::-1], {"forward": {}, "prerouting": {}, "a": {}}).chains[0] == ruleset.chains[0]


@pytest.mark.parametrize(
    ("name", "comment"), [("web", ""), ("web", "why"), ("web", "#"), ("a#b", "# x"), ("x #y", "#")]
)
def test_one_comment_holds_name_and_comment(name: str, comment: str) -> None:
    ((rule,),) = [chain.rules for chain in decode([{**WEB, "name": name, "comment": comment}], {}).chains]
    assert parse_comment(format_comment(rule)) == (name, comment)
