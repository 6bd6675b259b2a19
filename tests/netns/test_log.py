# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What compiled policies log of real packets, and what audit lets pass: by an NFLOG group, as ulogd2 would read it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.nflog import Log
from netns.test_expiry import FAMILIES, Clock, apply, can_begin, grant, leaves
from netns.test_flows import HERE, THERE, Link, link

__all__ = ["link"]

GROUP = 7
LOG = {"group": GROUP}
FORBID = {"name": "f", **grant("7100-7199"), "to": "any"}
POLICY: dict[str, Any] = {"allow": [grant("7000"), grant("7099-7100")], "forbid__here": [FORBID], "log": LOG}
# One that is granted, one that is forbidden though it is granted, and one about which nothing is said.
GRANTED, FORBIDDEN, OTHER = 7000, 7100, 7200

# Sends datagrams: how many, to where, from where (nothing: as the kernel will).
SEND = """
import socket, sys
count, host, port, source = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
end = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
if source:
    end.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
    end.bind((source, 0))
for _number in range(count):
    try:
        end.sendto(b"x", (host, port))
    except PermissionError:
        pass
"""
# Sends a packet of a protocol: for ICMP one that asks for the time, for TCP one that makes no sense.
SEND_RAW = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[2]))
try:
    end.sendto(bytes([13, 0, 0xF2, 0xFF]) + bytes(16), (sys.argv[1], 0))
except PermissionError:
    pass
"""


@pytest.fixture
def log(link: Link) -> Iterator[Log]:
    """Return the log of the host ``here``."""
    with Log(link.here, GROUP) as opened:
        yield opened


def send(where: Namespace, to: str, port: int, count: int = 1, source: str = "") -> None:
    done = where.run([sys.executable, "-c", SEND, str(count), to, str(port), source])
    assert done.code == 0, done.error


def send_raw(where: Namespace, to: str, protocol: int) -> None:
    done = where.run([sys.executable, "-c", SEND_RAW, to, str(protocol)])
    assert done.code == 0, done.error


def counted(link: Link, rule: str) -> int:
    """Return how many packets the counter of a rule has."""
    listed = json.loads(link.here.must("nft -j list counters table inet palisade_egress"))["nftables"]
    (packets,) = [c["counter"]["packets"] for c in listed if c.get("counter", {}).get("name") == rule]
    return int(packets)


@FAMILIES
def test_what_is_denied_is_logged_and_nothing_else(link: Link, log: Log, here: str, there: str) -> None:
    apply(link, **POLICY)
    assert apply(link, **POLICY)["changed"] is False
    link.connect("granted", there, GRANTED)
    assert log.lines() == []
    for port, prefix in ((FORBIDDEN, "egress drop here/f "), (OTHER, "egress drop output ")):
        link.far(f"listen {port} {there} {port}")
        assert not can_begin(link, there, port)
        assert set(log.lines()) == {prefix}
    send(link.here, there, OTHER)
    assert log.lines() == ["egress drop output "]
    link.connect("in", here, 5432)
    assert link.lives("in")
    assert link.lives("granted")
    assert log.lines() == []


@FAMILIES
def test_a_flood_is_counted_and_hardly_logged(link: Link, log: Log, here: str, there: str) -> None:
    forbid = {"name": "f", "service": {"protocol": "udp", "ports": [FORBIDDEN]}}
    apply(link, [], forbid__here=[forbid], log={**LOG, "rate": "1/second"})
    began = time.monotonic()
    send(link.here, there, FORBIDDEN, 500)
    send(link.here, there, OTHER, 500)
    most = 5 + int(time.monotonic() - began) + 1
    found = Counter(log.lines())
    assert set(found) == {"egress drop here/f ", "egress drop output "}
    assert all(5 <= count <= most for count in found.values())
    for rule in ("forbid/here/f", "always/log", "palisade/default"):
        assert counted(link, f"output/{rule}") == 500


@FAMILIES
def test_audit_logs_and_lets_pass(link: Link, log: Log, here: str, there: str) -> None:
    apply(link, mode="audit", **POLICY)
    assert apply(link, mode="audit", **POLICY)["changed"] is False
    link.connect("granted", there, GRANTED)
    assert log.lines() == []
    for port, prefix in ((FORBIDDEN, "egress audit here/f "), (OTHER, "egress audit output ")):
        link.connect(str(port), there, port)
        assert log.lines() == [prefix]
        assert link.lives(str(port))
        assert log.lines() == []


def test_flows_that_audit_let_begin_end_when_the_policy_is_enforced(link: Link) -> None:
    apply(link, mode="audit", **POLICY)
    for port in (GRANTED, FORBIDDEN, OTHER):
        link.connect(str(port), THERE, port)
    assert apply(link, **POLICY)["flows_ended"] == 2
    assert link.lives(str(GRANTED))
    assert link.is_dead(str(FORBIDDEN))
    assert link.is_dead(str(OTHER))


def test_audit_ends_no_flows(link: Link) -> None:
    apply(link, **POLICY)
    link.connect("granted", THERE, GRANTED)
    assert apply(link, mode="audit", **{**POLICY, "allow": []})["flows_ended"] == 0
    assert link.lives("granted")


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_spoofed_packets_are_dropped_and_logged_in_either_mode(link: Link, log: Log, mode: str) -> None:
    apply(link, mode=mode, **POLICY)
    send(link.here, THERE, OTHER, source="203.0.113.9")
    assert log.lines() == ["egress drop spoofed "]
    assert counted(link, "own/spoofed_output/always/spoofed-source") == 1


@pytest.mark.parametrize(("mode", "verb"), [("enforce", "drop"), ("audit", "audit")])
def test_what_expires_is_logged_and_in_audit_lives_on(link: Link, log: Log, mode: str, verb: str) -> None:
    clock = Clock()
    waiver = {"forbid": "here/f", "reason": "test", "owner": "test", **grant("7100", expires=clock.text)}
    allow = [grant("7000", expires=clock.text), grant("7100"), grant("7000", user="nobody")]
    apply(link, allow, mode=mode, log=LOG, forbid__here=[FORBID], waivers__here=[waiver])
    for port in (7000, 7100):
        link.connect(str(port), THERE, port)
        assert link.lives(str(port))
    assert log.lines() == []
    clock.wait()
    for port in (7000, 7100):
        assert leaves(link, str(port)) is (mode == "audit")
        assert set(log.lines()) == {f"egress {verb} expired "}
    for port, what in ((7000, "output"), (7100, "here/f")):
        assert can_begin(link, THERE, port) is (mode == "audit")
        assert f"egress {verb} {what} " in log.lines()


def test_protocols_have_prefixes_of_their_own_and_a_packet_one_line(link: Link, log: Log) -> None:
    apply(link, [], log={**LOG, "protocols": True})
    assert apply(link, [], log={**LOG, "protocols": True})["changed"] is False
    send(link.here, THERE, OTHER)
    assert log.lines() == ["egress drop output udp "]
    for number, protocol in ((1, "icmp"), (47, "other")):
        send_raw(link.here, THERE, number)
        assert log.lines() == [f"egress drop output {protocol} "]
    assert not can_begin(link, THERE, OTHER)
    assert set(log.lines()) == {"egress drop output tcp "}


def test_inbound_packets_are_logged_on_request(link: Link, log: Log) -> None:
    apply(link, [], log={**LOG, "chains": ["input"]})
    send(link.here, THERE, OTHER)
    assert log.lines() == []
    send_raw(link.there, HERE, 6)
    assert log.lines() == ["egress drop invalid "]
    # The kernel itself drops what comes from an address of its own, unless it is told to accept that.
    link.here.must("sysctl -qw net.ipv4.conf.wire.accept_local=1")
    link.there.must(f"ip rule add pref 1 to {HERE} lookup 7")
    link.there.must(f"ip route add {HERE} dev wire table 7")
    send(link.there, HERE, 5432, source=HERE)
    assert log.lines() == ["egress drop spoofed "]


@pytest.mark.parametrize(("mode", "verb"), [("enforce", "drop"), ("audit", "audit")])
def test_what_others_send_through_the_host(link: Link, log: Log, mode: str, verb: str) -> None:
    with namespace() as beyond:
        link.here.must(f"ip link add side type veth peer name side netns {beyond.name}")
        for host, address in ((link.here, "192.0.2.1"), (beyond, "192.0.2.2")):
            host.must(f"ip address add {address}/24 dev side")
            host.must("ip link set side up")
        link.here.must("sysctl -qw net.ipv4.ip_forward=1")
        beyond.must("ip route add default via 192.0.2.1")
        link.far("listen x 198.51.100.2 7200")
        link.there.must(f"ip route add 192.0.2.0/24 via {HERE}")
        apply(link, [], mode=mode, log=LOG)
        dial = f"import socket; socket.create_connection(('{THERE}', 7200), timeout=1)"
        assert (beyond.run([sys.executable, "-c", dial]).code == 0) is (mode == "audit")
        assert set(log.lines()) == {f"egress {verb} forward "}
