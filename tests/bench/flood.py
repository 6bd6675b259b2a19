# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python flood.py HARDWARE SOURCE TARGET PORT COUNT` sends datagrams by the interface `wire`, each from another port.

Prints the seconds that it took. A packet passes all namespaces between veth pairs before the sender goes on, so that
these are the costs of its whole way; to send by the thousand in one call leaves little else.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic

FIRST_PORT = 10_000
# How many messages one call takes at most.
BATCH = 1024


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """A `struct mmsghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.POINTER(_Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


def frame(hardware: bytes, source: str, target: str, ports: tuple[int, int]) -> bytes:
    """Return an empty datagram without a checksum, as it is on the wire."""
    datagram = struct.pack("!HHHH", *ports, 8, 0)
    ours, theirs = ip_address(source), ip_address(target)
    if isinstance(ours, IPv4Address):
        header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0x4000, 64, 17, 0) + ours.packed + theirs.packed
        header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
        kind = 0x0800
    else:
        assert isinstance(ours, IPv6Address)
        header = struct.pack("!IHBB", 6 << 28, 8, 17, 64) + ours.packed + theirs.packed
        kind = 0x86DD
    return hardware + b"\x02\0\0\0\0\x02" + struct.pack("!H", kind) + header + datagram


def _checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def main() -> None:
    """Send, and tell how long it took."""
    hardware, source, target, port, count = sys.argv[1:]
    numbers = range(FIRST_PORT, FIRST_PORT + int(count))
    frames = [
        frame(bytes.fromhex(hardware.replace(":", "")), source, target, (number, int(port))) for number in numbers
    ]
    buffers = [ctypes.create_string_buffer(data, len(data)) for data in frames]
    pieces = [_Piece(ctypes.addressof(buffer), len(buffer)) for buffer in buffers]
    messages = (_Message * len(pieces))(*(_Message(pieces=ctypes.pointer(piece), piece_count=1) for piece in pieces))
    send = ctypes.CDLL(None, use_errno=True).sendmmsg
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("wire", 0))
        at = 0
        start = monotonic()
        while at < len(messages):
            rest = min(BATCH, len(messages) - at)
            sent = send(wire.fileno(), ctypes.byref(messages, at * ctypes.sizeof(_Message)), rest, 0)
            if sent <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            at += sent
        print(monotonic() - start)


if __name__ == "__main__":
    main()
