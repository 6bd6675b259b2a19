# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed input by real packets: what is accepted comes in, what keeps a host alive does, and nothing else.

Each test also shows, by rules without what it is about or by another mode, that it would notice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.test_expiry import Clock
from netns.test_flows import HERE, HERE6, THERE, THERE6, Link, link

from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

__all__ = ["link"]

# Another one on the same wire, from whom nothing is accepted.
OTHER, OTHER6 = "198.51.100.3", "2001:db8:1::3"
FAMILIES = pytest.mark.parametrize(
    ("here", "there", "other"), [(HERE, THERE, OTHER), (HERE6, THERE6, OTHER6)], ids=["ipv4", "ipv6"]
)
NETWORKS = {
    "resolvers": [],
    "time_servers": [],
    "peer": [THERE, THERE6],
    "beyond": ["203.0.113.0/24", "2001:db8:2::/64"],
}
TCP = {"protocol": "tcp", "ports": [7000]}
UDP = {"protocol": "udp", "ports": [7000]}


def apply(link: Link, *without: str, **variables: Any) -> dict[str, Any]:
    """Compile a policy for the host ``here`` and have its kernel hold it, without rules of these names."""
    given = {"networks": NETWORKS, "addresses": [HERE, HERE6], "input": "closed", **variables}
    hostvars = {"here": {f"egress_firewall_{name}": value for name, value in given.items()}}
    policy = compile_policies(hostvars, {})["here"]
    rules = [rule for rule in policy["rules"] if not (rule["chain"] == "input" and rule["name"] in without)]
    assert len(policy["rules"]) - len(rules) == len(without)
    return link.apply(rules, chains=policy["chains"], live_flows=policy["settings"]["live_flows"])


def accept(service: Any = TCP, **options: Any) -> dict[str, Any]:
    return {"service": service, "from": "peer", **options}


def python(where: Namespace, code: str) -> str:
    """Return what a few lines of Python print, or the last line of their error."""
    done = where.run([sys.executable, "-c", "import socket, struct, time\n" + code])
    return (done.output if done.code == 0 else done.error).strip().rpartition("\n")[2]


def comes_in(link: Link, to: str, port: int = 7000, source: str = "") -> bool:
    """Tell whether a connection from there can begin."""
    dial = f"socket.create_connection(('{to}', {port}), timeout=1, source_address=('{source}', 0)); print('in')"
    return python(link.there, dial) == "in"


def asks(link: Link, to: str, port: int, wait: float = 1) -> str:
    """Send a datagram from there to a port that answers what it gets, and return what becomes of it."""
    family = "AF_INET6" if ":" in to else "AF_INET"
    answer = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(('', {port})); print('up', flush=True)\n"
    answer += "data, peer = s.recvfrom(9); s.sendto(data, peer)"
    ask = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout({wait}); s.connect(('{to}', {port}))\n"
    ask += "s.send(b'hello'); s.recv(9); print('answered')"
    with link.background(link.here, answer):
        return python(link.there, ask).partition(":")[0]


def pings(where: Namespace, to: str) -> bool:
    return where.run(["ping", "-c", "1", "-W", "1", to]).code == 0


@pytest.fixture
def wire(link: Link) -> Link:
    """Return the two hosts, of which the far one has the addresses of somebody else, too."""
    link.there.must(f"ip address add {OTHER}/24 dev wire")
    # Nothing is sent from it that does not ask to be.
    link.there.must(f"ip address add {OTHER6}/64 dev wire nodad preferred_lft 0")
    return link


@FAMILIES
def test_what_is_accepted_comes_in_from_there_only(wire: Link, here: str, there: str, other: str) -> None:
    for port in (7000, 7001):
        wire.near(f"listen {port} {here} {port}")
    apply(wire, input="guard", accept__here=[accept()])
    assert comes_in(wire, here, 7001, other)
    apply(wire, accept__here=[accept()])
    assert comes_in(wire, here, 7000, there)
    assert not comes_in(wire, here, 7000, other)
    assert not comes_in(wire, here, 7001, there)
    assert apply(wire, accept__here=[accept()])["changed"] is False


@FAMILIES
def test_what_is_accepted_by_an_interface_comes_in_by_it(wire: Link, here: str, there: str, other: str) -> None:
    wire.near(f"listen x {here} 7000")
    apply(wire, accept__here=[accept(interface="eth9")])
    assert not comes_in(wire, here, source=there)
    apply(wire, accept__here=[accept(interface=["eth9", "wire"])])
    assert comes_in(wire, here, source=there)


@FAMILIES
def test_answers_come_back(wire: Link, here: str, there: str, other: str) -> None:
    allow = [{"service": TCP, "to": "peer"}]
    apply(wire, allow__here=allow)
    wire.connect("out", there, 7000)
    assert wire.lives("out")
    assert pings(wire.here, there)
    apply(wire, "always/established", allow__here=allow)
    assert not pings(wire.here, there)


@FAMILIES
def test_pings_come_in_as_the_inventory_says(wire: Link, here: str, there: str, other: str) -> None:
    apply(wire)
    assert pings(wire.there, here)
    apply(wire, icmp={"in": []})
    assert not pings(wire.there, here)
    assert pings(wire.here, there)
    apply(wire, icmp={"out": []})
    assert pings(wire.there, here)
    assert not pings(wire.here, there)


def forget(link: Link) -> None:
    for host in (link.here, link.there):
        host.must("ip neigh flush dev wire")


@FAMILIES
def test_neighbours_are_found_again(wire: Link, here: str, there: str, other: str) -> None:
    apply(wire)
    for ask, to in ((wire.there, here), (wire.here, there)):
        forget(wire)
        assert pings(ask, to)
    if here == HERE6:
        apply(wire, "always/neighbour-discovery")
        forget(wire)
        assert not pings(wire.there, here)


ADVERTISE = """
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:a::"))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1%wire", 0))
"""


def test_routers_are_heard(wire: Link) -> None:
    for without, heard in (["always/neighbour-discovery"], False), ([], True):
        apply(wire, *without)
        # Neither end has an address of the link for the first second or so.
        for _attempt in range(30 if heard else 5):
            python(wire.there, ADVERTISE)
            found = "2001:db8:a:" in wire.here.must("ip -6 address show dev wire")
            if found:
                break
            time.sleep(0.2)
        assert found == heard


@FAMILIES
def test_what_nobody_asked_for_is_dropped_or_rejected(wire: Link, here: str, there: str, other: str) -> None:
    accepted = [accept(UDP)]
    apply(wire, accept__here=accepted)
    assert asks(wire, here, 7000) == "answered"
    assert asks(wire, here, 7001) == "TimeoutError"
    apply(wire, accept__here=accepted, default_verdict="reject")
    assert asks(wire, here, 7000) == "answered"
    assert asks(wire, here, 7001) == "ConnectionRefusedError"
    apply(wire, accept__here=accepted, input="guard")
    assert asks(wire, here, 7001) == "answered"


@pytest.mark.parametrize(("here", "server", "client"), [(HERE, 67, 68), (HERE6, 547, 546)], ids=["ipv4", "ipv6"])
def test_dhcp_servers_are_heard_where_dhcp_is_granted(wire: Link, here: str, server: int, client: int) -> None:
    family = "AF_INET6" if ":" in here else "AF_INET"
    hear = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(('', {client}))\n"
    hear += "print('up', flush=True); s.settimeout(1); s.recv(9); print('heard')"
    say = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(('', {server}))\n"
    say += f"s.sendto(b'x', ('{here}', {client}))"
    for interface, heard in ("eth9", ""), ("wire", "heard"):
        apply(wire, allow__here=[{"service": "dhcp", "to": "any", "interface": interface}])
        with wire.background(wire.here, hear) as listener:
            python(wire.there, say)
            assert listener.communicate()[0].strip() == heard


@FAMILIES
def test_live_flows_that_nothing_accepts_end(wire: Link, here: str, there: str, other: str) -> None:
    apply(wire, input="guard")
    wire.connect("in", here, 7000)
    wire.connect("elsewhere", here, 7001)
    assert apply(wire, accept__here=[accept()])["flows_ended"] == 1
    assert wire.lives("in")
    assert wire.is_dead("elsewhere")


@FAMILIES
def test_an_accept_ends_with_its_connections_and_nothing_else_does(
    wire: Link, here: str, there: str, other: str
) -> None:
    clock, later = Clock(), Clock(3600)
    ports = {"protocol": "tcp", "ports": ["7000-7003"]}
    accepts = [
        accept(ports, expires=clock.text),
        accept({"protocol": "tcp", "ports": [7001]}),
        accept({"protocol": "tcp", "ports": [7002]}, expires=later.text),
    ]
    variables = {"accept__here": accepts, "allow__here": [{"service": TCP, "to": "peer"}]}
    apply(wire, **variables)
    for port in (7000, 7001, 7002):
        wire.connect(str(port), here, port)
    wire.connect("out", there, 7000, source_port=7003)
    assert all(wire.lives(name) for name in ("7000", "7001", "7002", "out"))
    clock.wait()
    assert wire.far("send 7000") == "done"
    assert wire.near("receive 7000 1") == "nothing"
    assert all(wire.lives(name) for name in ("7001", "7002", "out"))
    assert not comes_in(wire, here, 7000, there)
    assert comes_in(wire, here, 7002, there)


@pytest.fixture
def path(link: Link) -> Iterator[Namespace]:
    """Return a host beyond the far one, which routes to it over a link that takes smaller packets only."""
    with namespace() as beyond:
        link.there.must(f"ip link add narrow type veth peer name wire netns {beyond.name}")
        for host, device, last in ((link.there, "narrow", 1), (beyond, "wire", 2)):
            host.must(f"ip link set {device} up")
            host.must(f"ip address add 203.0.113.{last}/24 dev {device}")
            host.must(f"ip address add 2001:db8:2::{last}/64 dev {device} nodad")
        link.there.must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        link.there.must("ip link set narrow mtu 1280")
        link.here.must(f"ip route add 203.0.113.0/24 via {THERE}")
        link.here.must(f"ip route add 2001:db8:2::/64 via {THERE6}")
        beyond.must("ip route add default via 203.0.113.1")
        beyond.must("ip route add default via 2001:db8:2::1")
        yield beyond


# What the router says that the route leads through: what went from port 5000 to 7000 is to go by somebody else.
REDIRECT = f"""
there, here, other, to = (socket.inet_aton(a) for a in ("{THERE}", "{HERE}", "{OTHER}", "203.0.113.2"))
quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, here, to) + struct.pack("!HHHH", 5000, 7000, 8, 0)
rest = other + quoted
words = struct.unpack(f"!{{len(rest) // 2}}H", rest)
total = sum(words) + 0x0501
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.bind(("{THERE}", 0))
s.sendto(struct.pack("!BBH", 5, 1, ~total & 0xFFFF) + rest, ("{HERE}", 0))
"""
SEND = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5000))
s.sendto(b"x", ("203.0.113.2", 7000))
print("up", flush=True)
s.recv(9)
"""


def test_nobody_redirects_a_route(wire: Link, path: Namespace) -> None:
    for device in ("all", "wire"):
        wire.here.must(f"sysctl -qw net.ipv4.conf.{device}.accept_redirects=1")
    for mode, by in (("closed", THERE), ("guard", OTHER)):
        apply(wire, input=mode, allow__here=[{"service": UDP, "to": "beyond"}])
        assert pings(wire.here, OTHER)  # the kernel follows a redirect to a neighbour that it knows
        with wire.background(wire.here, SEND):
            assert python(wire.there, REDIRECT) == ""
        assert f"via {by} " in wire.here.must("ip route get 203.0.113.2")


@pytest.mark.parametrize(
    ("to", "family", "rule"),
    [
        ("203.0.113.2", "AF_INET", "always/related-icmp"),
        ("2001:db8:2::2", "AF_INET6", "always/related-icmpv6"),
    ],
    ids=["ipv4", "ipv6"],
)
def test_the_mtu_of_a_path_is_learnt(link: Link, path: Namespace, to: str, family: str, rule: str) -> None:
    hear = f"s = socket.create_server(('{to}', 7000), family=socket.{family}); print('up', flush=True)\n"
    hear += "s.settimeout(9); c = s.accept()[0]; c.settimeout(2)\n"
    hear += "c.makefile('rb').read(100000); print('whole')"
    send = f"s = socket.create_connection(('{to}', 7000), timeout=9); s.sendall(bytes(100000)); time.sleep(2)"
    for without, arrived in ([rule], ""), ([], "whole"):
        apply(link, *without, allow__here=[{"service": TCP, "to": "beyond"}])
        with link.background(path, hear) as listener:
            python(link.here, send)
            assert listener.communicate()[0].strip() == arrived
