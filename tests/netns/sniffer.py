# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending packets as worms do, and listening on the wire to what of them has escaped."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from netns._differential_net import ETH_P_ALL, PACKET_OUTGOING, inside
from netns._differential_packets import Sent, number, render
from netns.namespace import Namespace
from netns.test_flows import THERE, Link

from ansible_collections.palisade.egress.plugins.module_utils._values import PROTOCOL_NAMES

_RCVBUFFORCE = 33
_PATIENCE = 5.0  # seconds: how long a packet may take from one end of the wire to the other
SYN = 2


@dataclass(frozen=True)
class Seen:
    """A packet of TCP or UDP as it was on the wire."""

    protocol: str
    source: str
    destination: str
    source_port: int
    port: int
    flags: int
    size: int


class Sniffer:
    """All that arrives on the wire at the far host."""

    def __init__(self, link: Link) -> None:
        self._link = link
        with inside(link.there.name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 25)
        self._socket.bind(("wire", ETH_P_ALL))
        self._socket.setblocking(False)

    def escaped(self, answers: int = 0) -> list[Seen]:
        """Return the packets of TCP and UDP since the last time that were sent before now, and wait for ``answers``."""
        found = self._until_ping()
        deadline = time.monotonic() + _PATIENCE
        while len(found) < answers and time.monotonic() < deadline:
            found += self._until_ping()
        return found

    def _until_ping(self) -> list[Seen]:
        found: list[Seen] = []
        ping = self._link.here.run(["ping", "-c", "1", "-W", "2", THERE])
        assert ping.code == 0, ping.error
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                data, address = self._socket.recvfrom(65536)
                if address[2] == PACKET_OUTGOING:
                    continue
                if data[0] >> 4 == 4 and data[9] == 1:
                    return found
                found += _seen(data)
        raise AssertionError("the ping has not come")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def sniffing(link: Link) -> Iterator[Sniffer]:
    """Listen for as long as a test takes, and no longer than its namespaces live."""
    sniffer = Sniffer(link)
    try:
        yield sniffer
    finally:
        sniffer.close()


def _seen(data: bytes) -> Iterator[Seen]:
    if data[0] >> 4 == 4 and data[:2] != b"\0\1":
        protocol, source, destination, body = data[9], data[12:16], data[16:20], data[20:]
    elif data[0] >> 4 == 6:
        protocol, source, destination, body = data[6], data[8:24], data[24:40], data[40:]
    else:
        return
    name = PROTOCOL_NAMES.get(protocol, "")
    if name in ("tcp", "udp"):
        ports = struct.unpack_from("!HH", body)
        flags = body[13] if name == "tcp" else 0
        yield Seen(name, str(ip_address(source)), str(ip_address(destination)), *ports, flags, len(data))


def spray(where: Namespace, kind: str, targets: Iterable[tuple[str, int]], *, again: int = 1) -> None:
    """Have one process send to address and port after address and port, as fast as it can and whatever it is told.

    Each is a flow of its own: a connection that is given up at once, or a datagram from a socket of its own; of
    datagrams ``again`` and again.
    """
    with inside(where.name):
        for to, port in targets:
            version = socket.AF_INET6 if ":" in to else socket.AF_INET
            with socket.socket(version, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as end:
                end.setblocking(False)
                if kind == "tcp":
                    end.connect_ex((to, port))
                    continue
                for _number in range(again):
                    with suppress(OSError):
                        end.sendto(b"x" * 376, (to, port))


def packet(protocol: str, source: str, to: str, source_port: int, port: int, **more: object) -> bytes:
    """Return a packet with any source, from its IP header on."""
    family = "ipv6" if ":" in to else "ipv4"
    return render(Sent("out", family, number(source), number(to), protocol, source_port, port, **more), 1)


def send_raw(where: Namespace, packets: Iterable[bytes]) -> None:
    """Send whole packets by a raw socket, which netfilter sees."""
    for data in packets:
        version, to = (socket.AF_INET, data[16:20]) if data[0] >> 4 == 4 else (socket.AF_INET6, data[24:40])
        with inside(where.name):
            end = socket.socket(version, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with end, suppress(PermissionError):
            end.sendto(data, (socket.inet_ntop(version, to), 0))


def send_frames(where: Namespace, to: Namespace, packets: Iterable[bytes]) -> None:
    """Send whole packets to the other end of the wire by a packet socket, past netfilter."""
    ends = [json.loads(end.must("ip -j link show wire"))[0]["address"] for end in (to, where)]
    addresses = b"".join(bytes.fromhex(end.replace(":", "")) for end in ends)
    with inside(where.name), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as end:
        end.bind(("wire", 0))
        for data in packets:
            end.send(addresses + (b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd") + data)
