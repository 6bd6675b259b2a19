# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a router lets pass by real packets, from hosts that have no rules of their own (any more)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from netns.namespace import Namespace
from netns.site import BETWEEN, HOSTS, ROUTER, Site, site
from netns.test_expiry import Clock
from netns.test_flows import Peer

PORT = {"protocol": ["tcp", "udp"], "ports": [7000]}
SHOP = {"service": PORT, "to": "shops"}
WEB: dict[str, Any] = {"web1__allow__web1": [SHOP]}
# Addresses of each family: of IPv4 the first.
FAMILIES = pytest.mark.parametrize("number", [1, 2], ids=["ipv4", "ipv6"])
BOTH = {"ipv4", "ipv6"}


@pytest.fixture(scope="module")
def ours() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_flows(ours: Site) -> None:
    """Forget what other tests began."""
    ours.router.run(["conntrack", "-F"])


def address(host: str, number: int) -> str:
    return str(HOSTS[host][number])


def between(**options: Any) -> dict[str, Any]:
    return {**BETWEEN, **options}


def arrives(ours: Site, where: Namespace, segment: str, data: str, *words: Any, **options: Any) -> bool:
    """Tell whether a forged datagram comes in at a segment."""
    with ours.sniffing(segment) as sniffer:
        ours.forge(where, *words, data, **options)
        return sniffer.saw(data)


def test_row3_each_host_behind_is_held_to_its_own_policy(ours: Site) -> None:
    ours.fence(**WEB)
    with ours.listening(7000, 25):
        assert ours.passes("web1", "shop", 7000)
        assert ours.passes("web1", "shop", 7000, "udp")
        assert not ours.passes("web1", "relay", 7000)
        assert not ours.passes("mail1", "shop", 7000)
        assert not ours.passes("web1", "relay", 25)
        assert ours.passes("mail1", "relay", 25)


def test_row3_who_is_not_managed_is_held_to_its_policy_and_who_is_unknown_says_nothing(ours: Site) -> None:
    ours.fence(printer__allow__printer=[SHOP])
    with ours.listening(7000):
        assert ours.passes("printer", "shop", 7000)
        assert not ours.passes("printer", "relay", 7000)
        before = ours.counted("forward/always/unknown-source")
        assert not ours.passes("stranger", "shop", 7000)
        assert ours.counted("forward/always/unknown-source") > before


def test_hosts_of_equal_policy_share_a_chain_and_routers_differ_by_site(ours: Site) -> None:
    policy = ours.fence(**WEB)
    dispatch = next(rule for rule in policy["rules"] if rule["name"] == "always/outbound")["dispatch"]["source"]
    assert dispatch["198.51.100.13/32"] == dispatch["198.51.100.140/32"] == "from_base"
    assert dispatch["198.51.100.11/32"] == dispatch["2001:db8:1:1::11/128"] == "from_web1"


def test_only_those_named_are_behind(ours: Site) -> None:
    ours.fence(between(behind=["host:web1"]), web1__allow__web1=[SHOP], mail1__allow__mail1=[SHOP])
    with ours.listening(7000):
        assert ours.passes("web1", "shop", 7000)
        assert not ours.passes("mail1", "shop", 7000)


def test_a_segment_reaches_another_as_its_hosts_are_granted(ours: Site) -> None:
    ours.fence(client1__allow__client1=[{"service": PORT, "to": "host:web1"}])
    with ours.listening(7000):
        assert ours.passes("client1", "web1", 7000)
        assert not ours.passes("client1", "mail1", 7000)
        assert not ours.passes("web1", "client1", 7000)


@FAMILIES
def test_row8_sources_have_to_be_where_they_belong(ours: Site, number: int) -> None:
    ours.fence(client1__allow__client1=[SHOP], **WEB)
    shop, web1 = address("shop", number), address("web1", number)
    client1 = address("client1", number)
    assert arrives(ours, ours.servers, "outside", "honest", web1, shop, 7000)
    assert not arrives(ours, ours.servers, "outside", "other segment", client1, shop, 7000)
    assert not arrives(ours, ours.servers, "outside", "far away", address("enemy", number), shop, 7000)
    # What comes in from outside and claims to be from inside, or from nowhere.
    assert arrives(ours, ours.outside, "servers", "from enemy", address("enemy", number), web1, 7000)
    assert not arrives(ours, ours.outside, "servers", "from inside", address("mail1", number), web1, 7000)
    nowhere = ("10.1.2.3", "fd00::3")[number - 1]
    assert not arrives(ours, ours.outside, "servers", "from nowhere", nowhere, web1, 7000)


@FAMILIES
def test_row16_a_spoofed_packet_in_a_live_flow_is_stopped(ours: Site, number: int) -> None:
    """The router knows the flow, and would take the packet for a part of it."""
    ours.fence(client1__allow__client1=[SHOP])
    shop, client1 = address("shop", number), address("client1", number)
    with ours.listening(7000):
        assert arrives(ours, ours.clients, "outside", "begins", client1, shop, 7000)
        assert not arrives(ours, ours.servers, "outside", "hijacks", client1, shop, 7000)
        # Without the check it gets through: only that stops it.
        ours.router.must("nft flush chain inet palisade_egress prerouting")
        assert arrives(ours, ours.servers, "outside", "hijacked", client1, shop, 7000)


@FAMILIES
@pytest.mark.parametrize(("check", "passes"), [("strict", False), ("loose", True), ("off", True)])
def test_the_way_back_is_checked_by_interface(ours: Site, number: int, check: str, passes: bool) -> None:
    """The prefixes allow it, the routes do not lead back there."""
    everything = [prefix for prefixes in BETWEEN["inside"].values() for prefix in prefixes]
    inside = {**BETWEEN["inside"], "servers": {"prefixes": everything, "reverse_path": check}}
    ours.fence({"inside": inside, "outside": ["outside"]}, client1__allow__client1=[SHOP])
    words = (address("client1", number), address("shop", number), 7000)
    assert arrives(ours, ours.servers, "outside", "from elsewhere", *words) is passes


@FAMILIES
def test_what_is_for_special_use_is_not_met_outside_unless_declared(ours: Site, number: int) -> None:
    special = ("10.1.2.3", "fd00::3")[number - 1]
    anywhere = {"service": PORT, "to": "any"}
    web1 = address("web1", number)
    ours.router.must(f"ip {'-6 ' if number == 2 else ''}route replace {special} via {address('shop', number)}")
    ours.fence(web1__allow__web1=[anywhere])
    assert not arrives(ours, ours.servers, "outside", "outward", web1, special, 7000)
    assert not arrives(ours, ours.outside, "servers", "inward", special, web1, 7000)
    ours.fence(
        between(outside={"outside": {"special_use": ["10.1.2.0/24", "fd00::/64"]}}), web1__allow__web1=[anywhere]
    )
    assert arrives(ours, ours.servers, "outside", "outward", web1, special, 7000)
    assert arrives(ours, ours.outside, "servers", "inward", special, web1, 7000)


def test_guard_lets_in_what_begins_outside_and_nothing_without_syn(ours: Site) -> None:
    ours.fence(**WEB)
    with ours.listening(7000):
        assert ours.passes("enemy", "mail1", 7000)
        assert not ours.passes("mail1", "enemy", 7000)
    # A connection that the router has forgotten is not taken for one that began outside.
    inner, outer = Peer(ours.servers), Peer(ours.outside)
    try:
        assert outer("listen c 203.0.113.20 7001") == "done"
        ours.fence(web1__allow__web1=[{"service": {"protocol": "tcp", "ports": [7001]}, "to": "shops"}])
        assert inner("dial c 203.0.113.20 7001") == "done"
        assert outer("accept c c") == "done"
        ours.router.must("conntrack -F")
        outer("send c")
        assert inner("receive c 1") == "nothing"
        assert ours.counted("forward/always/no-syn") > 0
    finally:
        inner.end()
        outer.end()


def test_closed_lets_in_what_hosts_accept(ours: Site) -> None:
    ours.fence(between(inbound="closed"), **WEB, web1__accept__web1=[{"service": PORT, "from": "host:relay"}])
    with ours.listening(7000):
        assert ours.passes("relay", "web1", 7000)
        assert not ours.passes("enemy", "web1", 7000)
        assert not ours.passes("relay", "mail1", 7000)
        assert ours.passes("web1", "shop", 7000)


@FAMILIES
def test_row9_icmp_passes_as_hosts_may_send_it_and_where_closed_as_the_router_lets_it_in(
    ours: Site, number: int
) -> None:
    def pings(source: str, target: str) -> bool:
        command = ["ping", "-c", "1", "-W", "1", "-I", address(source, number), address(target, number)]
        return ours.where(source).run(command).code == 0

    ours.fence(between(inbound="closed"), router1__icmp={"in": []}, mail1__icmp={"out": []})
    assert pings("web1", "shop")
    assert not pings("mail1", "shop")
    assert not pings("shop", "web1")
    ours.fence(between(inbound="closed"))
    assert pings("shop", "web1")


def test_forbids_beat_grants_and_waivers_exempt(ours: Site) -> None:
    anything = {"service": {"protocol": ["tcp", "udp"], "ports": ["7000-7100"]}, "to": "any"}
    forbid = {"name": "f", "service": PORT}
    waiver = {"service": PORT, "to": "host:shop", "forbid": "web1/f", "reason": "r", "owner": "o"}
    later = Clock(3600).text
    both = {"web1__allow__web1": [anything], "web1__forbid__web1": [forbid]}
    ours.fence(**both)
    with ours.listening(7000, 7050):
        assert ours.passes("web1", "relay", 7050)
        assert not ours.passes("web1", "relay", 7000)
        ours.fence(**both, web1__waivers__web1=[{**waiver, "expires": later}])
        assert ours.passes("web1", "shop", 7000)
        assert not ours.passes("web1", "relay", 7000)


def test_what_a_grant_binds_to_owner_or_interface_passes_for_the_whole_host(ours: Site) -> None:
    ours.fence(web1__allow__web1=[{**SHOP, "user": "postfix", "interface": "eth7"}])
    with ours.listening(7000):
        assert ours.passes("web1", "shop", 7000)


def test_a_bound_on_new_flows_counts_for_each_host(ours: Site) -> None:
    bound = {**SHOP, "limit": {"rate": "1/hour", "burst": 2}}
    ours.fence(allow__all=[bound])
    with ours.listening(7000):
        for host in ("printer", "client1"):
            answers = [ours.reaches(host, "shop", 7000, wait=0.3)["ipv4"] for _attempt in range(4)]
            assert answers == ["answered", "answered", "silent", "silent"]


def test_flows_end_with_what_let_them_begin(ours: Site) -> None:
    soon = Clock()
    ours.fence(web1__allow__web1=[{**SHOP, "expires": soon.text}])
    inner, outer = Peer(ours.servers), Peer(ours.outside)
    try:
        assert outer("listen c 203.0.113.20 7000") == "done"
        assert inner("dial c 203.0.113.20 7000") == "done"
        assert outer("accept c c") == "done"
        inner("send c")
        assert outer("receive c 2") == "got"
        soon.wait()
        inner("send c")
        assert outer("receive c 1") == "nothing"
    finally:
        inner.end()
        outer.end()


def test_live_flows_end_when_the_policy_tightens_and_published_ones_live_on(ours: Site) -> None:
    """The published server is reached at the router's own address, which is translated by somebody else's rules."""
    ours.router.nft("""table ip theirs {
        chain prerouting { type nat hook prerouting priority dstnat; tcp dport 8443 dnat to 198.51.100.12:7000; }
        chain postrouting { type nat hook postrouting priority srcnat; oifname outside masquerade; }
    }""")
    inner, outer = Peer(ours.servers), Peer(ours.outside)
    closed = between(inbound="closed")
    published = {"mail1__accept__mail1": [{"service": PORT, "from": "internet"}], "router1__input": "closed"}
    try:
        ours.fence(closed, **WEB, **published)
        assert outer("listen out 203.0.113.20 7000") == "done"
        assert inner("dial out 203.0.113.20 7000") == "done"
        assert outer("accept out out") == "done"
        assert inner("listen in 198.51.100.12 7000") == "done"
        assert outer(f"dial in {ROUTER['outside'][0]} 8443") == "done"
        assert inner("accept in in") == "done"
        # Masqueraded, as theirs says.
        assert "203.0.113.2" in ours.router.must("conntrack -L -p tcp --dport 7000")
        ours.fence(closed, **published)
        outer("send in")
        assert inner("receive in 2") == "got"
        inner("send out")
        assert outer("receive out 1") == "nothing"
        ours.fence(closed, router1__input="closed")
        outer("send in")
        assert inner("receive in 1") == "nothing"
    finally:
        inner.end()
        outer.end()
        ours.router.must("nft delete table ip theirs")


def test_who_is_in_audit_passes_and_is_counted_and_others_are_held(ours: Site) -> None:
    ours.fence(printer__mode="audit")
    with ours.listening(7000):
        assert ours.passes("printer", "shop", 7000)
        assert not ours.passes("web1", "shop", 7000)
    ours.fence(router1__mode="audit")
    with ours.listening(7000):
        assert ours.passes("web1", "shop", 7000)
        assert ours.passes("stranger", "shop", 7000)


def test_row7_who_is_rejected_is_told_so_by_the_router(ours: Site) -> None:
    ours.fence(router1__default_verdict="reject")
    with ours.listening(7000):
        assert set(ours.reaches("web1", "shop", 7000, wait=2).values()) == {"ECONNREFUSED"}


@FAMILIES
def test_paths_with_a_small_mtu_are_found(ours: Site, number: int) -> None:
    """The router tells who sends too much; a datagram of that size arrives once they know."""
    ours.fence(**WEB)
    big = "x" * 1400
    ours.router.must("ip link set outside mtu 1300")
    try:
        code = (
            "import socket, sys, time\n"
            f"s = socket.socket(socket.AF_INET6 if {number} == 2 else socket.AF_INET, socket.SOCK_DGRAM)\n"
            "s.setsockopt(0, 10, 2) if s.family == socket.AF_INET else s.setsockopt(41, 23, 2)\n"  # MTU discovery: do
            f"s.bind(('{address('web1', number)}', 0)); s.connect(('{address('shop', number)}', 7000))\n"
            f"s.send(b'{big}'); time.sleep(0.5)\n"
            "try:\n    s.send(b'y' * 1400); s.send(b'y' * 1400)\n"
            "except OSError as error: print(error.errno)"
        )
        assert _python(ours.servers, code) == "90"
    finally:
        ours.router.must("ip link set outside mtu 1500")


def _python(where: Namespace, code: str) -> str:
    done = where.run([sys.executable, "-c", code])
    assert done.code == 0, done.error
    return done.output.strip()


def test_row7_resets_pass_the_router_that_gives_them(ours: Site) -> None:
    """They seem to come from who was called, an address that is not the router's own."""
    ours.fence(router1__default_verdict="reject", router1__reject_with="tcp-reset")
    with ours.listening(7000):
        assert set(ours.reaches("web1", "shop", 7000, wait=2).values()) == {"ECONNREFUSED"}
    assert ours.counted("output/always/reset-for-others") > 0


@FAMILIES
def test_private_addresses_leave_by_a_router_that_translates_them(ours: Site, number: int) -> None:
    """Translation is somebody else's and comes behind ours: they are held by their prefixes."""
    family, tool, whole = (("ip", "ip -4", 32), ("ip6", "ip -6", 128))[number - 1]
    private, prefix = (("10.7.0.5", "10.7.0.0/24"), ("fd00:7::5", "fd00:7::/64"))[number - 1]
    ours.servers.must(f"{tool} address add {private}/{whole} dev wire")
    ours.router.must(f"{tool} route add {prefix} via {address('web1', number)}")
    ours.router.nft(f"""table {family} theirs {{
        chain postrouting {{
            type nat hook postrouting priority srcnat
            {family} saddr {prefix} oifname outside masquerade
        }}
    }}""")
    inside = {**BETWEEN["inside"], "servers": [*BETWEEN["inside"]["servers"], "10.7.0.0/24", "fd00:7::/64"]}
    try:
        mine = {"printer__addresses": [private], "printer__allow__printer": [SHOP]}
        ours.fence({"inside": inside, "outside": ["outside"]}, **mine)
        assert arrives(ours, ours.servers, "outside", "translated", private, address("shop", number), 7000)
        assert not arrives(ours, ours.servers, "outside", "refused", private, address("relay", number), 7000)
    finally:
        ours.router.must(f"nft delete table {family} theirs")
        ours.router.must(f"{tool} route del {prefix}")
        ours.servers.must(f"{tool} address del {private}/{whole} dev wire")
