# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each measurement of ``egress_probe``, made to happen: two hosts, real servers, and rules on either side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

HERE, THERE, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3"
HERE6, THERE6, SECOND6 = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3"
# Behind the other host, which forwards.
BEYOND, BEYOND6 = "203.0.113.9", "2001:db8:9::9"
HOSTS = {"4": THERE, "6": THERE6}
ME = {"4": HERE, "6": HERE6}
SOURCES = {"4": SECOND, "6": SECOND6}
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
MODULE = "ansible_collections.palisade.egress.plugins.modules.egress_probe"

TCP, NTP, ECHO, WRONG, SILENT, SECOND_TRY, CLOSED = 7000, 123, 7001, 7002, 514, 7003, 7999

# Serves until it is killed, and tells on its output who came and with what.
SERVER = f"""
import selectors, socket
selector = selectors.DefaultSelector()
seen = set()
def server(kind, port, serve):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        sock.listen(500)
    selector.register(sock, selectors.EVENT_READ, serve)
def accept(sock):
    connection, address = sock.accept()
    print("tcp", address[0], flush=True)
    connection.close()
def datagrams(answer):
    def serve(sock):
        data, address = sock.recvfrom(2000)
        print(sock.getsockname()[1], address[0], data.decode("latin-1"), flush=True)
        reply = answer(data, address)
        if reply is not None:
            sock.sendto(reply, address)
    return serve
def second_try(data, address):
    known = address in seen
    seen.add(address)
    return time_of_day(data, address) if known else None
def time_of_day(data, address):
    return b"\\x24" + bytes(23) + data[40:48] + bytes(16)
server(socket.SOCK_STREAM, {TCP}, accept)
server(socket.SOCK_DGRAM, {ECHO}, datagrams(lambda data, address: data))
server(socket.SOCK_DGRAM, {NTP}, datagrams(time_of_day))
server(socket.SOCK_DGRAM, {WRONG}, datagrams(lambda data, address: b"not what was asked for, by any reading of it"))
server(socket.SOCK_DGRAM, {SILENT}, datagrams(lambda data, address: None))
server(socket.SOCK_DGRAM, {SECOND_TRY}, datagrams(second_try))
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        key.data(key.fileobj)
"""


class Link:
    """Two hosts on one wire; probes are sent ``here``."""

    def __init__(self, here: Namespace, there: Namespace) -> None:
        self.here, self.there = here, there
        here.must(f"ip link add wire type veth peer name wire netns {there.name}")
        for host, addresses in ((here, (HERE, SECOND)), (there, (THERE,))):
            host.must("ip link set lo up")
            host.must("ip link set wire up")
            for address in addresses:
                host.must(f"ip address add {address}/24 dev wire")
        for host, address in ((here, HERE6), (there, THERE6)):
            host.must(f"ip address add {address}/64 dev wire nodad")
        # Which is used only if it is asked for.
        here.must(f"ip address add {SECOND6}/64 dev wire nodad preferred_lft 0")
        here.must(f"ip route add 203.0.113.0/24 via {THERE}")
        here.must(f"ip route add 2001:db8:9::/64 via {THERE6}")
        # Otherwise errors are held back that come more often than one a second.
        there.must("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
        there.must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")

    def route_on(self) -> None:
        """Give the other host a route to what is beyond it."""
        self.there.must("ip route add 203.0.113.0/24 dev wire")
        self.there.must("ip route add 2001:db8:9::/64 dev wire")

    def module(self, probes: list[dict], *wrapper: str, **options: object) -> dict:
        """Run the module for real."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.here.name}", *wrapper, sys.executable, "-m", MODULE],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"probes": probes, **options}}),
            capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )  # fmt: skip
        return json.loads(done.stdout)

    def measure(self, probes: dict[str, dict], **changes: object) -> dict[str, tuple[str, str]]:
        """Return what was measured, and how that is known, by name."""
        results = self.module([{"name": name, **probe, **changes} for name, probe in probes.items()], strict=False)
        assert not results.get("failed"), results["msg"]
        assert [result["name"] for result in results["results"]] == list(probes)
        return {result["name"]: (result["measured"], result["detail"]) for result in results["results"]}


def one_of_each(hosts: dict[str, str] = HOSTS) -> dict[str, dict]:
    """Return probes of each protocol and family that are answered where nothing is in the way."""
    return {
        protocol + family: {"protocol": protocol, "host": host, **options}
        for family, host in hosts.items()
        for protocol, options in (
            ("tcp", {"port": TCP}),
            ("udp", {"port": ECHO, "payload": "dns"}),
            ("icmp", {}),
        )
    }


def rule(chain: str, verdict: str) -> str:
    """Return commands for a chain that does this to all but loopback and neighbour discovery."""
    return f"""
        table inet test {{
            chain {chain} {{
                type filter hook {chain} priority 0; policy accept;
                meta oifname lo accept
                icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
                {verdict}
            }}
        }}"""


@pytest.fixture
def link() -> Iterator[Link]:
    """Return two hosts, and nothing that serves."""
    with namespace() as here, namespace() as there:
        yield Link(here, there)


class Served:
    """What the other host's servers have seen."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def next_line(self) -> str:
        return self._process.stdout.readline().strip()


@pytest.fixture
def served(link: Link) -> Iterator[Served]:
    """Have the servers run on the other host."""
    command = ["nsenter", f"--net=/run/netns/{link.there.name}", sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        server = Served(process)
        assert server.next_line() == "ready"
        yield server
        process.kill()


def test_accepted(link: Link, served: Served) -> None:
    probes = {name: probe for name, probe in one_of_each().items() if "udp" not in name}
    for family, host in HOSTS.items():
        probes["ntp" + family] = {"protocol": "udp", "host": host, "payload": "ntp"}
        probes["none" + family] = {"protocol": "udp", "host": host, "port": ECHO, "payload": "none"}
    assert link.measure(probes) == dict.fromkeys(probes, ("accepted", ""))


def test_a_real_name_server_answers(link: Link) -> None:
    command = ["nsenter", f"--net=/run/netns/{link.there.name}", "dnsmasq", "--no-daemon", "--conf-file=/dev/null",
               "--no-resolv", "--no-hosts", "--user=root", "--address=/probe.example/192.0.2.1"]  # fmt: skip
    probes = {
        name: {"protocol": "udp", "host": host, "payload": "dns", "query": query}
        for name, host, query in (
            ("root", THERE, "."),
            ("known", THERE, "probe.example"),
            ("unknown", THERE, "other.example"),
            ("known over IPv6", THERE6, "probe.example"),
        )
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert "started" in process.stderr.readline()
        measured = link.measure(probes)
        process.kill()
    assert measured == dict.fromkeys(probes, ("accepted", ""))


def test_answers_to_something_else_are_none(link: Link, served: Served) -> None:
    probes = {
        payload + family: {"protocol": "udp", "host": host, "port": WRONG, "payload": payload, "timeout": 0.5}
        for family, host in HOSTS.items()
        for payload in ("dns", "ntp")
    }
    assert link.measure(probes) == dict.fromkeys(probes, ("timed out", "what came back is no answer"))


def test_what_is_lost_is_sent_again(link: Link, served: Served) -> None:
    first = "limit rate 1/hour burst 1 packets drop"
    link.there.nft(rule("input", f"icmp type echo-request {first}\nicmpv6 type echo-request {first}"))
    probes = {"ntp": {"protocol": "udp", "host": THERE, "port": SECOND_TRY, "payload": "ntp", "timeout": 30},
              "ping4": {"protocol": "icmp", "host": THERE, "timeout": 30},
              "ping6": {"protocol": "icmp", "host": THERE6, "timeout": 30}}  # fmt: skip
    assert link.measure(probes) == dict.fromkeys(probes, ("accepted", ""))


def test_payloads_that_nobody_answers_are_sent(link: Link, served: Served) -> None:
    probes = {"4": {"protocol": "udp", "host": THERE, "payload": "syslog"},
              "6": {"protocol": "udp", "host": THERE6, "payload": "none", "port": SILENT}}  # fmt: skip
    assert link.measure(probes) == dict.fromkeys(probes, ("sent", "nothing came back"))
    assert {served.next_line(), served.next_line()} == {
        f"{SILENT} ::ffff:{HERE} <15>1 - - palisade.egress - - - egress probe 4",
        f"{SILENT} {HERE6}",
    }


def test_silent_payloads_to_a_closed_port_are_refused(link: Link) -> None:
    probes = {
        payload + family: {"protocol": "udp", "host": host, "port": CLOSED, "payload": payload}
        for family, host in HOSTS.items()
        for payload in ("dns", "syslog", "none")
    }
    assert link.measure(probes) == {
        name: ("refused", f"port unreachable, says {probe['host']}") for name, probe in probes.items()
    }


def test_nobody_listens(link: Link) -> None:
    probes = one_of_each()
    assert link.measure(probes) == {
        "tcp4": ("reset", ""),
        "tcp6": ("reset", ""),
        "udp4": ("refused", f"port unreachable, says {THERE}"),
        "udp6": ("refused", f"port unreachable, says {THERE6}"),
        "icmp4": ("accepted", ""),
        "icmp6": ("accepted", ""),
    }


def test_dropped_by_own_rules(link: Link, served: Served) -> None:
    link.here.nft(rule("output", "drop"))
    probes = one_of_each()
    by_call = ("blocked here", "Operation not permitted, says this host's kernel")
    assert link.measure(probes) == {
        name: ("blocked here", "no packet left this host") if "tcp" in name else by_call for name in probes
    }


def test_dropped_by_the_other_side(link: Link, served: Served) -> None:
    link.there.nft(rule("input", "drop"))
    probes = one_of_each()
    assert link.measure(probes) == dict.fromkeys(probes, ("timed out", ""))


def test_dropped_datagrams_that_nobody_answers_seem_sent(link: Link, served: Served) -> None:
    link.there.nft(rule("input", "drop"))
    probes = {"4": {"protocol": "udp", "host": THERE, "payload": "syslog", "timeout": 0.5}}
    assert link.measure(probes) == {"4": ("sent", "nothing came back")}


# How a rule rejects | what IPv4 calls it | what IPv6 calls it | how it is measured if the other side says so
REJECTS = [
    ("port-unreachable", "port unreachable", "port unreachable", "refused"),
    ("host-unreachable", "host unreachable", "address unreachable", "unreachable"),
    ("no-route", "network unreachable", "no route", "unreachable"),
    ("admin-prohibited", "administratively prohibited", "administratively prohibited", "unreachable"),
]


@pytest.mark.parametrize(("how", "text4", "text6", "_measured"), REJECTS)
def test_rejected_by_own_rules(link: Link, served: Served, how: str, text4: str, text6: str, _measured: str) -> None:
    link.here.nft(rule("output", f"reject with icmpx type {how}"))
    told = {"4": f"{text4}, says this host itself", "6": f"{text6}, says this host itself"}
    probes = one_of_each()
    assert link.measure(probes) == {name: ("blocked here", told[name[-1]]) for name in probes}


@pytest.mark.parametrize("chain", ["input", "forward"])
@pytest.mark.parametrize(("how", "text4", "text6", "measured"), REJECTS)
def test_rejected_by_somebody_else(link: Link, chain: str, how: str, text4: str, text6: str, measured: str) -> None:
    """Whether by the peer or on the way to it."""
    link.there.nft(rule(chain, f"reject with icmpx type {how}"))
    probes = one_of_each(HOSTS if chain == "input" else {"4": BEYOND, "6": BEYOND6})
    link.route_on()
    told = {"4": f"{text4}, says {THERE}", "6": f"{text6}, says {THERE6}"}
    assert link.measure(probes) == {name: (measured, told[name[-1]]) for name in probes}


@pytest.mark.parametrize(("side", "chain"), [("here", "output"), ("there", "input")])
def test_reset_by_a_rule_on_either_side(link: Link, served: Served, side: str, chain: str) -> None:
    getattr(link, side).nft(rule(chain, "meta l4proto tcp reject with tcp reset"))
    probes = {name: probe for name, probe in one_of_each().items() if "tcp" in name}
    assert link.measure(probes) == dict.fromkeys(probes, ("reset", ""))


def test_the_fence_itself_blocks_and_lets_through(link: Link, served: Served) -> None:
    rules = [
        {"name": "loopback", "chain": "output", "action": "accept", "out_interface": ["lo"]},
        {"name": "discovery", "chain": "output", "action": "accept", "protocol": "icmpv6",
         "icmp_type": ["nd-neighbor-solicit", "nd-neighbor-advert"]},
        {"name": "ntp", "chain": "output", "action": "accept", "protocol": "udp", "destination_ports": ["123"]},
    ]  # fmt: skip
    probes = {f"ntp{family}": {"protocol": "udp", "host": host, "payload": "ntp"} for family, host in HOSTS.items()}
    for default in ("drop", "reject"):
        wanted = decode(rules, {"output": {"default": default}})
        converge(Nftables(link.here.run), wanted, check=False, midstream=False)
        measured = link.measure({**one_of_each(), **probes})
        assert {name: what for name, (what, _how) in measured.items()} == {
            **dict.fromkeys(one_of_each(), "blocked here"),
            **dict.fromkeys(probes, "accepted"),
        }


def test_no_route(link: Link) -> None:
    hosts = {"4": "192.0.2.1", "6": "2001:db8:2::1"}
    probes = one_of_each(hosts)
    assert link.measure(probes) == dict.fromkeys(
        probes, ("unreachable", "Network is unreachable, says this host's kernel")
    )


@pytest.mark.parametrize(
    ("kind", "measured", "text"),
    [
        ("unreachable", "unreachable", "No route to host"),
        ("blackhole", "unreachable", "Invalid argument"),
        ("prohibit", "blocked here", "Permission denied"),
    ],
)
def test_routes_that_lead_nowhere(link: Link, kind: str, measured: str, text: str) -> None:
    link.here.must(f"ip route add {kind} {BEYOND}")
    link.here.must(f"ip route add {kind} {BEYOND6}")
    probes = one_of_each({"4": BEYOND, "6": BEYOND6})
    assert link.measure(probes) == dict.fromkeys(probes, (measured, f"{text}, says this host's kernel"))


def test_a_router_without_a_route(link: Link) -> None:
    probes = one_of_each({"4": BEYOND, "6": BEYOND6})
    told = {"4": f"network unreachable, says {THERE}", "6": f"no route, says {THERE6}"}
    assert link.measure(probes) == {name: ("unreachable", told[name[-1]]) for name in probes}


def test_no_neighbour(link: Link) -> None:
    probes = one_of_each({"4": "198.51.100.99", "6": "2001:db8:1::99"})
    told = {"4": "host unreachable", "6": "address unreachable"}
    assert link.measure(probes, timeout=30) == {
        name: ("unreachable", f"{told[name[-1]]}, says this host itself: the next hop does not answer")
        for name in probes
    }


def test_too_many_hops(link: Link) -> None:
    link.route_on()
    link.here.must("sysctl -qw net.ipv4.ip_default_ttl=1 net.ipv6.conf.wire.hop_limit=1")
    probes = one_of_each({"4": BEYOND, "6": BEYOND6})
    senders = {"4": THERE, "6": THERE6}
    assert link.measure(probes) == {
        name: ("unreachable", f"time exceeded on the way, says {senders[name[-1]]}") for name in probes
    }


def test_a_host_that_has_no_ipv6(link: Link) -> None:
    link.here.must("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    probes = one_of_each({"6": THERE6})
    assert {what for what, _how in link.measure(probes).values()} == {"unreachable"}


def test_source_address(link: Link, served: Served) -> None:
    for family, host in HOSTS.items():
        seen = f"::ffff:{SECOND}" if family == "4" else SECOND6
        tcp = {"protocol": "tcp", "host": host, "port": TCP, "source": SOURCES[family]}
        udp = {"protocol": "udp", "host": host, "port": ECHO, "source": SOURCES[family]}
        ping = {"protocol": "icmp", "host": host, "source": SOURCES[family]}
        assert link.measure({"tcp": tcp}) == {"tcp": ("accepted", "")}
        assert served.next_line() == f"tcp {seen}"
        assert link.measure({"udp": udp}) == {"udp": ("accepted", "")}
        assert served.next_line() == f"{ECHO} {seen}"
        # Only what comes from there is let in.
        link.there.nft(rule("input", f"{'ip' if family == '4' else 'ip6'} saddr != {SOURCES[family]} drop"))
        assert link.measure({"ping": ping}) == {"ping": ("accepted", "")}
        link.there.nft("flush ruleset")


def test_own_rules_are_known_whatever_the_source(link: Link, served: Served) -> None:
    link.here.nft(rule("output", "reject"))
    for family, host in HOSTS.items():
        probes = one_of_each({family: host})
        measured = link.measure(probes, source=SOURCES[family])
        assert measured == dict.fromkeys(probes, ("blocked here", "port unreachable, says this host itself"))


def test_a_probe_to_the_host_itself(link: Link) -> None:
    probes = one_of_each(ME)
    assert link.measure(probes) == {
        "tcp4": ("reset", ""),
        "tcp6": ("reset", ""),
        "udp4": ("refused", f"port unreachable, says {HERE}"),
        "udp6": ("refused", f"port unreachable, says {HERE6}"),
        "icmp4": ("accepted", ""),
        "icmp6": ("accepted", ""),
    }


@pytest.mark.parametrize(("family", "source"), [("4", "198.51.100.77"), ("6", "2001:db8:1::77")])
def test_a_source_that_is_not_ours_is_an_error_before_anything_is_sent(
    link: Link, served: Served, family: str, source: str
) -> None:
    good = {"name": "good", "protocol": "tcp", "host": HOSTS[family], "port": TCP}
    result = link.module([good, {**good, "name": "bad", "source": source}])
    assert result["failed"]
    assert result["msg"] == (
        f"probe 'bad'.source: {source} is no address of this host. "
        "Give an address that it has, or leave the source out."
    )
    assert link.measure({"good": {**good, "source": SOURCES[family]}})["good"][0] == "accepted"
    assert served.next_line().endswith(SOURCES[family])  # and nobody came before


def test_icmp_without_the_right_to_it_is_an_error(link: Link) -> None:
    ping = {"name": "ping", "protocol": "icmp", "host": THERE}
    result = link.module([ping], "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert result["failed"]
    assert result["msg"] == (
        "probe 'ping'.protocol: icmp is for root only. Use become, or a probe of another protocol."
    )


def test_too_few_sockets_are_an_error(link: Link) -> None:
    probes = [{"name": f"p{n}", "protocol": "tcp", "host": THERE, "port": TCP} for n in range(100)]
    result = link.module(probes, "prlimit", "--nofile=60:60")
    assert result["failed"]
    assert "cannot be sent: Too many open files. Mend that, or leave the probe out." in result["msg"]


def test_the_module_fails_with_each_probe_that_is_not_as_expected(link: Link, served: Served) -> None:
    probes = [
        {"name": "open", "protocol": "tcp", "host": THERE, "port": TCP},
        {"name": "shut", "protocol": "tcp", "host": THERE6, "port": CLOSED},
        {"name": "leak", "protocol": "icmp", "host": THERE, "expect": "blocked"},
        {"name": "held", "protocol": "udp", "host": THERE, "port": CLOSED, "payload": "dns", "expect": "blocked"},
    ]
    failed = link.module(probes)
    assert failed["failed"]
    assert failed["msg"] == (
        f"2 of 4 probes failed: shut (tcp {THERE6} port {CLOSED}): expected reachable, measured reset; "
        f"leak (icmp {THERE}): expected blocked, measured accepted"
    )
    assert [result["ok"] for result in failed["results"]] == [True, False, False, True]
    tolerated = link.module(probes, strict=False)
    assert not tolerated.get("failed")
    assert [result["ok"] for result in tolerated["results"]] == [True, False, False, True]


def test_of_a_group_one_has_to_answer(link: Link, served: Served) -> None:
    down, up = ({"protocol": "tcp", "host": THERE, "port": port, "group": "either"} for port in (CLOSED, TCP))
    passed = link.module([{"name": "down", **down}, {"name": "up", **up}])
    assert not passed.get("failed")
    assert [(result["group"], result["ok"]) for result in passed["results"]] == [("either", False), ("either", True)]
    failed = link.module([{"name": "down", **down}, {"name": "down too", **down}, {"name": "up", **up, "group": "up"}])
    assert failed["msg"] == (
        f"2 of 3 probes failed: down (tcp {THERE} port {CLOSED}): expected reachable, measured reset; "
        f"down too (tcp {THERE} port {CLOSED}): expected reachable, measured reset"
    )


def test_a_bad_probe_fails_the_module(link: Link) -> None:
    result = link.module([{"name": "x", "host": "mirror.example.org", "protocol": "tcp", "port": 443}], strict=False)
    assert result["failed"]
    assert result["msg"].startswith("probe 'x' (probes[0]).host: 'mirror.example.org' is not an address. ")


def test_check_mode_probes_as_well(link: Link, served: Served) -> None:
    probes = [{"name": "open", "protocol": "tcp", "host": THERE, "port": TCP}]
    result = link.module(probes, _ansible_check_mode=True)
    assert (result["changed"], result["results"][0]["measured"]) == (False, "accepted")
    assert served.next_line() == f"tcp ::ffff:{HERE}"


def test_hundreds_at_once_take_the_time_of_one(link: Link, served: Served) -> None:
    link.there.nft(rule("input", f"tcp dport {CLOSED} drop\nudp dport {CLOSED} drop"))
    probes, expected = {}, {}
    for number in range(50):
        for name, probe in one_of_each().items():
            if "udp" not in name:
                probes[f"{name}-{number}"], expected[f"{name}-{number}"] = probe, "accepted"
        for family, host in HOSTS.items():
            held = {"protocol": "tcp", "host": host, "port": CLOSED}
            asked = {"protocol": "udp", "host": host, "port": CLOSED, "payload": "ntp"}
            probes.update({f"held{family}-{number}": held, f"asked{family}-{number}": asked})
            expected.update({f"held{family}-{number}": "timed out", f"asked{family}-{number}": "timed out"})
    begun = time.monotonic()
    measured = link.measure(probes, timeout=4)
    assert len(probes) == 400
    assert {name: what for name, (what, _how) in measured.items()} == expected
    # One after the other, those that time out would take 800 seconds.
    assert time.monotonic() - begun < 40
