# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Linux tells of why a packet did not arrive. Private to this collection.

The number of an error does not tell who caused it. The error queue of a socket does: it has the ICMP error as it came,
and from whom. Sockets of TCP have one from Linux 5.9 on.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    SOCK_DGRAM,
    TCP_INFO,
    inet_ntop,
    socket,
)
from typing import Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import (
    BLOCKED_HERE,
    REFUSED,
    RESET,
    UNREACHABLE,
)

# What was measured, and how that is known.
Measurement = Tuple[str, str]

# Of <linux/in.h>, <linux/in6.h>, <linux/socket.h> and <linux/errqueue.h>, which Python does not know by name.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_MSG_ERRQUEUE = 0x2000
_ORIGIN_ICMP, _ORIGIN_ICMPV6 = 2, 3
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # sock_extended_err
_SOCKADDR_ADDRESS = {AF_INET: slice(4, 8), AF_INET6: slice(8, 24)}

_TIME_EXCEEDED = "time exceeded on the way"
_PROHIBITED = "administratively prohibited"
_PORT_UNREACHABLE = "port unreachable"
_UNREACHABLE_CODES = {
    AF_INET: {0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: _PORT_UNREACHABLE,
              9: _PROHIBITED, 10: _PROHIBITED, 13: _PROHIBITED},
    AF_INET6: {0: "no route", 1: _PROHIBITED, 3: "address unreachable", 4: _PORT_UNREACHABLE, 5: _PROHIBITED,
               6: "reject route"},
}  # fmt: skip
_UNREACHABLE_TYPE = {AF_INET: 3, AF_INET6: 1}
_TIME_EXCEEDED_TYPE = {AF_INET: 11, AF_INET6: 3}
# A neighbour that does not answer is told as by an ICMP error of one's own.
_NO_NEIGHBOUR = ("host unreachable", "address unreachable")


@dataclass(frozen=True)
class IcmpError:
    """An ICMP error that answers a packet of ours."""

    text: str
    sender: str


@dataclass(frozen=True)
class TcpState:
    """What TCP knows of a connection."""

    is_opening: bool
    is_closed: bool
    retransmissions: int
    lost_here: bool  # the last one did not leave this host


def ask_for_errors(sock: socket) -> None:
    """Have all errors put into the socket's queue, also those that the kernel would think temporary."""
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        sock.setsockopt(IPPROTO_IP, _IP_RECVERR, 1)


def next_icmp_error(sock: socket) -> Optional[IcmpError]:
    """Take the next ICMP error that ends a probe out of the socket's queue."""
    while True:
        try:
            _data, messages, _flags, _address = sock.recvmsg(0, 512, _MSG_ERRQUEUE)
        except OSError:
            return None
        for level, kind, data in messages:
            if (level, kind) in ((IPPROTO_IP, _IP_RECVERR), (IPPROTO_IPV6, _IPV6_RECVERR)):
                error = _icmp_error(data)
                if error is not None:
                    return error


def _icmp_error(data: bytes) -> Optional[IcmpError]:
    number, origin, icmp_type, code, _info, _data = _EXTENDED_ERROR.unpack_from(data)
    if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMPV6) or number == errno.EMSGSIZE:
        return None
    family = AF_INET if origin == _ORIGIN_ICMP else AF_INET6
    text = f"ICMP type {icmp_type} code {code}"
    if icmp_type == _UNREACHABLE_TYPE[family]:
        text = _UNREACHABLE_CODES[family].get(code, text)
    elif icmp_type == _TIME_EXCEEDED_TYPE[family]:
        text = _TIME_EXCEEDED
    return IcmpError(text, inet_ntop(family, data[_EXTENDED_ERROR.size :][_SOCKADDR_ADDRESS[family]]))


def measured_by_icmp(error: IcmpError, peer: str, *, at_once: bool = False) -> Measurement:
    """Return what an ICMP error shows of a probe of ``peer``; ``at_once``: it came while sending."""
    if error.sender == peer or error.text == _TIME_EXCEEDED or not is_own_address(error.sender):
        measured = REFUSED if error.text == _PORT_UNREACHABLE else UNREACHABLE
        return measured, f"{error.text}, says {error.sender}"
    if error.text in _NO_NEIGHBOUR and not at_once:
        return UNREACHABLE, f"{error.text}, says this host itself: the next hop does not answer"
    return BLOCKED_HERE, f"{error.text}, says this host itself"


def is_own_address(address: str) -> bool:
    """Tell whether it is this host's: only to reach itself does a host use the very address that it wants to reach.

    An error of one's own need not come from the address that the packet came from.
    """
    with socket(AF_INET6 if ":" in address else AF_INET, SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))  # sends nothing
        except OSError:
            return False
        name: str = sock.getsockname()[0]
        return name == address


def measured_by_call(number: int) -> Measurement:
    """Return what an error shows with which connecting or sending itself failed."""
    if number in (errno.EPERM, errno.EACCES):
        return BLOCKED_HERE, f"{os.strerror(number)}, says this host's kernel"
    return UNREACHABLE, f"{os.strerror(number)}, says this host's kernel"


def measured_later(number: int, *, is_tcp: bool) -> Measurement:
    """Return what an error shows that came afterwards, from somewhere, and of which the queue told nothing."""
    if number == errno.ECONNREFUSED:
        return RESET if is_tcp else REFUSED, ""
    return UNREACHABLE, os.strerror(number)


def tcp_state(sock: socket) -> TcpState:
    """Return what TCP knows of a connection (``struct tcp_info``).

    A retransmission that the own output chain drops is counted as tried (``tcpi_total_retrans``), but not as under way
    (``tcpi_retrans``); nothing else tells that TCP is dropped there.
    """
    info = sock.getsockopt(IPPROTO_TCP, TCP_INFO, 104)
    under_way, tried = struct.unpack_from("=I", info, 36)[0], struct.unpack_from("=I", info, 100)[0]
    return TcpState(
        is_opening=info[0] in (2, 3),
        is_closed=info[0] == 7,
        retransmissions=tried,
        lost_here=tried > 0 and under_way == 0,
    )
