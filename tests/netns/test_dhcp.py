# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real client, which gets its addresses from a real server and renews them, through compiled policies.

Renewals leave by UDP sockets, which the filter sees, and so does all of DHCPv6. What a client of IPv4 says before it
has an address leaves by a packet socket, which no filter of the host sees: that is shown, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from netns.namespace import Namespace, machine, namespace
from netns.test_closed import ADVERTISE
from netns.test_module import Module

from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

SERVER, SERVER6 = "198.51.100.1", "2001:db8:1::1"
LEASED, LEASED6 = "198.51.100.20", "2001:db8:1::20"
GRANT = {"service": "dhcp", "to": "any", "interface": "wire"}
# What is seen on the wire: what the client asks for first, and how it renews.
DISCOVER, SOLICIT = "0.0.0.0.68 > 255.255.255.255.67", "> ff02::1:2.547: dhcp6 solicit"
RENEW, RENEW6 = f"{LEASED}.68 > {SERVER}.67", "> ff02::1:2.547: dhcp6 renew"

DNSMASQ = [
    "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=wire", "--bind-dynamic",
    "--user=root", "--pid-file=", "--leasefile-ro", "--no-ping", "--dhcp-authoritative",
    f"--dhcp-range={LEASED},{LEASED},255.255.255.0,2m", f"--dhcp-range={LEASED6},{LEASED6},64,2m",
]  # fmt: skip
# Nothing of the host is touched but addresses and routes, and nothing is waited for that the wire cannot need.
DHCPCD = ["dhcpcd", "--nobackground", "--debug", "--config", "/run/dhcpcd.conf", "--script", "/bin/true", "wire"]
CONFIGURATION = "\n".join(["duid ll", "ia_na", "nodelay", "noarp", "noipv4ll", "noipv6rs", "noipv6ra_autoconf", ""])


class Output:
    """What a program in a namespace has said so far."""

    def __init__(self, where: Namespace, command: list[str], path: Path) -> None:
        self._path = path
        with path.open("w", encoding="utf-8") as file:
            inside = ["nsenter", f"--net=/run/netns/{where.name}", *where.wrapper, *command]
            self.process = subprocess.Popen(inside, stdout=file, stderr=subprocess.STDOUT)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()

    def lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines()

    def has(self, what: str, since: int = 0) -> bool:
        """Tell whether it has said something, after so many lines."""
        return any(what in line for line in self.lines()[since:])


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Lan:
    """A host that has no address, a server that would lend it some, and what is seen on the server's end."""

    def __init__(self, here: Namespace, there: Namespace, directory: Path, stack: ExitStack) -> None:
        self.here, self.there, self._directory, self._stack = here, there, directory, stack
        there.must(f"ip link add wire type veth peer name wire netns {here.name}")
        for host in (here, there):
            host.must("ip link set lo up")
            host.must("ip link set wire up")
        there.must(f"ip address add {SERVER}/24 dev wire")
        there.must(f"ip address add {SERVER6}/64 dev wire nodad")
        here.must("tee /run/dhcpcd.conf", CONFIGURATION)
        here.must("mkdir -p /var/lib/dhcpcd")
        self.server = self.start(there, DNSMASQ, "server")
        command = ["tcpdump", "--immediate-mode", "-lnni", "wire", "udp"]
        self.wire = self.start(there, command, "wire")
        wait(lambda: self.wire.has("listening on wire"))
        wait(lambda: "fe80::" in here.must("ip -6 address show dev wire scope link -tentative"))

    def start(self, where: Namespace, command: list[str], name: str) -> Output:
        started = Output(where, command, self._directory / name)
        self._stack.callback(started.end)
        return started

    @contextmanager
    def client(self) -> Iterator[Output]:
        """Run the client."""
        started = self.start(self.here, DHCPCD, "client")
        try:
            yield started
        finally:
            started.end()

    def has(self, address: str) -> bool:
        return f" {address}" in self.here.must("ip address show dev wire")

    def apply(self, *, check: bool = False, **variables: Any) -> dict[str, Any]:
        """Compile a policy for the host and have its kernel hold it, or be refused."""
        networks = {"resolvers": [], "time_servers": []}
        given = {"networks": networks, "addresses": [LEASED, LEASED6], **variables}
        policy = compile_policies({"here": {f"egress_firewall_{name}": value for name, value in given.items()}}, {})
        settings = policy["here"]["settings"]
        options = {name: settings[name] for name in ("guard", "live_flows")}
        return Module(self.here)(check=check, rules=policy["here"]["rules"], chains=policy["here"]["chains"], **options)

    def count(self, rule: str) -> int:
        listed = json.loads(self.here.must("nft -j list counters table inet palisade_egress"))["nftables"]
        found = [c["counter"]["packets"] for c in listed if c.get("counter", {}).get("name", "").startswith(rule)]
        return sum(found)

    def seen(self, since: int) -> list[str]:
        """Return what is on the wire from a line on, all that was sent before this included."""
        port = 40000 + len(self.wire.lines())
        tell = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{LEASED}', {port}))"
        self.there.must(f"ip neighbour replace {LEASED} lladdr 02:00:00:00:00:01 dev wire")
        assert self.there.run([sys.executable, "-c", tell]).code == 0
        wait(lambda: self.wire.has(f".{port}: ", since))
        self.there.must(f"ip neighbour delete {LEASED} dev wire")
        return self.wire.lines()[since:]


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    """Return a host without address and a server."""
    with machine() as here, namespace() as there, ExitStack() as stack:
        yield Lan(here, there, tmp_path, stack)


def renew(lan: Lan) -> None:
    """Have the client renew what it has."""
    lan.here.must("dhcpcd --renew wire")


@pytest.mark.parametrize("mode", ["guard", "closed"])
def test_leases_are_got_and_renewed_where_dhcp_is_granted(lan: Lan, mode: str) -> None:
    lan.apply(input=mode, allow__here=[GRANT])
    with lan.client() as client:
        wait(lambda: lan.has(LEASED) and lan.has(LEASED6))
        wait(lambda: client.has("BOUND") and client.has("BOUND6"))
        # With leases at hand the same rules are no lock-out.
        assert not lan.apply(input=mode, allow__here=[GRANT], default_verdict="reject").get("failed")
        before, granted, said = len(lan.wire.lines()), lan.count("output/here/dhcp"), len(client.lines())
        renew(lan)
        wait(lambda: client.has("/bin/true RENEW6", said) and client.has(f"acknowledged {LEASED} ", said))
        seen = "\n".join(lan.seen(before))
        assert RENEW in seen
        assert RENEW6 in seen
        assert lan.count("output/here/dhcp") - granted >= 2
        assert lan.count("output/palisade/default") == 0


WITHOUT = {"no grant": [], "a grant for another interface": [{**GRANT, "interface": "eth9"}]}


@pytest.mark.parametrize("grants", WITHOUT.values(), ids=WITHOUT)
def test_without_the_grant_renewals_stay_here(lan: Lan, grants: list[dict[str, Any]]) -> None:
    with lan.client() as client:
        wait(lambda: client.has("BOUND") and client.has("BOUND6"))
        lan.apply(allow__here=grants, guard=False)
        before, said = len(lan.wire.lines()), len(client.lines())
        renew(lan)
        wait(lambda: client.has("sending REQUEST", said) and client.has("broadcasting RENEW6", said))
        wait(lambda: lan.count("output/palisade/default") >= 2)
        seen = "\n".join(lan.seen(before))
        assert RENEW not in seen
        assert RENEW6 not in seen
        assert not client.has("acknowledged", said)


def test_what_leaves_by_a_packet_socket_is_not_held_here(lan: Lan) -> None:
    lan.apply()
    before = len(lan.wire.lines())
    with lan.client() as client:
        # The filter is asked about DHCPv6 only.
        wait(lambda: client.has("BOUND") and lan.count("output/palisade/default") >= 1)
        seen = "\n".join(lan.seen(before))
        assert DISCOVER in seen
        assert SOLICIT not in seen
        assert lan.has(LEASED)
        assert not lan.has(LEASED6)


def sends(lan: Lan, to: str, port: int, source_port: int) -> bool:
    """Tell whether a datagram leaves; the sender of one that is dropped is told so."""
    family = "AF_INET6" if ":" in to else "AF_INET"
    send = f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(('', {source_port}))"
    return lan.here.run([sys.executable, "-c", f"import socket; {send}; s.sendto(b'x', ('{to}', {port}))"]).code == 0


def reaches(lan: Lan, to: str, port: int, source_port: int) -> bool:
    dial = f"socket.create_connection(('{to}', {port}), timeout=1, source_address=('', {source_port}))"
    return lan.here.run([sys.executable, "-c", f"import socket; {dial}"]).code == 0


@pytest.mark.parametrize(
    ("own", "to", "client", "server"), [(LEASED, SERVER, 68, 67), (LEASED6, SERVER6, 546, 547)], ids=["ipv4", "ipv6"]
)
def test_a_grant_of_dhcp_is_for_udp_between_its_ports(lan: Lan, own: str, to: str, client: int, server: int) -> None:
    lan.here.must(f"ip address add {own}/{64 if ':' in own else 24} dev wire" + " nodad" * (":" in own))
    family = "AF_INET6" if ":" in own else "AF_INET"
    hear = f"import socket, time; s = socket.create_server(('{to}', {server}), family=socket.{family}); time.sleep(60)"
    lan.start(lan.there, [sys.executable, "-c", hear], "tcp")
    wait(lambda: reaches(lan, to, server, 0))
    lan.apply(allow__here=[GRANT])
    assert not reaches(lan, to, server, client)
    assert not reaches(lan, to, server, 0)
    assert sends(lan, to, server, client)
    assert not sends(lan, to, server, 0)
    assert not sends(lan, to, client, client)


def test_rules_under_which_leases_end_are_refused(lan: Lan) -> None:
    with lan.client() as client:
        wait(lambda: client.has("BOUND") and client.has("BOUND6"))
        for grants, address in ([], LEASED), ([{**GRANT, "to": "0.0.0.0/0"}], LEASED6):
            for check in (True, False):
                refused = lan.apply(allow__here=grants, check=check)
                assert refused["failed"]
                assert refused["msg"].startswith(f"guard: the address {address} of wire is leased by DHCP, ")
                assert "[{service: dhcp, to: any, interface: wire}]" in refused["msg"]
            assert lan.here.everything() == ""
        assert lan.apply(guard=False)["changed"]
        assert not lan.apply(guard=False)["changed"]
        # They are in force already, and the host loses its addresses all the same.
        assert lan.apply()["failed"]


# How an address of the host came to it: what follows `ip address add`, and whether DHCP has to go on.
ADDRESSES = {
    "permanent": (f"{LEASED}/24", False),
    "permanent, IPv6": (f"{LEASED6}/64 nodad", False),
    "permanent, alone, IPv6": (f"{LEASED6}/128 nodad", False),
    "leased": (f"{LEASED}/24 valid_lft 3600 preferred_lft 3600", True),
    "leased, no longer preferred": (f"{LEASED}/24 valid_lft 3600 preferred_lft 0", True),
    "leased, IPv6": (f"{LEASED6}/128 nodad noprefixroute valid_lft 3600 preferred_lft 3600", True),
    "by a router's advertisement, of a program": (f"{LEASED6}/64 nodad valid_lft 3600 preferred_lft 3600", False),
}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_what_the_kernel_says_of_addresses(lan: Lan, kind: str) -> None:
    words, is_leased = ADDRESSES[kind]
    lan.here.must(f"ip address add {words} dev wire")
    answer = lan.apply()
    assert bool(answer.get("failed")) == is_leased
    assert not lan.apply(allow__here=[GRANT]).get("failed")


def test_the_kernel_of_a_host_makes_addresses_of_advertisements(lan: Lan) -> None:
    python = f"import socket, struct, time\n{ADVERTISE}"
    wait(lambda: lan.there.run([sys.executable, "-c", python]).code == 0 and lan.has("2001:db8:a:"))
    assert " dynamic " in lan.here.must("ip -6 address show dev wire")
    assert lan.apply()["changed"]
