# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening to an NFLOG group of a network namespace, as ulogd2 does; the kernel's log would be the machine's own.

The messages are those of linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from netns.namespace import Namespace

_NETFILTER = 12
_ULOG = 4 << 8
_CONFIG = _ULOG | 1
_REQUEST_ACK = 0x1 | 0x4
# What a configuration says: to bind, to send no packets themselves, and not to wait until there are several.
_BIND = (1, struct.pack("=B", 1))
_META = (2, struct.pack("!IBB", 0, 1, 0))
_AT_ONCE = (5, struct.pack("!I", 1))
_PREFIX = 10
_RCVBUFFORCE = 33
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")


class Log:
    """All lines that a group has got and that nobody has read, in order. They are there once a packet is sent."""

    def __init__(self, where: Namespace, group: int) -> None:
        with ThreadPoolExecutor(1) as pool:  # a thread may move to another namespace by itself
            self._socket = pool.submit(_open, f"/run/netns/{where.name}").result()
        for option in (_BIND, _META, _AT_ONCE):
            self._socket.send(_message(group, *option))
            (error,) = struct.unpack_from("=i", self._socket.recv(65536), _HEADER.size)
            assert error == 0, os.strerror(-error)
        self._socket.setblocking(False)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """Return what the new lines begin with."""
        found: list[str] = []
        while True:
            try:
                found += _prefixes(self._socket.recv(1 << 20))
            except BlockingIOError:
                return found


def _open(path: str) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as namespace:
        assert libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    opened.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 22)
    opened.bind((0, 0))
    return opened


def _message(group: int, kind: int, value: bytes) -> bytes:
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value
    body = struct.pack("!BBH", 0, 0, group) + attribute + bytes(-len(attribute) % 4)
    return _HEADER.pack(_HEADER.size + len(body), _CONFIG, _REQUEST_ACK, 1, 0) + body


def _prefixes(data: bytes) -> Iterator[str]:
    while data:
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
        if kind == _ULOG:
            yield dict(_attributes(data[_HEADER.size + 4 : length]))[_PREFIX].rstrip(b"\0").decode()
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x7FFF, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
