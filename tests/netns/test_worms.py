# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Worms, floods and spyware on a host: what escapes of them, by a sniffer, and what the counters of its rules say.

The far end of the wire stands for the site's router: all that is for other networks gets there, and no further.
"""

from __future__ import annotations

from typing import Any

import pytest
from netns.sniffer import SYN, Seen, Sniffer, packet, send_raw, sniffing, spray
from netns.test_closed import OTHER, OTHER6
from netns.test_expiry import apply as compile_and_apply
from netns.test_flows import HERE, HERE6, THERE, THERE6, Link, link
from netns.test_log import counted

__all__ = ["link"]

HOSTS = 200
# An internet of documentation addresses, and what is known of it.
STRANGERS = {
    "ipv4": [f"203.0.113.{last}" for last in range(1, HOSTS + 1)],
    "ipv6": [f"2001:db8:2::{last:x}" for last in range(1, HOSTS + 1)],
}
STRANGER = {family: hosts[65] for family, hosts in STRANGERS.items()}
MIRROR, PROXY, RESOLVER = ({family: hosts[n] for family, hosts in STRANGERS.items()} for n in (19, 20, 52))
NETWORKS = {
    "internet": ["203.0.113.0/24", "2001:db8:2::/64"],
    "resolvers": list(RESOLVER.values()),
    "time_servers": [],
    "mirrors": list(MIRROR.values()),
    "proxies": list(PROXY.values()),
    "peer": [THERE, THERE6],
}
FAMILY = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
LOCAL = {"ipv4": HERE, "ipv6": HERE6}
PEER = {"ipv4": THERE, "ipv6": THERE6}
ANOTHER = {"ipv4": OTHER, "ipv6": OTHER6}
# So slow that no bucket gets another drop while a test runs.
BURST = 10
SLOW = {"rate": "1/hour", "burst": BURST}


@pytest.fixture
def site(link: Link) -> Link:
    """Return a host whose way to everywhere leads over the wire, where nobody but the neighbour answers."""
    for host, gateways in ((link.here, (THERE, THERE6)), (link.there, ())):
        for gateway in gateways:
            host.must(f"ip route add default via {gateway}")
    for gateway in (THERE, THERE6):
        assert link.here.run(["ping", "-c", "1", "-W", "2", gateway]).code == 0
    return link


def apply(link: Link, profile: str, allow: Any = (), **variables: Any) -> None:
    """Have the host be one of a profile, on a site whose networks are known."""
    given = {"networks": NETWORKS, **variables}
    groups = {"all": ["here"], profile: ["here"]}
    compile_and_apply(link, list(allow), groups, **given)
    assert compile_and_apply(link, list(allow), groups, **given)["changed"] is False


def tcp(*ports: int | str) -> dict[str, Any]:
    return {"protocol": "tcp", "ports": list(ports)}


def udp(*ports: int | str) -> dict[str, Any]:
    return {"protocol": "udp", "ports": list(ports)}


def at(hosts: list[str], port: int) -> list[tuple[str, int]]:
    return [(host, port) for host in hosts]


def begun(seen: list[Seen], port: int) -> set[str]:
    """Return to whom connections, or datagrams, at a port have escaped."""
    return {p.destination for p in seen if p.port == port and (p.protocol == "udp" or p.flags == SYN)}


def escapes_without_rules(link: Link, sniffer: Sniffer, kind: str, targets: list[tuple[str, int]]) -> bool:
    """Tell whether all of it is on the wire where nothing stops it: else a test would show nothing."""
    spray(link.here, kind, targets)
    return {(p.destination, p.port) for p in sniffer.escaped()} >= set(targets)


# --- worms ---


@FAMILY
def test_row16_slammer_finds_no_way_out_of_a_database(site: Link, family: str) -> None:
    targets = at(STRANGERS[family], 1434)
    with sniffing(site) as sniffer:
        assert escapes_without_rules(site, sniffer, "udp", targets)
        apply(site, "database")
        spray(site.here, "udp", targets)
        assert sniffer.escaped() == []
    assert counted(site, "output/palisade/default") == HOSTS


@FAMILY
def test_row16_slammer_is_forbidden_even_where_everything_is_granted(site: Link, family: str) -> None:
    apply(site, "workstation", [{"service": "any", "to": "any"}])
    with sniffing(site) as sniffer:
        spray(site.here, "udp", at(STRANGERS[family], 1434))
        spray(site.here, "udp", at(STRANGERS[family][:5], 1435))
        assert begun(sniffer.escaped(), 1435) == set(STRANGERS[family][:5])
        assert sniffer.escaped() == []
    assert counted(site, "output/forbid/workstation/worms/udp") == HOSTS
    assert counted(site, "output/here/any") == 5


@FAMILY
def test_row16_code_red_reaches_from_a_web_server_what_is_granted_and_no_more(site: Link, family: str) -> None:
    targets = at(STRANGERS[family], 80)
    with sniffing(site) as sniffer:
        assert escapes_without_rules(site, sniffer, "tcp", targets)
        apply(site, "web")
        spray(site.here, "tcp", targets)
        assert begun(sniffer.escaped(), 80) == {MIRROR[family]}
    assert counted(site, "output/base/http") == 1
    assert counted(site, "output/palisade/default") == HOSTS - 1


@FAMILY
def test_row16_slapper_comes_in_and_does_not_get_out(site: Link, family: str) -> None:
    apply(site, "web")
    site.connect("https", LOCAL[family], 443)
    assert site.lives("https")
    with sniffing(site) as sniffer:
        spray(site.here, "tcp", at(STRANGERS[family], 443))
        spray(site.here, "udp", at(STRANGERS[family], 2002))
        seen = sniffer.escaped()
    assert begun(seen, 443) == {MIRROR[family]}
    assert begun(seen, 2002) == set()
    assert counted(site, "output/base/https") == 1
    assert counted(site, "output/palisade/default") == 2 * HOSTS - 1
    assert site.lives("https")  # who was served goes on


@FAMILY
def test_row16_spyware_does_not_phone_home(site: Link, family: str) -> None:
    home = STRANGER[family]
    beacons = [("tcp", 443), ("tcp", 6667), ("tcp", 23), ("udp", 53), ("udp", 69), ("tcp", 25)]
    with sniffing(site) as sniffer:
        for kind, port in beacons:
            assert escapes_without_rules(site, sniffer, kind, [(home, port)])
        apply(site, "workstation")
        for kind, port in beacons:
            spray(site.here, kind, [(home, port)])
        spray(site.here, "tcp", [(PROXY[family], 3128)])
        spray(site.here, "udp", [(RESOLVER[family], 53)])
        assert {(p.destination, p.port) for p in sniffer.escaped()} == {(PROXY[family], 3128), (RESOLVER[family], 53)}
    for rule, packets in (
        ("forbid/workstation/remote-control", 2),
        ("forbid/workstation/dns/udp", 1),
        ("forbid/workstation/tftp", 1),
        ("forbid/workstation/smtp", 1),
        ("palisade/default", 1),
    ):
        assert counted(site, f"output/{rule}") == packets, rule


# --- scanners and floods by services that are granted, within their limits ---


@FAMILY
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_row16_a_scanner_is_bounded_by_a_limit_on_all(site: Link, kind: str, family: str) -> None:
    service = {"protocol": kind, "ports": [8443]}
    with sniffing(site) as sniffer:
        for per, hosts in (("destination", HOSTS), ("none", BURST)):  # each destination is a new one to a scanner
            apply(site, "web", [{"service": service, "to": "internet", "limit": {**SLOW, "per": per}}])
            spray(site.here, kind, at(STRANGERS[family], 8443))
            assert begun(sniffer.escaped(), 8443) == set(STRANGERS[family][:hosts])
    assert counted(site, f"output/here/{kind}-8443") == HOSTS + BURST
    assert counted(site, "output/palisade/default") == HOSTS - BURST


@FAMILY
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_row16_a_scanner_of_ports_is_bounded_by_a_limit_per_destination(site: Link, kind: str, family: str) -> None:
    service = {"protocol": kind, "ports": ["1-65535"]}
    apply(site, "monitoring", [{"service": service, "to": "peer", "limit": {**SLOW, "per": "destination"}}])
    with sniffing(site) as sniffer:
        spray(site.here, kind, [(PEER[family], port) for port in range(10000, 10000 + HOSTS)])
        seen = {p.port for p in sniffer.escaped() if p.protocol == kind and p.destination == PEER[family]}
    assert seen == set(range(10000, 10000 + BURST))
    assert counted(site, "output/palisade/default") == HOSTS - BURST


@FAMILY
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_row16_a_flood_of_one_victim_is_bounded_and_others_are_reached(site: Link, kind: str, family: str) -> None:
    service = {"protocol": kind, "ports": [7000]}
    apply(site, "web", [{"service": service, "to": "internet", "limit": {**SLOW, "per": "destination"}}])
    victim, others = STRANGER[family], STRANGERS[family][:BURST]
    with sniffing(site) as sniffer:
        spray(site.here, kind, [(victim, 7000)] * 500)
        seen = sniffer.escaped()
        assert {p.destination for p in seen} == {victim}
        assert len(seen) == BURST
        spray(site.here, kind, at(others, 7000))
        assert begun(sniffer.escaped(), 7000) == set(others)
    assert counted(site, "output/palisade/default") == 500 - BURST


@FAMILY
def test_row16_a_syn_flood_is_bounded_while_connections_go_on(site: Link, family: str) -> None:
    apply(site, "web", [{"service": tcp(7000), "to": ["internet", "peer"], "limit": {**SLOW, "burst": BURST + 1}}])
    site.connect("open", PEER[family], 7000)
    with sniffing(site) as sniffer:
        spray(site.here, "tcp", [(STRANGER[family], 7000)] * 500)
        assert len([p for p in sniffer.escaped() if p.flags == SYN]) == BURST
    assert site.lives("open")
    assert counted(site, "output/palisade/default") == 500 - BURST


@FAMILY
def test_row16_a_flood_of_forged_syns_from_a_raw_socket_is_bounded_too(site: Link, family: str) -> None:
    apply(site, "web", [{"service": tcp(7000), "to": "internet", "limit": SLOW}])
    syns = [
        packet("tcp", LOCAL[family], STRANGER[family], port, 7000, tcp_flags=("syn",)) for port in range(1024, 1324)
    ]
    with sniffing(site) as sniffer:
        send_raw(site.here, syns)
        assert len(sniffer.escaped()) == BURST


@FAMILY
def test_row16_a_flood_of_datagrams_that_nobody_answers_is_bounded_in_one_flow_too(site: Link, family: str) -> None:
    apply(site, "web", [{"service": udp(7000), "to": "internet", "limit": SLOW}])
    with sniffing(site) as sniffer:
        spray(site.here, "udp", [(STRANGER[family], 7000)], again=500)
        assert len(sniffer.escaped()) == BURST
    assert counted(site, "output/palisade/default") == 500 - BURST


@FAMILY
def test_row16_a_limit_per_source_bounds_who_floods_and_nobody_else(site: Link, family: str) -> None:
    site.there.must(f"ip address add {OTHER}/24 dev wire")
    site.there.must(f"ip address add {OTHER6}/64 dev wire nodad preferred_lft 0")
    accept = {"service": tcp(7000), "from": "any", "limit": {**SLOW, "per": "source"}}
    apply(site, "web", input="closed", accept__here=[accept], guard=False)
    to, other = LOCAL[family], ANOTHER[family]
    flood = [packet("tcp", other, to, port, 7000, tcp_flags=("syn",)) for port in range(1024, 1324)]
    assert site.near(f"listen x {to} 7000") == "done"
    send_raw(site.there, flood)
    assert counted(site, "input/accept/here/tcp-7000") == BURST
    assert counted(site, "input/palisade/default") == 300 - BURST
    assert site.far(f"dial x {to} 7000") == "done"


# --- reflection: a host that answers for a victim, and one that asks in its name ---

ANSWERS = """
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("", {port}))
print("up", flush=True)
while True:
    data, peer = s.recvfrom(999)
    s.sendto(data * 50, peer)
"""


def queries(family: str, port: int, source: str, source_ports: range) -> list[bytes]:
    return [packet("udp", source, LOCAL[family], source_port, port) for source_port in source_ports]


@FAMILY
@pytest.mark.parametrize(("name", "port"), [("dns", 53), ("ntp", 123)])
def test_row16_a_host_does_not_answer_in_place_of_a_victim(site: Link, name: str, port: int, family: str) -> None:
    victim = STRANGER[family]
    asked = queries(family, port, victim, range(1024, 1124))
    with sniffing(site) as sniffer, site.background(site.here, ANSWERS.format(port=port)):
        apply(site, "database", input="guard")
        send_raw(site.there, asked)
        seen = sniffer.escaped(answers=100)
        assert {p.destination for p in seen} == {victim}
        assert sum(p.size for p in seen) > 5 * sum(map(len, asked))  # what makes it worth while
        apply(site, "database", input="closed", accept__here=[{"service": name, "from": "peer"}], guard=False)
        send_raw(site.there, queries(family, port, victim, range(2024, 2124)))
        assert sniffer.escaped() == []
        send_raw(site.there, queries(family, port, PEER[family], range(1024, 1025)))
        assert {p.destination for p in sniffer.escaped(answers=1)} == {PEER[family]}
    assert counted(site, "input/palisade/default") == 100


@FAMILY
def test_row16_who_answers_everybody_answers_a_victim_as_often_as_its_limit_says(site: Link, family: str) -> None:
    accept = {"service": udp(53), "from": "any", "limit": {**SLOW, "per": "source"}}
    apply(site, "database", input="closed", accept__here=[accept], guard=False)
    with sniffing(site) as sniffer, site.background(site.here, ANSWERS.format(port=53)):
        send_raw(site.there, queries(family, 53, STRANGER[family], range(1024, 1324)))
        assert len(sniffer.escaped(answers=BURST)) == BURST
        # A limit counts flows: what is asked in one that has been answered is answered.
        send_raw(site.there, queries(family, 53, STRANGER[family], range(1024, 1025)) * 20)
        assert len(sniffer.escaped(answers=20)) == 20
    assert counted(site, "input/palisade/default") == 300 - BURST


@FAMILY
@pytest.mark.parametrize(("name", "port"), [("dns", 53), ("ntp", 123)])
def test_row16_a_host_does_not_ask_in_the_name_of_a_victim(site: Link, name: str, port: int, family: str) -> None:
    victim, server = STRANGER[family], RESOLVER[family]
    asked = [packet("udp", victim, server, source_port, port) for source_port in range(1024, 1124)]
    with sniffing(site) as sniffer:
        send_raw(site.here, asked)
        assert len(sniffer.escaped()) == 100
        apply(site, "database", [{"service": name, "to": "any"}])
        send_raw(site.here, asked)
        assert sniffer.escaped() == []
        send_raw(site.here, [packet("udp", LOCAL[family], server, 1024, port)])
        assert len(sniffer.escaped()) == 1
    assert counted(site, "own/spoofed_output/always/spoofed-source") == 100
