# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nft is told for each option of a rule, and that no text of a user's becomes part of its language."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from property.strategies import PlainRuleset, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import UnsupportedError
from ansible_collections.palisade.egress.plugins.module_utils._model import Chain, Rule
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import (
    all_rules,
    chain_definition,
    render_rule,
)
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import make_script

Plain = dict[str, Any]

WEB: Plain = {"name": "web", "chain": "output", "action": "accept"}
TCP: Plain = {"protocol": "tcp"}
DOZEN = [f"198.51.100.{2 * number}" for number in range(12)]
TWELVE = ", ".join(DOZEN)
BRANCHES = dict.fromkeys(DOZEN, "own")
JUMPS = ", ".join(f"{address} : jump own/own" for address in DOZEN)

# Options, and the lines; COUNT stands for the counter, and the comment of each line is left out.
LINES: list[tuple[Plain, list[str]]] = [
    ({}, ["COUNT accept"]),
    ({"action": "drop"}, ["COUNT drop"]),
    ({"action": "reject"}, ["COUNT reject with icmpx port-unreachable"]),
    ({"action": "reject", "reject_with": "icmp-admin-prohibited"}, ["COUNT reject with icmpx admin-prohibited"]),
    ({**TCP, "action": "reject", "reject_with": "tcp-reset"}, ["meta l4proto 6 COUNT reject with tcp reset"]),
    ({"action": "log", "log": {"prefix": "x "}}, ['COUNT log prefix "x "']),
    ({"action": "jump", "target": "own"}, ["COUNT jump own/own"]),
    (
        {"action": "dispatch", "dispatch": {"source": {"198.51.100.1": "own", "2001:db8::/64": "own"}}},
        [
            "meta nfproto ipv4 COUNT ip saddr vmap { 198.51.100.1 : jump own/own }",
            "meta nfproto ipv6 COUNT ip6 saddr vmap { 2001:db8::/64 : jump own/own }",
        ],
    ),
    ({"family": "ipv4"}, ["meta nfproto ipv4 COUNT accept"]),
    ({"family": "ipv6", "protocol": "udp"}, ["meta nfproto ipv6 meta l4proto 17 COUNT accept"]),
    ({**TCP}, ["meta l4proto 6 COUNT accept"]),
    ({"protocol": 200}, ["meta l4proto 200 COUNT accept"]),
    ({"protocol": "icmp"}, ["meta nfproto ipv4 meta l4proto 1 COUNT accept"]),
    ({"source": ["198.51.100.1"]}, ["ip saddr 198.51.100.1 COUNT accept"]),
    (
        {"source": ["198.51.100.0/24", "198.51.101.5"], "destination": ["203.0.113.0/24"]},
        ["ip saddr { 198.51.100.0/24, 198.51.101.5 } ip daddr 203.0.113.0/24 COUNT accept"],
    ),
    (
        {"source": ["198.51.100.1", "2001:db8::1"]},
        ["ip saddr 198.51.100.1 COUNT accept", "ip6 saddr 2001:db8::1 COUNT accept"],
    ),
    ({"source": ["198.51.100.1", "::/0"]}, ["ip saddr 198.51.100.1 COUNT accept", "meta nfproto ipv6 COUNT accept"]),
    ({"source": ["198.51.100.0/25", "198.51.100.128/26"]}, ["ip saddr 198.51.100.0-198.51.100.191 COUNT accept"]),
    (
        {"destination": DOZEN},
        [
            f"add set T output/web/to4 {{ type ipv4_addr; flags interval; elements = {{ {TWELVE} }}; }}",
            "ip daddr @output/web/to4 COUNT accept",
        ],
    ),
    ({"source_type": "not:local"}, ["fib saddr type != local COUNT accept"]),
    ({"destination_type": "multicast"}, ["fib daddr type multicast COUNT accept"]),
    ({"chain": "input", "reverse_path": "strict"}, ["fib saddr . iif oif missing COUNT accept"]),
    ({"chain": "prerouting", "reverse_path": "loose"}, ["fib saddr oif missing COUNT accept"]),
    ({**TCP, "destination_ports": [443]}, ["tcp dport 443 COUNT accept"]),
    (
        {**TCP, "source_ports": ["1024-65535"], "destination_ports": [80, 443, "8000-8010"]},
        ["tcp sport 1024-65535 tcp dport { 80, 443, 8000-8010 } COUNT accept"],
    ),
    ({**TCP, "tcp_flags": {"mask": ["syn", "ack"], "set": ["syn"]}}, ["tcp flags & (ack|syn) == syn COUNT accept"]),
    ({**TCP, "tcp_flags": {"mask": ["syn"]}}, ["tcp flags & (syn) == 0 COUNT accept"]),
    (
        {**TCP, "tcp_flags": {"mask": ["fin", "syn"], "set": ["fin", "syn"]}},
        ["tcp flags & (fin|syn) == (fin|syn) COUNT accept"],
    ),
    ({"protocol": "icmp", "icmp_type": ["echo-request"]}, ["icmp type 8 COUNT accept"]),
    ({"protocol": "icmpv6", "icmp_type": [200, "packet-too-big"]}, ["icmpv6 type { 200, 2 } COUNT accept"]),
    ({"chain": "input", "in_interface": ["lo"]}, ['iifname "lo" COUNT accept']),
    ({"out_interface": ["eth0", "eth1"]}, ['oifname { "eth0", "eth1" } COUNT accept']),
    ({"ctstate": ["new"]}, ["ct state new COUNT accept"]),
    ({"ctstate": ["established", "related"]}, ["ct state established,related COUNT accept"]),
    ({"ct_direction": "reply"}, ["ct direction reply COUNT accept"]),
    ({"uid_owner": [0]}, ["meta skuid 0 COUNT accept"]),
    ({"gid_owner": [5, "7"]}, ["meta skgid { 5, 7 } COUNT accept"]),
    ({"limit": {"rate": "20/second"}}, ["limit rate 20/second burst 5 packets COUNT accept"]),
    (
        {"limit": {"rate": "20/hour", "burst": 40, "mode": "over"}},
        ["limit rate over 20/hour burst 40 packets COUNT accept"],
    ),
    (
        {"limit": {"rate": "20/second", "per": "source"}},
        [
            "add set T output/web/rate4 { type ipv4_addr; size 65535; flags dynamic; timeout 60s; }",
            "add set T output/web/rate6 { type ipv6_addr; size 65535; flags dynamic; timeout 60s; }",
            "meta nfproto ipv4 update @output/web/rate4 { ip saddr limit rate 20/second burst 5 packets } COUNT accept",
            "meta nfproto ipv6 update @output/web/rate6 "
            "{ ip6 saddr limit rate 20/second burst 5 packets } COUNT accept",
        ],
    ),
    (
        {"family": "ipv6", "limit": {"rate": "2/day", "per": "destination", "mode": "over"}},
        [
            "add set T output/web/rate6 { type ipv6_addr; size 65535; flags dynamic; timeout 216000s; }",
            "meta nfproto ipv6 update @output/web/rate6 "
            "{ ip6 daddr limit rate over 2/day burst 5 packets } COUNT accept",
        ],
    ),
    ({"log": {"prefix": "egress "}}, ['COUNT log prefix "egress " accept']),
    ({"action": "drop", "log": {"prefix": "egress ", "group": 5}}, ['COUNT log prefix "egress " group 5 drop']),
    (
        {"log": {"prefix": "e", "rate": "10/minute"}},
        ['limit rate 10/minute burst 5 packets log prefix "e"', "COUNT accept"],
    ),
    ({"expires": "2027-01-31T00:00:00Z"}, ['meta time < "2027-01-31 00:00:00" COUNT accept']),
]

DEFAULTS: list[tuple[str, Plain, str, list[str]]] = [
    ("output", {}, "priority 0; policy accept;", []),
    ("output", {"default": "drop"}, "priority 0; policy drop;", ["COUNT drop"]),
    ("forward", {"default": "reject"}, "priority 0; policy drop;", ["COUNT reject with icmpx port-unreachable"]),
    ("input", {"default": "reject", "reject_with": "icmp-net-unreachable", "priority": -5}, "priority -5; policy drop;",
     ["COUNT reject with icmpx no-route"]),
    ("output", {"default": "reject", "reject_with": "tcp-reset"}, "priority 0; policy drop;",
     ["meta l4proto 6 COUNT reject with tcp reset", "COUNT reject with icmpx port-unreachable"]),
    ("prerouting", {"priority": "mangle"}, "priority -150; policy accept;", []),
    ("prerouting", {}, "priority -300; policy accept;", []),
]  # fmt: skip

# Names that would be something else to nft if they got out of their quotes.
NASTY = [
    "} drop", "a; flush ruleset", "$(reboot)", "`reboot`", "a#b", "@set", "{{ name }}", "%s %d", "accept", "0x10", "-j",
    "!*?[]<>|&~^", "a" * 125, "../../etc", "'quoted'", "comment 'x' accept", "in/out:1,2=3+4",
]  # fmt: skip


def chain_of(rule: Plain) -> Chain:
    chain = decode([rule, {**WEB, "name": "x", "action": "jump", "target": "own"}], {"own": {}}).chain("output")
    assert chain
    return chain


def lines_of(rule: Rule) -> list[str]:
    """Return the lines of a rule without what all of them have."""
    rendered = render_rule(rule)
    return [re.sub(r' comment "[^"]*"$', "", line.replace(f'counter name "{rendered.counter}"', "COUNT"))
            for line in rendered.lines]  # fmt: skip


def test_every_option_is_here() -> None:
    tested = {option for options, _lines in LINES for option in options}
    by_other_tests = {"name", "comment", "cgroup"}
    assert {field.name for field in fields(Rule)} - by_other_tests == tested | {"chain"}


@pytest.mark.parametrize("case", LINES, ids=str)
def test_lines(case: tuple[Plain, list[str]]) -> None:
    options, expected = case
    jump = {**WEB, "name": "to own", "action": "jump", "target": "own"}
    rules = [{**WEB, **options}, jump]
    ruleset = decode(rules, {"own": {}})
    chain = ruleset.chain(options.get("chain", "output"))
    assert chain
    sets = [command.text.replace("inet palisade_egress", "T") for command in make_script(None, ruleset)
            if command.text.startswith(("add set", "add map", "add element"))]  # fmt: skip
    assert sets + lines_of(chain.rules[0]) == expected


@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_defaults(case: tuple[str, Plain, str, list[str]]) -> None:
    name, options, definition, tail = case
    chain = decode([], {name: options}).chain(name)
    assert chain
    assert chain_definition(chain) == f"{name} {{ type filter hook {name} {definition} }}"
    assert [line for rule in all_rules(chain) for line in lines_of(rule)] == tail


@pytest.mark.parametrize("name", NASTY)
def test_a_name_stays_a_name(name: str) -> None:
    (line,) = render_rule(chain_of({**WEB, "name": name}).rules[0]).lines
    assert re.fullmatch(r'counter name "output/[A-Za-z0-9_./-]{1,99}" accept comment "[^"]*"', line)
    assert line.endswith(f' comment "{name}"')


def test_names_that_look_alike_count_apart() -> None:
    names = ["a b", "a_b", "a.b", "a;b", "a" * 100, "a" * 101]
    rules = decode([{**WEB, "name": name} for name in names], {}).chains[0].rules
    assert len({render_rule(rule).counter for rule in rules}) == len(names)


@settings(max_examples=60)
@given(rulesets(max_rules=2))
def test_only_quotes_hold_what_users_write_freely(ruleset: PlainRuleset) -> None:
    wanted = decode(*ruleset)
    free = [text for rule in ruleset[0] for text in (rule.get("comment"), rule.get("log", {}).get("prefix")) if text]
    for command in make_script(None, wanted):
        assert command.text.isprintable()
        assert command.text.count('"') % 2 == 0
        bare = re.sub(r'"[^"]*"', '""', command.text)
        assert re.fullmatch(r"[A-Za-z0-9 _./:,;@{}()<=!|&\"-]*", bare)
        assert not any(len(text) > 20 and text in bare for text in free)


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("cgroup", {"cgroup": ["system.slice"]}),
        ("log.rate", {"limit": {"rate": "5/second"}, "log": {"prefix": "x", "rate": "5/second"}}),
    ],
)
def test_what_nft_cannot_carry_is_refused(option: str, options: Plain) -> None:
    with pytest.raises(UnsupportedError) as caught:
        render_rule(chain_of({**WEB, **options}).rules[0])
    assert caught.value.where == f"rule 'web' in output.{option}"
