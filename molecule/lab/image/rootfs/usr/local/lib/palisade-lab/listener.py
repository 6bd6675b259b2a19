# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer on every port of LAB_LISTEN ("tcp/25 udp/53 …"), in IPv4 and IPv6, on all addresses of the host.

A TCP connection is accepted and closed, a UDP payload is sent back.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def bind(protocol: str, port: int) -> socket.socket:
    """Return a socket that hears both families: IPv4 arrives as ::ffff:a.b.c.d."""
    sock = socket.socket(socket.AF_INET6, KINDS[protocol])
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    sock.setblocking(False)
    if protocol == "tcp":
        sock.listen(socket.SOMAXCONN)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return sock


def accept(sock: socket.socket) -> None:
    """Accept a connection, which is all that a prober asks for, and end it."""
    sock.accept()[0].close()


def echo(sock: socket.socket) -> None:
    """Send a datagram back from the address that it was sent to: a router has many, and the prober knows one."""
    payload, ancillary, _flags, peer = sock.recvmsg(2048, socket.CMSG_SPACE(20))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            # The index of the interface becomes 0: let routing choose it.
            pktinfo = data[:16] + struct.pack("I", 0)
            sock.sendmsg([payload], [(level, kind, pktinfo)], 0, peer)


def tell_systemd() -> None:
    """Say that every port is open (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1))


def main() -> None:
    """Serve for ever."""
    selector = selectors.DefaultSelector()
    for item in os.environ["LAB_LISTEN"].split():
        protocol, port = item.split("/")
        selector.register(bind(protocol, int(port)), selectors.EVENT_READ, accept if protocol == "tcp" else echo)
    tell_systemd()
    while True:
        for key, _events in selector.select():
            try:
                key.data(key.fileobj)
            except OSError as error:  # a prober that has gone away, or a fence that holds the answer back
                print(error, flush=True)


if __name__ == "__main__":
    main()
