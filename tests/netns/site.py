# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site of network namespaces: two inside segments and an outside, a router between them.

Everybody outside is one namespace with many addresses, as is everybody inside a segment: a border sees addresses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
MODULE = "ansible_collections.palisade.egress.plugins.modules.egress_rule"
FAMILIES = ("ipv4", "ipv6")
# Interface of the router, what is behind it, IPv4 and IPv6 prefixes up to the host's number.
SEGMENTS = {
    "servers": ("198.51.100.", "2001:db8:1:1::"),
    "clients": ("198.51.100.1", "2001:db8:1:2::"),
    "outside": ("203.0.113.", "2001:db8:2::"),
}
NETWORKS = {
    "servers": ("198.51.100.0/25", "2001:db8:1:1::/64"),
    "clients": ("198.51.100.128/25", "2001:db8:1:2::/64"),
    "outside": ("203.0.113.0/24", "2001:db8:2::/64"),
}
# Who is where, by the last numbers of their addresses.
HOSTS = {
    "web1": ("servers", "198.51.100.11", "2001:db8:1:1::11"),
    "mail1": ("servers", "198.51.100.12", "2001:db8:1:1::12"),
    "printer": ("servers", "198.51.100.13", "2001:db8:1:1::13"),
    "stranger": ("servers", "198.51.100.14", "2001:db8:1:1::14"),
    "client1": ("clients", "198.51.100.140", "2001:db8:1:2::40"),
    "shop": ("outside", "203.0.113.20", "2001:db8:2::20"),
    "relay": ("outside", "203.0.113.25", "2001:db8:2::25"),
    "enemy": ("outside", "203.0.113.66", "2001:db8:2::66"),
}
ROUTER = {
    "servers": ("198.51.100.2", "2001:db8:1:1::2"),
    "clients": ("198.51.100.130", "2001:db8:1:2::2"),
    "outside": ("203.0.113.2", "2001:db8:2::2"),
}
BETWEEN = {
    "inside": {side: list(NETWORKS[side]) for side in ("servers", "clients")},
    "outside": ["outside"],
}

# Listens to ports by both protocols and answers each datagram, until it is killed.
SERVER = """
import socket, sys, threading
def answer(s):
    while True:
        data, peer = s.recvfrom(2000)
        s.sendto(data, peer)
def greet(s):
    kept = []
    while True:
        kept.append(s.accept()[0])
for address, port in [word.split("/") for word in sys.argv[1:]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.create_server((address, int(port)), family=family, backlog=50)
    threading.Thread(target=greet, args=[s], daemon=True).start()
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, int(port)))
    threading.Thread(target=answer, args=[s], daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""
# Tries to reach a port from an address and says what came of it.
TRY = """
import errno, socket, sys
protocol, source, target, port, wait = sys.argv[1:]
family = socket.AF_INET6 if ":" in target else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
s.settimeout(float(wait))
s.bind((source, 0))
try:
    s.connect((target, int(port)))
    if protocol == "udp":
        s.send(b"hello")
        s.recv(10)
    print("answered")
except OSError as error:
    print("silent" if isinstance(error, TimeoutError) else errno.errorcode[error.errno])
"""

# Sends a datagram that claims to be from an address and port.
FORGE = """
import socket, sys
source, source_port, target, port, data = sys.argv[1:]
v6 = ":" in target
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(*((41, 75, 1) if v6 else (socket.SOL_IP, 19, 1)))  # IPV6_TRANSPARENT, IP_TRANSPARENT
s.bind((source, int(source_port)))
s.sendto(data.encode(), (target, int(port)))
"""
# Prints each packet that comes in, as hexadecimal digits.
SNIFF = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("up", flush=True)
while True:
    data, (_name, _protocol, kind, *_rest) = s.recvfrom(65535)
    if kind != socket.PACKET_OUTGOING:
        print(data.hex(), flush=True)
"""


class Sniffer:
    """What comes in at a namespace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def saw(self, data: str) -> bool:
        """Tell, and end, whether a packet with these data came in."""
        time.sleep(0.3)
        self._process.kill()
        assert self._process.stdout
        return data.encode().hex() in self._process.stdout.read()


@dataclass(frozen=True)
class Site:
    """The namespaces: one a segment, and the router."""

    servers: Namespace
    clients: Namespace
    outside: Namespace
    router: Namespace

    def where(self, host: str) -> Namespace:
        """Return the namespace that a host is in."""
        return {"servers": self.servers, "clients": self.clients, "outside": self.outside}[HOSTS[host][0]]

    def reaches(self, source: str, target: str, port: int, protocol: str = "tcp", wait: float = 0.7) -> dict[str, str]:
        """Return by family what comes of trying to reach a port of one host from another."""
        found = {}
        for number, family in enumerate(FAMILIES, 1):
            words = (protocol, HOSTS[source][number], HOSTS[target][number], str(port), str(wait))
            done = self.where(source).run([sys.executable, "-c", TRY, *words])
            assert done.code == 0, done.error
            found[family] = done.output.strip()
        return found

    def passes(self, source: str, target: str, port: int, protocol: str = "tcp") -> bool:
        """Tell whether a port can be reached by both families; one of them only is an error."""
        found = set(self.reaches(source, target, port, protocol).values())
        assert found in ({"answered"}, {"silent"}), found
        return found == {"answered"}

    def forge(self, where: Namespace, source: str, target: str, port: int, data: str, source_port: int = 4000) -> None:
        """Send a datagram from a namespace that claims to be from another address."""
        done = where.run([sys.executable, "-c", FORGE, source, str(source_port), target, str(port), data])
        assert done.code == 0, done.error

    @contextmanager
    def sniffing(self, segment: str) -> Iterator[Sniffer]:
        """Look at what comes in at a segment."""
        where = {"servers": self.servers, "clients": self.clients, "outside": self.outside}[segment]
        with _background(where, SNIFF) as process:
            yield Sniffer(process)

    def counted(self, rule: str) -> int:
        """Return how many packets the counter of a rule has, named with its chain."""
        listed = json.loads(self.router.must("nft -j list counters table inet palisade_egress"))["nftables"]
        (packets,) = [c["counter"]["packets"] for c in listed if c.get("counter", {}).get("name") == rule]
        return int(packets)

    def apply(self, rules: list[dict[str, Any]], **options: object) -> dict[str, Any]:
        """Run the module for real on the router."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.router.name}", sys.executable, "-m", MODULE],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"rules": rules, **options}}), capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, check=False,
        )  # fmt: skip
        result = json.loads(done.stdout)
        assert not result.get("failed"), result["msg"]
        return result

    def fence(self, router: dict[str, Any] | None = None, **variables: Any) -> dict[str, Any]:
        """Compile the site, have the router hold its policy, and return that."""
        policy = compile_policies(*inventory(router, **variables))["router1"]
        self.apply(policy["rules"], chains=policy["chains"], live_flows=policy["settings"]["live_flows"])
        return policy

    @contextmanager
    def listening(self, *ports: int) -> Iterator[None]:
        """Have every host listen to these ports."""
        with ExitStack() as stack:
            for segment in ("servers", "clients", "outside"):
                hosts = [host for host in HOSTS if HOSTS[host][0] == segment]
                words = [f"{HOSTS[host][number]}/{port}" for host in hosts for number in (1, 2) for port in ports]
                stack.enter_context(_background(self.where(hosts[0]), SERVER, *words))
            yield


@contextmanager
def _background(where: Namespace, code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = ["nsenter", f"--net=/run/netns/{where.name}", sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def inventory(router: dict[str, Any] | None = None, **variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return hostvars and groups of the site; ``variables`` are the fleet's, ``HOST__name`` those of one host."""
    own = {key: value for key, value in variables.items() if key.partition("__")[0] in (*HOSTS, "router1")}
    fleet = {
        "networks": {
            "resolvers": [],
            "time_servers": [],
            "internet": list(NETWORKS["outside"]),
            "shops": ["host:shop"],
            "relays": ["host:relay"],
        },
        **{key: value for key, value in variables.items() if key not in own},
    }
    hostvars: dict[str, Any] = {}
    for host, (_segment, *addresses) in HOSTS.items():
        if host != "stranger":
            hostvars[host] = {"addresses": addresses, "managed": host in ("web1", "mail1", "client1"), **fleet}
    addresses = [address for pair in ROUTER.values() for address in pair]
    hostvars["router1"] = {"addresses": addresses, "router": BETWEEN if router is None else router, **fleet}
    for key, value in own.items():
        host, _mark, name = key.partition("__")
        hostvars[host][name] = value
    groups = {"router": ["router1"], "web": ["web1"], "mail": ["mail1"]}
    named = {h: {f"egress_firewall_{k}": v for k, v in values.items()} for h, values in hostvars.items()}
    return named, groups


@contextmanager
def site() -> Iterator[Site]:
    """Make a site whose router forwards everything, and take it away again."""
    with ExitStack() as stack:
        made = Site(*(stack.enter_context(namespace()) for _name in range(4)))
        # No waiting for whether somebody else has an address that was just given.
        for where in (made.servers, made.clients, made.outside, made.router):
            where.must("ip link set lo up")
            where.must("sysctl -qw net.ipv6.conf.default.accept_dad=0")
        for switch in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            made.router.must(f"sysctl -qw {switch}=1")
        for segment in ROUTER:
            _connect(made, segment)
        yield made


def _connect(made: Site, segment: str) -> None:
    there = {"servers": made.servers, "clients": made.clients, "outside": made.outside}[segment]
    made.router.must(f"ip link add {segment} type veth peer name wire netns {there.name}")
    for where, device in ((made.router, segment), (there, "wire")):
        where.must(f"ip link set {device} up")
    for number, network in enumerate(NETWORKS[segment]):
        length = network.partition("/")[2]
        made.router.must(f"ip address add {ROUTER[segment][number]}/{length} dev {segment}")
        for host in (host for host in HOSTS if HOSTS[host][0] == segment):
            there.must(f"ip address add {HOSTS[host][number + 1]}/{length} dev wire")
        there.must(f"ip {'-6' if number else '-4'} route add default via {ROUTER[segment][number]}")
