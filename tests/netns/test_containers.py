# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers may send and get, by packets: behind bridges of a host that somebody else translates for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.test_closed import python
from netns.test_confirm import wait_until
from netns.test_expiry import Clock
from netns.test_flows import HERE, HERE6, THERE, THERE6, Link, Peer, link
from netns.test_module import Module

from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

__all__ = ["link"]

Plain = dict[str, Any]

# The networks of the containers, on a bridge each, by their first three groups.
BRIDGES = {"podman0": ("203.0.113", "2001:db8:a:"), "docker0": ("192.0.2", "2001:db8:b:")}
INSIDE, INSIDE6 = "203.0.113.2", "2001:db8:a::2"
FAMILIES = pytest.mark.parametrize(
    ("here", "there", "inside"), [(HERE, THERE, INSIDE), (HERE6, THERE6, INSIDE6)], ids=["ipv4", "ipv6"]
)
NETWORKS = {"resolvers": [], "time_servers": [], "peer": [THERE, THERE6]}
# What whoever runs the containers does: translate addresses, and publish a port of a container.
TRANSLATE = """
table inet theirs {
    chain dstnat {
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport 8080 dnat ip to 203.0.113.2:80
        fib daddr type local tcp dport 8080 dnat ip6 to [2001:db8:a::2]:80
    }
    chain srcnat {
        type nat hook postrouting priority srcnat;
        ip saddr { 203.0.113.0/24, 192.0.2.0/24 } oifname "wire" masquerade
        ip6 saddr { 2001:db8:a::/64, 2001:db8:b::/64 } oifname "wire" masquerade
    }
}
"""
SERVE = """
family = socket.AF_INET6 if ":" in {to!r} else socket.AF_INET
server = socket.create_server(({to!r}, {port}), family=family)
print("up", flush=True)
while True:
    server.accept()[0].sendall(b"hello")
"""


def tcp(*ports: int) -> Plain:
    return {"protocol": "tcp", "ports": list(ports)}


def granted(*ports: int, **options: Any) -> Plain:
    return {"service": tcp(*ports), "to": "peer", **options}


@dataclass
class Engine:
    """A host with a container on each of two bridges, and somebody else on its wire."""

    link: Link
    containers: dict[str, Namespace]

    def apply(self, **variables: Any) -> Plain:
        given = {"networks": NETWORKS, "addresses": [HERE, HERE6], **variables}
        hostvars = {"here": {f"egress_firewall_{name}": value for name, value in given.items()}}
        policy = compile_policies(hostvars, {"container_host": ["here"]})["here"]
        settings = {"chains": policy["chains"], "live_flows": policy["settings"]["live_flows"]}
        answer = Module(self.link.here)(rules=policy["rules"], forwarding=policy["forwarding"], **settings)
        assert not answer.get("failed"), answer["msg"]
        return answer

    @property
    def container(self) -> Namespace:
        return self.containers["podman0"]

    def counted(self, name: str) -> int:
        listed = self.link.here.must(f"nft list counter inet palisade_egress {name}")
        return int(listed.partition("packets ")[2].split()[0])


@pytest.fixture
def engine(link: Link) -> Iterator[Engine]:
    """Return a host of containers that forwards nothing yet."""
    with ExitStack() as stack:
        containers = {name: stack.enter_context(namespace()) for name in BRIDGES}
        for number, (bridge, (net, net6)) in enumerate(BRIDGES.items()):
            inside, here = containers[bridge], link.here
            here.must(f"ip link add {bridge} type bridge")
            here.must(f"ip link add veth{number} type veth peer name eth0 netns {inside.name}")
            here.must(f"ip link set veth{number} master {bridge} up")
            for where, device, last in ((here, bridge, 1), (inside, "eth0", 2)):
                where.must(f"ip link set {device} up")
                where.must(f"ip address add {net}.{last}/24 dev {device}")
                where.must(f"ip address add {net6}:{last}/64 dev {device} nodad")
            inside.must(f"ip route add default via {net}.1")
            inside.must(f"ip route add default via {net6}:1")
        for sysctl in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            link.here.must(f"sysctl -qw net.{sysctl}=0")
        link.here.nft(TRANSLATE)
        # Neighbours are asked for from an address of the link, which takes a second or so to be one.
        for where in (link.here, *containers.values()):
            wait_until(lambda where=where: "tentative" not in where.must("ip -6 address"))
        yield Engine(link, containers)


def reaches(where: Namespace, to: str, port: int, source: str = "") -> bool:
    """Tell whether a connection can begin, and its answer comes."""
    dial = f"s = socket.create_connection(({to!r}, {port}), timeout=1, source_address=({source!r}, 0))\n"
    return python(where, dial + "print(s.recv(9))") == "b'hello'"


def serve(stack: ExitStack, engine: Engine, where: Namespace, to: str, *ports: int) -> None:
    for port in ports:
        stack.enter_context(engine.link.background(where, SERVE.format(to=to, port=port)))


@FAMILIES
def test_what_is_granted_to_containers_leaves_and_nothing_else(
    here: str, there: str, inside: str, engine: Engine
) -> None:
    outside, own = engine.link.there, engine.link.here
    with ExitStack() as stack:
        serve(stack, engine, outside, there, 7000, 7001, 7002, 7003)
        mine, theirs = granted(7000), granted(7001, 7002, containers=True)
        engine.apply(allow__here=[mine, theirs], forbid__here=[{"name": "no", "service": tcp(7002)}])
        assert [port for port in range(7000, 7004) if reaches(engine.container, there, port)] == [7001]
        assert [port for port in range(7000, 7004) if reaches(own, there, port)] == [7000]
        # Who tries tries twice in a second.
        assert engine.counted("own/containers/forbid/here/no") >= 1
        assert engine.counted("forward/always/log") >= 2
        engine.apply(allow__here=[{**theirs, "interface": "eth9"}])
        assert not reaches(engine.container, there, 7001)
        engine.apply(allow__here=[{**theirs, "interface": "wire"}], mode="audit")
        assert all(reaches(engine.container, there, port) for port in range(7000, 7004))


@FAMILIES
def test_no_other_rules_than_ours_let_them_out(here: str, there: str, inside: str, engine: Engine) -> None:
    """Without the fence, all of it would pass: whoever runs the containers has them forwarded."""
    with ExitStack() as stack:
        serve(stack, engine, engine.link.there, there, 7000)
        engine.apply(allow__here=[granted(7000)])
        assert not reaches(engine.container, there, 7000)
        engine.link.here.nft("delete table inet palisade_egress")
        assert reaches(engine.container, there, 7000)


@FAMILIES
def test_published_ports_live_on(here: str, there: str, inside: str, engine: Engine) -> None:
    outside = engine.link.there
    with ExitStack() as stack:
        serve(stack, engine, engine.container, inside, 80)
        engine.apply()
        assert reaches(outside, here, 8080)
        engine.apply(input="closed")
        assert not reaches(outside, here, 8080)
        # The port is the container's, as addresses are translated before.
        engine.apply(input="closed", accept__here=[{"service": tcp(8080), "from": "peer", "containers": True}])
        assert not reaches(outside, here, 8080)
        engine.apply(input="closed", accept__here=[{"service": tcp(80), "from": "peer"}])
        assert not reaches(outside, here, 8080)
        engine.apply(input="closed", accept__here=[{"service": tcp(80), "from": "peer", "containers": True}])
        assert reaches(outside, here, 8080)
        engine.apply(input="closed", accept__here=[{"service": tcp(80), "from": "any", "containers": True,
                                                    "interface": "eth9"}])  # fmt: skip
        assert not reaches(outside, here, 8080)


@FAMILIES
def test_what_stays_on_the_host_is_not_stopped(here: str, there: str, inside: str, engine: Engine) -> None:
    with ExitStack() as stack:
        serve(stack, engine, engine.container, inside, 80)
        serve(stack, engine, engine.link.here, here, 7000)
        engine.apply(input="guard")
        other = engine.containers["docker0"]
        assert reaches(other, inside, 80)
        assert reaches(other, here, 8080)
        assert reaches(other, here, 7000)
        engine.apply(input="guard", container_bridges=["podman0"])
        assert not reaches(other, there, 7000)


@FAMILIES
def test_containers_have_no_other_addresses_than_their_own(here: str, there: str, inside: str, engine: Engine) -> None:
    bogus = "203.0.113.99" if inside == INSIDE else "2001:db8:a::99"
    stranger = engine.containers["docker0"]
    stranger.must(f"ip address add {bogus} dev eth0" + (" nodad" if ":" in bogus else ""))
    engine.apply(allow__here=[{"service": {"protocol": "udp", "ports": [7000]}, "to": "peer", "containers": True}])
    family = "AF_INET6" if ":" in there else "AF_INET"
    send = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(({bogus!r}, 0))\n"
    assert python(stranger, send + f"print(s.sendto(b'x', ({there!r}, 7000)))") == "1"
    assert engine.counted("forward/always/spoofed-source") == 1


class Flows:
    """Connections between a container and somebody outside, held by a process at each end."""

    def __init__(self, engine: Engine) -> None:
        self._near, self._far = Peer(engine.container), Peer(engine.link.there)

    def out(self, name: str, to: str, port: int) -> None:
        self._begin(self._near, self._far, name, (to, port), (to, port))

    def published(self, name: str, here: str, inside: str) -> None:
        self._begin(self._far, self._near, name, (here, 8080), (inside, 80))

    def _begin(self, client: Peer, server: Peer, name: str, to: tuple[str, int], at: tuple[str, int]) -> None:
        assert server(f"listen {name} {at[0]} {at[1]}") == "done"
        assert client(f"dial {name} {to[0]} {to[1]}") == "done"
        assert server(f"accept {name} {name}") == "done"

    def live(self, *names: str) -> list[str]:
        """Return those by which what the container sends arrives outside."""
        assert all(self._near(f"send {name}") == "done" for name in names)
        return [name for name in names if self._far(f"receive {name} 1") == "got"]

    def end(self) -> None:
        self._near.end()
        self._far.end()


@pytest.fixture
def flows(engine: Engine) -> Iterator[Flows]:
    held = Flows(engine)
    yield held
    held.end()


@FAMILIES
def test_live_flows_end_with_what_let_them_begin(
    here: str, there: str, inside: str, engine: Engine, flows: Flows
) -> None:
    clock = Clock()
    kept, expiring = granted(7000, containers=True), granted(7002, containers=True, expires=clock.text)
    engine.apply(allow__here=[kept, expiring, granted(7001, containers=True)])
    for name, port in (("kept", 7000), ("ended", 7001), ("expiring", 7002)):
        flows.out(name, there, port)
    flows.published("in", here, inside)
    assert flows.live("kept", "ended", "expiring", "in") == ["kept", "ended", "expiring", "in"]
    assert engine.apply(allow__here=[kept, expiring])["flows_ended"] == 1
    assert flows.live("kept", "ended", "expiring", "in") == ["kept", "expiring", "in"]
    clock.wait()
    assert flows.live("kept", "expiring", "in") == ["kept", "in"]
    # The one that has expired is still known.
    assert engine.apply(allow__here=[kept], input="closed")["flows_ended"] == 2
    assert flows.live("kept", "in") == ["kept"]
