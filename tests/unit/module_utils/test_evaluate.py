# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Truth tables of the evaluator: a line is what must come of a packet, and the packet."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils import _evaluate
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import (
    Packet,
    Verdict,
    either,
    evaluate,
    follow,
    met,
    missed,
)
from ansible_collections.palisade.egress.plugins.module_utils._model import Rule
from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError

Plain = dict[str, Any]

WEB = "198.51.100.10"
MAIL = "198.51.100.25"
RESOLVER = "198.51.100.53"
AWAY = "203.0.113.9"
WEB6 = "2001:db8:1::10"
AWAY6 = "2001:db8:2::9"


def packet(protocol: str, source: str, destination: str, port: int | None = None, **others: Any) -> Packet:
    """Return a packet, in the output chain unless others say otherwise."""
    return Packet.between(
        source, destination, **{"chain": "output", "protocol": protocol, "destination_port": port, **others}
    )


# --- a host's policy, line by line ---

HOST: list[Plain] = [
    {"name": "loopback", "chain": "output", "action": "accept", "out_interface": ["lo"]},
    {"name": "spoofed", "chain": "output", "action": "drop", "source_type": "not:local",
     "destination_type": "not:multicast"},
    {"name": "established", "chain": "output", "action": "accept", "ctstate": ["established"]},
    {"name": "errors", "chain": "output", "action": "accept", "protocol": "icmp", "ctstate": ["related"]},
    {"name": "invalid", "chain": "output", "action": "drop", "ctstate": ["invalid"]},
    {"name": "web/smtp", "chain": "output", "action": "reject", "protocol": "tcp", "destination_ports": ["25"],
     "reject_with": "icmp-admin-prohibited"},
    {"name": "dns", "chain": "output", "action": "accept", "protocol": "udp", "destination_ports": ["53"],
     "destination": [f"{RESOLVER}/32"]},
    {"name": "https", "chain": "output", "action": "accept", "protocol": "tcp",
     "destination_ports": ["443", "8000-8010"], "destination": ["203.0.113.0/28", "2001:db8:2::/64"]},
    {"name": "mailer", "chain": "output", "action": "accept", "protocol": "tcp", "destination_ports": ["587"],
     "uid_owner": [101], "expires": "2027-01-31T00:00:00Z"},
    {"name": "log", "chain": "output", "action": "log", "log": {"prefix": "egress", "group": 5, "rate": "1/second"}},
]  # fmt: skip
ENDS = {"output": {"default": "reject"}}
DAY = 1801353600  # 2027-01-31T00:00:00Z

# verdict, rule | protocol, source, destination, port | the rest of the packet
HOST_TABLE = [
    ("accept", "https", "tcp", WEB, AWAY, 443, {}),
    ("accept", "https", "tcp", WEB, AWAY, 8000, {}),
    ("accept", "https", "tcp", WEB, AWAY, 8010, {}),
    ("reject", None, "tcp", WEB, AWAY, 7999, {}),
    ("reject", None, "tcp", WEB, AWAY, 8011, {}),
    ("reject", None, "udp", WEB, AWAY, 443, {}),
    ("accept", "https", "tcp", WEB, "203.0.113.0", 443, {}),
    ("accept", "https", "tcp", WEB, "203.0.113.15", 443, {}),
    ("reject", None, "tcp", WEB, "203.0.113.16", 443, {}),
    ("reject", None, "tcp", WEB, "203.0.112.255", 443, {}),
    ("accept", "https", "tcp", WEB6, AWAY6, 443, {}),
    ("accept", "https", "tcp", WEB6, "2001:db8:2::ffff:ffff:ffff:ffff", 443, {}),
    ("reject", None, "tcp", WEB6, "2001:db8:2:1::", 443, {}),
    ("reject", "web/smtp", "tcp", WEB, AWAY, 25, {}),
    ("reject", "web/smtp", "tcp", WEB6, AWAY6, 25, {}),
    ("reject", None, "udp", WEB, AWAY, 25, {}),
    ("accept", "dns", "udp", WEB, RESOLVER, 53, {}),
    ("reject", None, "tcp", WEB, RESOLVER, 53, {}),
    ("reject", None, "udp", WEB, "198.51.100.54", 53, {}),
    # An IPv4 list says nothing of IPv6.
    ("reject", None, "udp", WEB6, AWAY6, 53, {}),
    ("accept", "loopback", "tcp", WEB, WEB, 25, {"out_interface": "lo"}),
    ("drop", "spoofed", "tcp", MAIL, AWAY, 443, {"source_type": "unicast"}),
    ("reject", None, "udp", "0.0.0.0", "224.0.0.251", 5353,
     {"source_type": "broadcast", "destination_type": "multicast"}),
    # What is established stays so, whatever the rules behind say; what is invalid goes before any grant.
    ("accept", "established", "tcp", WEB, AWAY, 25, {"ctstate": "established"}),
    ("drop", "invalid", "tcp", WEB, AWAY, 443, {"ctstate": "invalid"}),
    ("accept", "https", "tcp", WEB, AWAY, 443, {"ctstate": "untracked"}),
    ("accept", "errors", "icmp", WEB, AWAY, None, {"ctstate": "related", "icmp_type": "destination-unreachable"}),
    ("reject", None, "icmpv6", WEB6, AWAY6, None, {"ctstate": "related", "icmp_type": "time-exceeded"}),
    ("accept", "mailer", "tcp", WEB, AWAY, 587, {"uid": "101"}),
    ("accept", "mailer", "tcp", WEB, AWAY, 587, {"uid": "101", "time": DAY - 0.001}),
    ("reject", None, "tcp", WEB, AWAY, 587, {"uid": "101", "time": DAY}),
    ("reject", None, "tcp", WEB, AWAY, 587, {"uid": "1010"}),
    # What the kernel itself sends has no owner.
    ("reject", None, "tcp", WEB, AWAY, 587, {}),
    # A protocol without ports matches no port, not even 0.
    ("reject", None, "253", WEB, AWAY, None, {}),
]  # fmt: skip


@pytest.mark.parametrize(("action", "rule", "protocol", "source", "destination", "port", "rest"), HOST_TABLE)
def test_host(*, action, rule, protocol, source, destination, port, rest) -> None:
    rest = {"source_type": "local", **rest}
    verdict = evaluate(decode(HOST, ENDS), packet(protocol, source, destination, port, **rest)).verdict
    assert (verdict.action, verdict.rule, verdict.chain) == (action, rule, "output")


def test_trace_has_every_rule_that_matched() -> None:
    found = evaluate(decode(HOST, ENDS), packet("udp", WEB, AWAY, 9, source_type="local"))
    assert [rule.name for rule in found.trace] == ["log"]
    assert found.verdict == Verdict("reject", "output", None, "icmp-port-unreachable")


# --- options, one by one ---

# option and value | what the packet has | whether they match
OPTION_TABLE = [
    ({"family": "ipv4"}, {}, True),
    ({"family": "ipv6"}, {}, False),
    ({"protocol": "udp"}, {"protocol": "udp"}, True),
    ({"protocol": 17}, {"protocol": "udp"}, True),
    ({"protocol": "udp"}, {"protocol": "udplite"}, False),
    ({"protocol": 253}, {"protocol": "253"}, True),
    ({"source_type": "local"}, {"source_type": "local"}, True),
    ({"source_type": "local"}, {"source_type": "unicast"}, False),
    ({"source_type": "not:local"}, {"source_type": "local"}, False),
    ({"source_type": "not:local"}, {"source_type": "unicast"}, True),
    ({"destination_type": "broadcast"}, {"destination_type": "broadcast"}, True),
    ({"destination_type": "not:multicast"}, {"destination_type": "multicast"}, False),
    ({"reverse_path": "strict"}, {}, False),
    ({"reverse_path": "strict"}, {"failed_reverse_path": ("strict",)}, True),
    ({"reverse_path": "loose"}, {"failed_reverse_path": ("strict",)}, False),
    ({"reverse_path": "loose"}, {"failed_reverse_path": ("strict", "loose")}, True),
    ({"in_interface": ["eth0", "eth1"]}, {"in_interface": "eth1"}, True),
    ({"in_interface": ["eth1"]}, {"in_interface": "eth10"}, False),
    ({"ctstate": ["new", "related"]}, {"ctstate": "new"}, True),
    ({"ctstate": ["new", "related"]}, {"ctstate": "established"}, False),
    ({"ctstate": ["untracked"]}, {"ctstate": "untracked"}, True),
    ({"ct_direction": "original"}, {}, True),
    ({"ct_direction": "reply"}, {"ct_direction": "reply", "ctstate": "established"}, True),
    ({"ct_direction": "reply"}, {"ct_direction": "original", "ctstate": "established"}, False),
    # An error about a packet of ours goes in the direction of the replies.
    ({"ct_direction": "reply"}, {"ct_direction": "reply", "ctstate": "related"}, True),
    # Without a flow there is no direction, so that neither word matches.
    ({"ct_direction": "original"}, {"ctstate": "invalid"}, False),
    ({"ct_direction": "original"}, {"ctstate": "untracked"}, False),
    ({"ct_direction": "reply"}, {"ctstate": "untracked", "ct_direction": "reply"}, False),
    ({"expires": "1970-01-01T00:00:10Z"}, {"time": 9.9}, True),
    ({"expires": "1970-01-01T00:00:10Z"}, {"time": 10}, False),
    ({"protocol": "tcp", "source_ports": ["0"]}, {"source_port": 0}, True),
    ({"protocol": "tcp", "source_ports": ["1-65535"]}, {"source_port": 0}, False),
    ({"protocol": "tcp", "destination_ports": ["0-65535"]}, {"destination_port": 65535}, True),
    ({"protocol": "icmp", "icmp_type": ["echo-request"]}, {"protocol": "icmp", "icmp_type": "echo-request"}, True),
    ({"protocol": "icmp", "icmp_type": [8]}, {"protocol": "icmp", "icmp_type": "echo-request"}, True),
    ({"protocol": "icmp", "icmp_type": ["echo-request"]}, {"protocol": "icmp", "icmp_type": "echo-reply"}, False),
    # ICMP is of IPv4 even if an IPv6 packet carries its number, and the other way round.
    ({"protocol": "icmpv6"}, {"protocol": "icmpv6"}, False),
    # Of what AH signs over IPv6, rules see nothing, though conntrack does.
    ({"protocol": "ah"}, {"protocol": "ah", "ctstate": "related"}, True),
    ({"protocol": "tcp"}, {"protocol": "ah"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("option", "given", "matches"), OPTION_TABLE)
def test_option(option: Plain, given: Plain, matches: bool) -> None:
    ruleset = decode([{"name": "it", "chain": "input", "action": "drop", **option}], {})
    sent = packet(**{"protocol": "tcp", "source": WEB, "destination": AWAY, "chain": "input", **given})
    verdict = evaluate(ruleset, sent).verdict
    assert verdict == (Verdict("drop", "input", "it") if matches else Verdict("accept", "input"))


# mask, set | flags of the packet | whether they match
FLAG_TABLE = [
    ("syn,ack,rst,fin", "syn", "syn", True),
    ("syn,ack,rst,fin", "syn", "syn,ack", False),
    ("syn,ack,rst,fin", "syn", "syn,urg,psh", True),
    ("syn,ack", "syn,ack", "syn,ack,fin", True),
    ("syn,ack", "syn,ack", "syn", False),
    ("syn,ack", "", "fin", True),
    ("syn,ack", "", "", True),
    ("syn,ack", "", "ack", False),
    ("ack", "ack", "ack,rst", True),
]


@pytest.mark.parametrize(("mask", "wanted", "flags", "matches"), FLAG_TABLE)
def test_tcp_flags(mask: str, wanted: str, flags: str, matches: bool) -> None:
    option = {"mask": mask.split(","), **({"set": wanted.split(",")} if wanted else {})}
    rule = {"name": "it", "chain": "input", "action": "drop", "protocol": "tcp", "tcp_flags": option}
    sent = packet("tcp", WEB, AWAY, 1, chain="input", tcp_flags=tuple(flags.split(",")) if flags else ())
    assert (evaluate(decode([rule], {}), sent).verdict.action == "drop") == matches


@pytest.mark.parametrize(
    ("group", "matches"),
    [("system.slice", True), ("system.slice/a.service", True), ("system.slic", False), ("user.slice", False),
     (None, False)],
)  # fmt: skip
def test_cgroup_holds_what_is_beneath_it(group: str | None, matches: bool) -> None:
    ruleset = decode([{"name": "it", "chain": "output", "action": "drop", "cgroup": ["system.slice"]}], {})
    assert (evaluate(ruleset, packet("tcp", WEB, AWAY, 1, cgroup=group)).verdict.action == "drop") == matches


def test_every_option_that_matches_has_a_matcher() -> None:
    others = {"name", "chain", "action", "target", "dispatch", "family", "limit", "log", "reject_with", "comment"}
    assert set(_evaluate._MATCHERS) == set(PARSERS) - others
    assert {field.name for field in fields(Rule)} == set(PARSERS)


# --- chains of one's own ---

ROUTER: list[Plain] = [
    {"name": "by host", "chain": "forward", "action": "dispatch", "dispatch": {"source": {
        "198.51.100.10/32": "web", "198.51.100.16/28": "mail", "198.51.100.64/32": "web", "2001:db8:1::/64": "web"}}},
    {"name": "unknown", "chain": "forward", "action": "log", "log": {"prefix": "unknown"}},
    {"name": "smtp", "chain": "mail", "action": "jump", "target": "relays", "protocol": "tcp",
     "destination_ports": ["25"]},
    {"name": "rest", "chain": "mail", "action": "drop"},
    {"name": "not ours", "chain": "relays", "action": "return", "destination": ["203.0.113.128/25"]},
    {"name": "deep", "chain": "relays", "action": "jump", "target": "deepest"},
    {"name": "done", "chain": "relays", "action": "accept", "source": ["198.51.100.25/32"]},
    {"name": "test", "chain": "deepest", "action": "reject", "protocol": "tcp", "reject_with": "tcp-reset",
     "destination": ["203.0.113.66/32"]},
    {"name": "https", "chain": "web", "action": "accept", "protocol": "tcp", "destination_ports": ["443"]},
]  # fmt: skip

# verdict, chain, rule | protocol, source, destination, port | the rules that match on the way
ROUTER_TABLE = [
    ("accept", "web", "https", "tcp", WEB, AWAY, 443, "by host,https"),
    ("accept", "web", "https", "tcp", WEB6, AWAY6, 443, "by host,https"),
    ("accept", "web", "https", "tcp", "198.51.100.64", AWAY, 443, "by host,https"),
    # What falls off the end of a chain goes on behind the rule that led there.
    ("drop", "forward", None, "tcp", WEB, AWAY, 80, "by host,unknown"),
    # The dispatch counts for every packet of its families, branch or not.
    ("drop", "forward", None, "tcp", "198.51.100.11", AWAY, 443, "by host,unknown"),
    ("drop", "forward", None, "tcp", "2001:db8:7::7", AWAY6, 443, "by host,unknown"),
    ("drop", "forward", None, "tcp", "198.51.100.15", AWAY, 25, "by host,unknown"),
    ("drop", "mail", "rest", "tcp", "198.51.100.16", AWAY, 443, "by host,rest"),
    ("drop", "mail", "rest", "tcp", "198.51.100.31", AWAY, 443, "by host,rest"),
    ("drop", "forward", None, "tcp", "198.51.100.32", AWAY, 443, "by host,unknown"),
    ("accept", "relays", "done", "tcp", MAIL, AWAY, 25, "by host,smtp,deep,done"),
    ("reject", "deepest", "test", "tcp", MAIL, "203.0.113.66", 25, "by host,smtp,deep,test"),
    # Return goes on behind the jump, not behind the dispatch.
    ("drop", "mail", "rest", "tcp", MAIL, "203.0.113.128", 25, "by host,smtp,not ours,rest"),
    ("drop", "mail", "rest", "tcp", "198.51.100.26", AWAY, 25, "by host,smtp,deep,rest"),
]


@pytest.mark.parametrize(
    ("action", "chain", "rule", "protocol", "source", "destination", "port", "trace"), ROUTER_TABLE
)
def test_router(*, action, chain, rule, protocol, source, destination, port, trace) -> None:
    ruleset = decode(ROUTER, {"forward": {"default": "drop"}})
    found = evaluate(ruleset, packet(protocol, source, destination, port, chain="forward"))
    assert (found.verdict.action, found.verdict.chain, found.verdict.rule) == (action, chain, rule)
    assert [each.name for each in found.trace] == trace.split(",")


def test_a_chain_reached_twice_counts_twice() -> None:
    rules = [
        {"name": "one", "chain": "output", "action": "jump", "target": "own"},
        {"name": "two", "chain": "output", "action": "jump", "target": "own"},
        {"name": "seen", "chain": "own", "action": "log", "log": {"prefix": "x"}},
    ]
    found = evaluate(decode(rules, {}), packet("tcp", WEB, AWAY, 1))
    assert [rule.name for rule in found.trace] == ["one", "seen", "two", "seen"]


# --- defaults ---

# default, reject_with | protocol | verdict, reject_with
DEFAULT_TABLE = [
    (None, None, "tcp", "accept", None),
    ("accept", None, "tcp", "accept", None),
    ("drop", None, "tcp", "drop", None),
    ("reject", None, "tcp", "reject", "icmp-port-unreachable"),
    ("reject", "icmp-host-unreachable", "udp", "reject", "icmp-host-unreachable"),
    # Only TCP can be reset; the rest is told by ICMP.
    ("reject", "tcp-reset", "tcp", "reject", "tcp-reset"),
    ("reject", "tcp-reset", "udp", "reject", "icmp-port-unreachable"),
    ("reject", "tcp-reset", "icmp", "reject", "icmp-port-unreachable"),
]


@pytest.mark.parametrize(("default", "with_", "protocol", "action", "reject_with"), DEFAULT_TABLE)
def test_default(default, with_, protocol, action, reject_with) -> None:
    options = {key: value for key, value in (("default", default), ("reject_with", with_)) if value}
    found = evaluate(decode([], {"output": options}), packet(protocol, WEB, AWAY))
    assert found.verdict == Verdict(action, "output", None, reject_with)
    assert found.trace == ()


def test_a_chain_that_is_not_there_accepts() -> None:
    assert evaluate(decode(HOST, ENDS), packet("tcp", WEB, AWAY, 25, chain="input")).verdict == Verdict(
        "accept", "input"
    )


# --- limits ---


def limited(action: str, **options: Any) -> Plain:
    return {"name": f"limited {action}", "chain": "output", "action": action, "limit": {"rate": "1/second"}, **options}


REST = {"name": "rest", "chain": "output", "action": "drop"}
# rules | oracle | actions that are possible, rules that can match
LIMIT_TABLE = [
    ([limited("accept"), REST], met, "accept", "limited accept"),
    ([limited("accept"), REST], missed, "drop", "rest"),
    ([limited("accept"), REST], either, "accept,drop", "limited accept,rest"),
    ([limited("accept")], either, "accept,accept", "limited accept"),
    ([limited("drop"), REST], either, "drop,drop", "limited drop,rest"),
    ([limited("log", log={"prefix": "x"}), REST], either, "drop", "limited log,rest"),
    ([limited("jump", target="own"), REST, {**REST, "chain": "own", "name": "own", "action": "accept"}], either,
     "accept,drop", "limited jump,own,rest"),
    ([{"name": "jump", "chain": "output", "action": "jump", "target": "own"}, {**limited("return"), "chain": "own"},
      {**REST, "chain": "own", "action": "accept", "name": "own"}, REST], either,
     "accept,drop", "jump,limited return,own,rest"),
    # A limit is not asked where the rest of the rule does not match.
    ([limited("accept", protocol="udp"), REST], either, "drop", "rest"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "limits", "actions", "trace"), LIMIT_TABLE)
def test_limits(rules, limits, actions, trace) -> None:
    found = evaluate(decode(rules, {}), packet("tcp", WEB, AWAY, 1), limits)
    assert [verdict.action for verdict in found.verdicts] == actions.split(",")
    assert [rule.name for rule in found.trace] == trace.split(",")


def test_open_limits_have_no_one_verdict() -> None:
    with pytest.raises(ValueError, match="unpack"):
        _verdict = evaluate(decode([limited("accept"), REST], {}), packet("tcp", WEB, AWAY, 1)).verdict


def test_many_open_limits_take_no_time() -> None:
    rules = [{**limited("log", log={"prefix": "x"}), "name": str(number)} for number in range(200)]
    found = evaluate(decode([*rules, REST], {}), packet("tcp", WEB, AWAY, 1))
    assert (found.verdict.rule, len(found.trace)) == ("rest", 201)


# --- several hooks ---


def test_follow_ends_with_the_first_chain_that_does_not_accept() -> None:
    rules = [
        {"name": "spoofed", "chain": "prerouting", "action": "drop", "reverse_path": "strict"},
        {"name": "seen", "chain": "prerouting", "action": "log", "log": {"prefix": "x"}},
        {"name": "web", "chain": "forward", "action": "accept", "protocol": "tcp", "ctstate": ["new"]},
    ]
    ruleset = decode(rules, {"forward": {"default": "drop"}})

    def way(**others: Any) -> list[Packet]:
        return [packet("tcp", WEB, AWAY, 443, chain=chain, **others) for chain in ("prerouting", "forward")]

    assert follow(ruleset, way()).verdict == Verdict("accept", "forward", "web")
    assert follow(ruleset, way(ctstate="invalid")).verdict == Verdict("drop", "forward")
    spoofed = follow(ruleset, way(failed_reverse_path=("strict",)))
    assert spoofed.verdict == Verdict("drop", "prerouting", "spoofed")
    assert [rule.name for rule in spoofed.trace] == ["spoofed"]


def test_follow_keeps_what_limits_leave_open() -> None:
    rules = [
        {**limited("drop"), "chain": "prerouting"},
        {"name": "all", "chain": "input", "action": "accept"},
    ]
    found = follow(decode(rules, {}), [packet("tcp", WEB, AWAY, 1, chain=chain) for chain in ("prerouting", "input")])
    assert [(verdict.action, verdict.rule) for verdict in found.verdicts] == [
        ("drop", "limited drop"),
        ("accept", "all"),
    ]


# --- what the kernel taught (tests/netns/test_differential.py) ---

# option | what the kernel knows of the packet | whether they match
SURPRISES = [
    # Before conntrack, every packet from the wire is invalid: not new, not untracked, and of no direction.
    ({"chain": "prerouting", "ctstate": ["invalid"]}, {"ctstate": "invalid"}, True),
    ({"chain": "prerouting", "ctstate": ["new"]}, {"ctstate": "invalid"}, False),
    ({"chain": "prerouting", "ct_direction": "original"}, {"ctstate": "invalid"}, False),
    # Neighbour discovery and MLD are untracked, so that a rule for new packets does not let them through.
    ({"chain": "input", "ctstate": ["new", "established", "related"]}, {"ctstate": "untracked"}, False),
    # The router's own address as the source from outside fails both checks, the loose one too.
    ({"chain": "prerouting", "reverse_path": "loose"},
     {"source_type": "local", "failed_reverse_path": ("strict", "loose")}, True),
    # The type of an IPv4 address comes from the table "local" alone: none is ever unreachable, blackhole or prohibit.
    ({"chain": "input", "source_type": "unreachable"}, {"source_type": "unicast"}, False),
    # 0.0.0.0 is a broadcast address, `::` an unreachable one: a source that is "not local" in both families.
    ({"chain": "input", "source_type": "not:local"}, {"source_type": "broadcast"}, True),
    # A host's own broadcasts come back to it in prerouting and input, and pass the reverse path check.
    ({"chain": "prerouting", "reverse_path": "strict"}, {"source_type": "local", "failed_reverse_path": ()}, False),
    # An IPv6 network's own address is anycast on every router that has a route onto the link.
    ({"chain": "forward", "destination_type": "unicast"}, {"destination_type": "anycast"}, False),
    # UDP-Lite from the wire is invalid: conntrack expects UDP's checksum.
    ({"chain": "input", "protocol": "udplite", "ctstate": ["new"]},
     {"protocol": "udplite", "ctstate": "invalid"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("option", "given", "matches"), SURPRISES)
def test_surprise(option: Plain, given: Plain, matches: bool) -> None:
    ruleset = decode([{"name": "it", "action": "drop", **option}], {})
    sent = packet(**{"protocol": "tcp", "source": WEB, "destination": AWAY, "chain": option["chain"], **given})
    assert (evaluate(ruleset, sent).verdict.action == "drop") == matches


def test_a_reset_from_output_needs_the_loopback() -> None:
    """The reset passes the same chain, which resets it in turn, and a reset for a reset is not sent."""
    reject = {"name": "no", "chain": "output", "action": "reject", "protocol": "tcp", "reject_with": "tcp-reset"}
    loopback = {"name": "lo", "chain": "output", "action": "accept", "out_interface": ["lo"]}
    reset = packet("tcp", AWAY, WEB, 40000, tcp_flags=("ack", "rst"), out_interface="lo", ctstate="established")
    assert evaluate(decode([reject], {}), reset).verdict.action == "reject"
    assert evaluate(decode([loopback, reject], {}), reset).verdict.action == "accept"


def test_between_refuses_what_is_no_address() -> None:
    with pytest.raises(BadValueError):
        packet("tcp", "web1", AWAY)
