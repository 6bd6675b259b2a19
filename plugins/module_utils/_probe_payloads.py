# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What probes send over UDP and ICMP, and how an answer to it is known. Private to this collection."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from socket import AF_INET
from typing import Callable

from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import Probe


@dataclass(frozen=True)
class Exchange:
    """A datagram, and whether another one answers it."""

    request: bytes
    is_answer: Callable[[bytes], bool]


def exchange_of(probe: Probe) -> Exchange:
    """Return what this probe of UDP or ICMP sends and waits for, unlike that of any other."""
    if probe.protocol == "icmp":
        return _ping(probe.family)
    if probe.payload == "dns":
        return _dns(probe.query)
    if probe.payload == "ntp":
        return _ntp()
    # Whoever answers these for all that has been reached.
    return Exchange(_syslog(probe.name) if probe.payload == "syslog" else b"", lambda _answer: True)


def _dns(query: str) -> Exchange:
    """Ask for the name servers of the root, or the IPv4 addresses of a name; any answer to it will do."""
    name = query.rstrip(".")
    labels = [label.encode("ascii") for label in name.split(".")] if name else []
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    question += struct.pack("!HH", 1 if name else 2, 1)  # A or NS, of the class IN
    identity = os.urandom(2)
    recursion_desired = 0x0100
    request = identity + struct.pack("!HHHHH", recursion_desired, 1, 0, 0, 0) + question

    def is_answer(answer: bytes) -> bool:
        return len(answer) >= 12 and answer[:2] == identity and bool(answer[2] & 0x80)

    return Exchange(request, is_answer)


def _ntp() -> Exchange:
    """Ask as a client of version 4 does; a server gives back the time of sending, which is random here."""
    sent_at = os.urandom(8)
    version_and_client = 4 << 3 | 3
    request = bytes([version_and_client]) + bytes(39) + sent_at

    def is_answer(answer: bytes) -> bool:
        return len(answer) >= 48 and answer[0] & 7 == 4 and answer[24:32] == sent_at

    return Exchange(request, is_answer)


def _syslog(name: str) -> bytes:
    """Return a line as RFC 5424 has it, of the facility user and the severity debug."""
    return f"<15>1 - - palisade.egress - - - egress probe {name}".encode("ascii")


def _ping(family: int) -> Exchange:
    request_type, reply_type = (8, 0) if family == AF_INET else (128, 129)
    token = os.urandom(18)  # identifier, sequence number and 14 bytes to tell them from anybody else's
    checksum = _checksum(bytes([request_type, 0, 0, 0]) + token) if family == AF_INET else 0  # the kernel does IPv6's
    request = struct.pack("!BBH", request_type, 0, checksum) + token

    def is_answer(answer: bytes) -> bool:
        if family == AF_INET:
            answer = answer[(answer[0] & 15) * 4 :] if answer else b""
        return len(answer) >= 22 and answer[0] == reply_type and answer[4:22] == token

    return Exchange(request, is_answer)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
