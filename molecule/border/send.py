# SPDX-License-Identifier: GPL-3.0-or-later
"""Send one packet for each order: [how, source, source port, target, "tcp/25"], by a socket or by hand."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import subprocess
import sys

NUMBERS = {"tcp": 6, "udp": 17}


def by_socket(source: str, source_port: int, target: str, protocol: str, port: int) -> None:
    """Begin a connection, or send a datagram."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as end:
        end.bind((source, source_port))
        end.settimeout(0.15)
        try:
            end.connect((target, port))
            if protocol == "udp":
                end.send(b"palisade")
        except OSError:
            pass  # refused, dropped, or on its way: the sniffers tell


def checksum(data: bytes) -> int:
    """Return the checksum of the internet (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source: bytes, source_port: int, target: bytes, protocol: str, port: int) -> bytes:
    """Return a SYN or a datagram with its checksum."""
    if protocol == "tcp":
        data, at = struct.pack(">HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 2, 65535, 0, 0), 16
    else:
        data, at = struct.pack(">HHHH", source_port, port, 16, 0) + b"palisade", 6
    number = NUMBERS[protocol]
    pseudo = (
        struct.pack(">IBBH", len(data), 0, 0, number)
        if len(source) == 16
        else struct.pack(">BBH", 0, number, len(data))
    )
    return data[:at] + struct.pack(">H", checksum(source + target + pseudo + data)) + data[at + 2 :]


def packet(source: str, source_port: int, target: str, protocol: str, port: int) -> bytes:
    """Return a whole packet, as it goes onto the wire."""
    ends = [ipaddress.ip_address(address).packed for address in (source, target)]
    data = segment(ends[0], source_port, ends[1], protocol, port)
    if len(ends[0]) == 16:
        return struct.pack(">IHBB", 6 << 28, len(data), NUMBERS[protocol], 64) + ends[0] + ends[1] + data
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 1, 0, 64, NUMBERS[protocol], 0) + ends[0] + ends[1]
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + data


def next_hop(target: str) -> bytes:
    """Return the hardware address of the next host on the way; the kernel asks for it if it has to."""
    route = json.loads(subprocess.check_output(["ip", "-j", "route", "get", target], text=True))[0]
    gateway = route.get("gateway", target)
    subprocess.run(["ping", "-c", "1", "-W", "1", gateway], stdout=subprocess.DEVNULL, check=False)
    known = json.loads(subprocess.check_output(["ip", "-j", "neigh", "show", gateway], text=True))
    return bytes.fromhex(known[0]["lladdr"].replace(":", ""))


def by_packet(source: str, source_port: int, target: str, protocol: str, port: int) -> None:
    """Hand a packet to the device, past the filter."""
    kind = 0x86DD if ":" in target else 0x0800
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind)) as wire:
        wire.sendto(packet(source, source_port, target, protocol, port), ("eth0", kind, 0, 0, next_hop(target)))


for how, source, source_port, target, port in json.loads(sys.argv[1]):
    protocol, _slash, number = port.partition("/")
    send = by_packet if how == "packet" else by_socket
    send(source, source_port, target, protocol, int(number))
