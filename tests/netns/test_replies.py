# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sender really receives for each reply there is, by a rule and by a chain's default, wherever it is stopped."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml
from netns._differential_net import inside
from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._options import REJECTS
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge
from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

Plain = dict[str, Any]

# The host under test stands between two others, and routes.
LEFT, NEAR, FAR, RIGHT = "198.51.100.2", "198.51.100.1", "203.0.113.1", "203.0.113.2"
LEFT6, NEAR6, FAR6, RIGHT6 = "2001:db8:1::2", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:2::2"
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
PATIENCE = 1.5  # seconds: after one of them TCP sends its first segment again
PORT = 7000

# reply | ICMP's type and code, and what the kernel makes of them for the sender: in IPv4, and in IPv6
ICMP = """
icmp-port-unreachable | 3/3 ECONNREFUSED  | 1/4 ECONNREFUSED
icmp-net-unreachable  | 3/0 ENETUNREACH   | 1/0 ENETUNREACH
icmp-host-unreachable | 3/1 EHOSTUNREACH  | 1/3 EHOSTUNREACH
icmp-admin-prohibited | 3/13 EHOSTUNREACH | 1/1 EACCES
"""
TOLD = {
    (reply, family): told
    for reply, *both in ([cell.strip() for cell in line.split("|")] for line in ICMP.strip().splitlines())
    for family, told in zip(("ipv4", "ipv6"), both, strict=True)
}
UNREACHABLE = "icmp-port-unreachable"


class World:
    """The host under test, its neighbours, and what they get when they send."""

    def __init__(self, here: Namespace, left: Namespace, right: Namespace) -> None:
        self.here, self.left, self.right = here, left, right
        self.nftables = Nftables(here.run)
        here.must("ip link set lo up")
        here.must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        # All are to be told, however often.
        here.must("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
        ends = (("left", left, (NEAR, NEAR6), (LEFT, LEFT6)), ("right", right, (FAR, FAR6), (RIGHT, RIGHT6)))
        for side, host, ours, theirs in ends:
            here.must(f"ip link add {side} type veth peer name wire netns {host.name}")
            host.must("ip link set lo up")
            for where, device, addresses in ((here, side, ours), (host, "wire", theirs)):
                where.must(f"ip link set {device} up")
                where.must(f"ip address add {addresses[0]}/24 dev {device}")
                where.must(f"ip address add {addresses[1]}/64 dev {device} nodad")
            for gateway in ours:
                host.must(f"ip route add default via {gateway}")

    def hold(self, rules: list[Plain], chains: Plain) -> None:
        converge(self.nftables, decode(rules, chains), check=False, midstream=False)

    def apply(self, **variables: Any) -> None:
        """Have the host hold what the inventory says."""
        given = {"networks": {"resolvers": [], "time_servers": []}, "addresses": [NEAR, NEAR6, FAR, FAR6], **variables}
        policy = compile_policies({"here": {f"egress_firewall_{key}": value for key, value in given.items()}}, {})
        self.hold(policy["here"]["rules"], policy["here"]["chains"])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(*(stack.enter_context(namespace()) for _ in range(3)))


def told(where: Namespace, protocol: str, to: str, port: int = PORT) -> str:
    """Send something; return the ICMP error that comes back, or ``reset`` without one, and what the sender is told."""
    version = socket.AF_INET6 if ":" in to else socket.AF_INET
    with inside(where.name):
        end = socket.socket(version, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    with end:
        level, option = (socket.IPPROTO_IPV6, 25) if ":" in to else (socket.SOL_IP, 11)  # IPV6_RECVERR, IP_RECVERR
        end.setsockopt(level, option, 1)
        end.settimeout(PATIENCE)
        error = None
        try:
            end.connect((to, port))
            end.send(b"x")
            if protocol == "udp":
                end.recv(9)
        except OSError as caught:
            error = caught.errno
        queued = _queued(end)
        if queued:
            kind, code, error = queued
            return f"{kind}/{code} {errno.errorcode[error]}"
        return "nothing" if error is None or error == errno.EPERM else f"reset {errno.errorcode[error]}"


def _queued(end: socket.socket) -> tuple[int, int, int] | None:
    """Return type, code and errno of the ICMP error that a socket was sent; struct sock_extended_err tells."""
    end.setblocking(False)
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        try:
            _data, ancillary, _flags, _address = end.recvmsg(64, 512, socket.MSG_ERRQUEUE)
        except OSError:
            time.sleep(0.01)
            continue
        number, _origin, kind, code = struct.unpack_from("=IBBB", ancillary[0][2])
        return kind, code, number
    return None


def expected(reply: str, family: str, protocol: str) -> str:
    if reply == "tcp-reset" and protocol == "tcp":
        return "reset ECONNREFUSED"
    return TOLD[UNREACHABLE if reply == "tcp-reset" else reply, family]


def refusing(chain: str, reply: str, way: str, protocol: str) -> tuple[list[Plain], Plain]:
    """Return rules that refuse a protocol in a chain: by a rule, or as nothing else is said about it."""
    discovery = {"name": "nd", "chain": chain, "action": "accept", "protocol": "icmpv6"}
    loopback = {"name": "lo", "chain": "output", "action": "accept", "out_interface": ["lo"]}
    if way == "default":
        return [loopback, discovery], {chain: {"default": "reject", "reject_with": reply}}
    rule = {"name": "no", "chain": chain, "action": "reject", "protocol": protocol, "destination_ports": [PORT]}
    return [loopback, {**rule, "reject_with": reply}], {chain: {"default": "accept"}}


def test_every_reply_is_here() -> None:
    assert {reply for reply, _family in TOLD} | {"tcp-reset"} == set(REJECTS)


@pytest.mark.parametrize("chain", ["output", "input", "forward"])
@pytest.mark.parametrize("way", ["rule", "default"])
@pytest.mark.parametrize("reply", REJECTS)
@FAMILIES
def test_row7_every_reply(world: World, family: str, reply: str, way: str, chain: str) -> None:
    sender = world.here if chain == "output" else world.left
    to = {"input": {"ipv4": NEAR, "ipv6": NEAR6}}.get(chain, {"ipv4": RIGHT, "ipv6": RIGHT6})[family]
    for protocol in ("tcp",) if (reply, way) == ("tcp-reset", "rule") else ("tcp", "udp"):
        world.hold(*refusing(chain, reply, way, protocol))
        assert told(sender, protocol, to) == expected(reply, family, protocol)


def test_without_a_rule_the_other_end_itself_answers_and_a_drop_tells_nothing(world: World) -> None:
    rules = [{"name": "no", "chain": "forward", "action": "drop", "destination": [RIGHT, RIGHT6]}]
    for to, family in ((RIGHT, "ipv4"), (RIGHT6, "ipv6")):
        world.hold([], {})
        assert told(world.left, "tcp", to) == "reset ECONNREFUSED"
        assert told(world.left, "udp", to) == TOLD[UNREACHABLE, family]
        world.hold(rules, {})
        assert told(world.left, "tcp", to) == "nothing"


# What is forbidden on which port, with what of its own.
FORBIDS = {
    7001: {},
    7002: {"verdict": "drop"},
    7003: {"verdict": "reject"},
    7004: {"verdict": "reject", "reject_with": "icmp-host-unreachable"},
    7005: {"verdict": "reject", "reject_with": "tcp-reset"},
}
# What the host says about verdicts | what each port above answers with, and last what nothing is said about
POLICIES = """
{}                                                                   | - - icmp-port-unreachable icmp-host-unreachable tcp-reset -
{default_verdict: reject}                                            | icmp-port-unreachable - icmp-port-unreachable icmp-host-unreachable tcp-reset icmp-port-unreachable
{default_verdict: reject, reject_with: icmp-admin-prohibited}        | icmp-admin-prohibited - icmp-admin-prohibited icmp-host-unreachable tcp-reset icmp-admin-prohibited
{default_verdict: reject, reject_with: tcp-reset}                    | tcp-reset - tcp-reset icmp-host-unreachable tcp-reset tcp-reset
{default_verdict: drop, reject_with: icmp-net-unreachable}           | - - icmp-net-unreachable icmp-host-unreachable tcp-reset -
{default_verdict: reject, reject_with: tcp-reset, log: {protocols: true}} | tcp-reset - tcp-reset icmp-host-unreachable tcp-reset tcp-reset
"""  # noqa: E501


@FAMILIES
@pytest.mark.parametrize(
    ("settings", "replies"), [[c.strip() for c in r.split("|")] for r in POLICIES.split("\n")[1:-1]]
)
def test_row1_verdict_and_reply_are_the_inventory_s(world: World, settings: str, replies: str, family: str) -> None:
    forbids = [
        {"name": f"p{port}", "service": {"protocol": ["tcp", "udp"], "ports": [port]}, **own}
        for port, own in FORBIDS.items()
    ]
    world.apply(forbid__here=forbids, **yaml.safe_load(settings))
    to = {"ipv4": RIGHT, "ipv6": RIGHT6}[family]
    for port, reply in zip([*FORBIDS, 7006], replies.split(), strict=True):
        for protocol in ("tcp", "udp"):
            wanted = "nothing" if reply == "-" else expected(reply, family, protocol)
            assert told(world.here, protocol, to, port) == wanted, (port, protocol)


@FAMILIES
@pytest.mark.parametrize("reply", ["drop", *REJECTS])
def test_row7_closed_input_answers_as_the_inventory_says(world: World, reply: str, family: str) -> None:
    verdict = {"default_verdict": "drop"} if reply == "drop" else {"default_verdict": "reject", "reject_with": reply}
    world.apply(input="closed", **verdict)
    for protocol in ("tcp", "udp"):
        wanted = "nothing" if reply == "drop" else expected(reply, family, protocol)
        assert told(world.left, protocol, {"ipv4": NEAR, "ipv6": NEAR6}[family]) == wanted


@FAMILIES
def test_a_forbid_with_a_waiver_answers_what_is_not_exempt(world: World, family: str) -> None:
    any_port = {"name": "f", "service": "any", "to": ["203.0.113.0/24", "2001:db8:2::/64"]}
    waiver = {
        "forbid": "here/f", "service": {"protocol": "tcp", "ports": [7001]}, "to": [RIGHT, RIGHT6], "reason": "test",
        "owner": "test", "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)),
    }  # fmt: skip
    forbid = {**any_port, "verdict": "reject", "reject_with": "tcp-reset"}
    world.apply(forbid__here=[forbid], waivers__here=[waiver])
    to = {"ipv4": RIGHT, "ipv6": RIGHT6}[family]
    assert told(world.here, "tcp", to, 7000) == "reset ECONNREFUSED"
    assert told(world.here, "udp", to, 7000) == TOLD[UNREACHABLE, family]
    assert told(world.here, "tcp", to, 7001) == "nothing"  # exempt, and not granted: the default drops


def test_what_is_refused_in_audit_passes(world: World) -> None:
    forbid = {"service": {"protocol": "tcp", "ports": [7001]}, "name": "f", "verdict": "reject"}
    for mode, wanted in (("enforce", TOLD[UNREACHABLE, "ipv4"]), ("audit", "reset ECONNREFUSED")):
        world.apply(forbid__here=[forbid], mode=mode)
        assert told(world.here, "tcp", RIGHT, 7001) == wanted
