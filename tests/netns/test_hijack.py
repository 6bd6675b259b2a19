# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forged packets inside of live flows: what conntrack knows as established is stopped for its source all the same."""

from __future__ import annotations

import sys

import pytest
from netns.namespace import Namespace
from netns.sniffer import Seen, packet, send_frames, send_raw, sniffing
from netns.test_closed import apply
from netns.test_flows import HERE, HERE6, THERE, THERE6, Link, link
from netns.test_log import counted
from netns.test_worms import ANSWERS

__all__ = ["link"]

# An address that the host has when a flow begins, and loses while it lives.
LOST, LOST6 = "198.51.100.9", "2001:db8:1::9"
FAMILIES = pytest.mark.parametrize(
    ("here", "there", "lost"), [(HERE, THERE, LOST), (HERE6, THERE6, LOST6)], ids=["ipv4", "ipv6"]
)
KINDS = pytest.mark.parametrize("kind", ["tcp", "udp"])
NEAR, FAR = 5000, 7000
ALLOW = [{"service": {"protocol": ["tcp", "udp"], "ports": [FAR]}, "to": "peer"}]
# Begins a flow with these ports that is answered, and leaves it to conntrack.
BEGIN = """
import socket, sys
kind, source, to, near, far = sys.argv[1:]
end = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, getattr(socket, kind))
end.settimeout(5)
end.bind((source, int(near)))
end.connect((to, int(far)))
if kind == "SOCK_DGRAM":
    end.send(b"x")
    end.recv(9)
else:
    end.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: it is closed without a word
"""
# Nobody but the sniffer hears what comes then, so that no reset ends the flow.
DEAF = "table inet deaf { chain input { type filter hook input priority 0; tcp dport 7000 drop; }; }\n"


@pytest.fixture
def liberal(link: Link) -> Link:
    """Return two hosts of which one has one more address; its conntrack does not ask for windows, as if all fit."""
    link.here.must("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
    for address, length in ((LOST, 24), (LOST6, 64)):
        link.here.must(f"ip address add {address}/{length} dev wire" + (" nodad" if ":" in address else ""))
    return link


def forged(kind: str, source: str, to: str, ports: tuple[int, int] = (NEAR, FAR)) -> list[bytes]:
    return [packet(kind, source, to, *ports, **({"tcp_flags": ("ack", "psh")} if kind == "tcp" else {}))] * 5


def from_there(seen: list[Seen], source: str) -> int:
    return len([p for p in seen if p.source == source and p.source_port == NEAR])


def begin(link: Link, kind: str, source: str, to: str) -> None:
    """Have a flow begin here that is answered there."""
    words = [source, to, str(NEAR), str(FAR)]
    if kind == "tcp":
        assert link.far(f"listen flow {to} {FAR}") == "done"
        done = link.here.run([sys.executable, "-c", BEGIN, "SOCK_STREAM", *words])
        link.there.nft(DEAF)
    else:
        with link.background(link.there, ANSWERS.format(port=FAR)):
            done = link.here.run([sys.executable, "-c", BEGIN, "SOCK_DGRAM", *words])
    assert done.code == 0, done.error


def lose(where: Namespace, address: str) -> None:
    where.must(f"ip address del {address}/{64 if ':' in address else 24} dev wire")


@FAMILIES
@KINDS
def test_row16_a_source_that_the_host_has_lost_is_stopped_in_a_live_flow(
    liberal: Link, kind: str, here: str, there: str, lost: str
) -> None:
    apply(liberal, input="guard", allow__here=ALLOW)
    with sniffing(liberal) as sniffer:
        begin(liberal, kind, lost, there)
        assert from_there(sniffer.escaped(), lost) > 0
        before = counted(liberal, "output/always/established")
        send_raw(liberal.here, forged(kind, lost, there))
        assert from_there(sniffer.escaped(), lost) == 5
        assert counted(liberal, "output/always/established") == before + 5  # the flow does live
        lose(liberal.here, lost)
        send_raw(liberal.here, forged(kind, lost, there))
        assert from_there(sniffer.escaped(), lost) == 0
    assert counted(liberal, "output/always/established") == before + 5
    assert counted(liberal, "own/spoofed_output/always/spoofed-source") == 5


@FAMILIES
@KINDS
def test_row16_without_the_check_of_sources_it_would_get_out(
    liberal: Link, kind: str, here: str, there: str, lost: str
) -> None:
    apply(liberal, input="guard", allow__here=ALLOW)
    begin(liberal, kind, lost, there)
    lose(liberal.here, lost)
    rules = liberal.here.must("nft -a list chain inet palisade_egress output").splitlines()
    (check,) = [line.rpartition(" ")[2] for line in rules if "jump own/spoofed_output" in line]
    liberal.here.must(f"nft delete rule inet palisade_egress output handle {check}")
    with sniffing(liberal) as sniffer:
        send_raw(liberal.here, forged(kind, lost, there))
        assert from_there(sniffer.escaped(), lost) == 5


@FAMILIES
@KINDS
def test_row16_a_packet_socket_gets_past_every_host_firewall_and_is_for_the_border(
    liberal: Link, kind: str, here: str, there: str, lost: str
) -> None:
    apply(liberal, input="closed")
    lose(liberal.here, lost)
    with sniffing(liberal) as sniffer:
        send_raw(liberal.here, forged(kind, lost, there))
        assert from_there(sniffer.escaped(), lost) == 0
        send_frames(liberal.here, liberal.there, forged(kind, lost, there))
        assert from_there(sniffer.escaped(), lost) == 5


# Two sockets of the host that talk to each other, by its own address: what comes in beside what they say.
TALK = """
import select
family = socket.AF_INET6 if ":" in "{here}" else socket.AF_INET
one, two = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
one.bind(("{here}", 5000))
two.bind(("{here}", 7000))
one.sendto(b"x", ("{here}", 7000))
two.sendto(b"x", two.recvfrom(9)[1])
print("up", flush=True)
print("forged" if select.select([two], [], [], 2)[0] else "nothing", flush=True)
"""


@FAMILIES
@pytest.mark.parametrize("mode", ["guard", "closed", "off"])
def test_row8_what_claims_to_be_from_the_host_itself_is_dropped_in_a_live_flow(
    link: Link, mode: str, here: str, there: str, lost: str
) -> None:
    # The kernel itself drops such packets of IPv4, unless it is told to accept them.
    link.here.must("sysctl -qw net.ipv4.conf.wire.accept_local=1")
    apply(link, input=mode)
    with link.background(link.here, TALK.format(here=here)) as talk:
        send_frames(link.there, link.here, forged("udp", here, here))
        assert talk.stdout.readline().strip() == ("forged" if mode == "off" else "nothing")
    if mode != "off":
        assert counted(link, "input/always/spoofed-source") == 5
