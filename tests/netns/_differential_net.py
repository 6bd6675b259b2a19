# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small world for the differential test: a router under test between two hosts, all in network namespaces.

The hosts ``left`` and ``right`` have no addresses and never speak by themselves: what arrives at the router is what
the test made. The router's own talk (errors, resets, neighbour discovery) is dropped before any chain or conntrack
sees it, by the table ``palisade_keeper``. Addresses are documentation addresses, and nothing leads out.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from netns.namespace import Namespace, namespace

SIDES = ("left", "right")
MACS = {"left": b"\2\0\0\0\0\1", "right": b"\2\0\0\0\0\2", "wire": b"\2\0\0\0\0\3"}
ETH_P_ALL = 3
PACKET_OUTGOING = 4
CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12
PATIENCE = 5.0  # seconds: how long the kernel may take for what it always does at once

ADDRESSES = """
addr add 198.51.100.1/25 brd + dev left
addr add 203.0.113.1/25 brd + dev right
addr add 2001:db8:1::1/64 dev left
addr add 2001:db8:2::1/64 dev right
addr add fe80::1/64 dev left
addr add fe80::2/64 dev right
route add 198.51.100.128/26 dev right
route add 203.0.113.128/26 dev left
route add blackhole 198.51.100.192/27
route add unreachable 203.0.113.192/27
route add prohibit 203.0.113.224/28
route add 2001:db8:3::/64 dev right
route add 2001:db8:4::/64 dev left
route add blackhole 2001:db8:5::/64
route add prohibit 2001:db8:6::/64
route add unreachable 2001:db8:7::/64
"""
# Nothing but our table may stop a packet, and nothing may be learnt from one.
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.netfilter.nf_conntrack_tcp_loose": 1,
    "net.netfilter.nf_conntrack_checksum": 1,
    **{
        f"net.ipv4.conf.{where}.{key}": value
        for where in ("all", "default", "lo", *SIDES)
        for key, value in (
            ("rp_filter", 0), ("accept_local", 1), ("send_redirects", 0), ("accept_redirects", 0), ("log_martians", 0)
        )
    },
    **{
        f"net.ipv6.conf.{where}.{key}": value
        for where in SIDES
        for key, value in (("accept_dad", 0), ("accept_ra", 0), ("accept_redirects", 0), ("router_solicitations", 0))
    },
}  # fmt: skip

# What sockets own is the test's. Packets with this DSCP are exempt from conntrack, as by a neighbour's raw table.
NOTRACK_DSCP = 0x2A
KEEPER = f"""
table inet palisade_keeper {{
  counter passed_input {{ }}
  counter passed_postrouting {{ }}
  chain output {{
    type filter hook output priority -460; policy drop;
    ip dscp {NOTRACK_DSCP} notrack
    ip6 dscp {NOTRACK_DSCP} notrack
    meta skuid 0-4294967294 accept
  }}
  chain prerouting {{
    type filter hook prerouting priority -460; policy accept;
    ip dscp {NOTRACK_DSCP} notrack
    ip6 dscp {NOTRACK_DSCP} notrack
    ct state new
  }}
  chain input {{ type filter hook input priority 2000; policy accept; counter name passed_input; }}
  chain postrouting {{ type filter hook postrouting priority 2000; policy accept; counter name passed_postrouting; }}
}}
"""

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Have this thread make its sockets in a network namespace."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def _owned_by(uid: int, gid: int) -> Iterator[None]:
    """Have sockets belong to a user and group: netfilter looks at the file system ids of whoever made them."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())


class World:
    """The router, its two neighbours, and the ends of the wires; ``run`` is how the backend gets to its nft."""

    def __init__(self, router: Namespace, hosts: Mapping[str, Namespace], wrapper: tuple[str, ...]) -> None:
        self.router = router
        self.run = Namespace(router.name, wrapper).run
        self.hosts = hosts
        self.wires = {side: self._wire(side) for side in SIDES}
        self.local = self._socket(router.name, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.local.bind(("lo", ETH_P_ALL))
        self.netlink = self._socket(router.name, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._senders: dict[tuple[str, str, int, int], socket.socket] = {}

    def _wire(self, side: str) -> socket.socket:
        wire = self._socket(self.hosts[side].name, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        wire.bind(("wire", ETH_P_ALL))
        return wire

    def _socket(self, where: str, *kind: int) -> socket.socket:
        with inside(where):
            made = socket.socket(*kind)
        made.setblocking(False)
        return made

    def _sender(self, family: str, device: str, uid: int, gid: int) -> socket.socket:
        """Return the router's socket for whole packets that has this owner; bound to a device if one is given."""
        key = (family, device, uid, gid)
        if key not in self._senders:
            version = socket.AF_INET if family == "ipv4" else socket.AF_INET6
            with inside(self.router.name), _owned_by(uid, gid):
                made = socket.socket(version, socket.SOCK_RAW, socket.IPPROTO_RAW)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if device:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            self._senders[key] = made
        return self._senders[key]

    def arrive(self, side: str, packet: bytes) -> None:
        """Have a packet, from its IP header on, come in at one side of the router."""
        ethertype = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
        self.wires[side].send(MACS[side] + MACS["wire"] + ethertype + packet)

    def leave(self, packet: bytes, device: str, uid: int = 0, gid: int = 0) -> bool:
        """Have the router send a packet; tell whether its sender was let (it learns at once if not)."""
        family, where = ("ipv4", packet[16:20]) if packet[0] >> 4 == 4 else ("ipv6", packet[24:40])
        version = socket.AF_INET if family == "ipv4" else socket.AF_INET6
        try:
            self._sender(family, device, uid, gid).sendto(packet, (socket.inet_ntop(version, where), 0))
        except PermissionError:
            return False
        return True

    def received(self, side: str) -> list[bytes]:
        """Return the packets, from their IP header on, that came out at one side since the last time."""
        return [frame[14:] for frame in _drain(self.wires[side])]

    def looped(self) -> list[bytes]:
        """Return the packets that the router sent to itself since the last time."""
        return _drain(self.local)

    def counts(self) -> Counter[str]:
        """Return the packets that each named counter of the router has counted; ``table:counter``."""
        return Counter(dict(_counters(self.netlink)))

    def wait_for(self, wanted: Mapping[str, int], since: Mapping[str, int]) -> Counter[str]:
        """Return what counters have counted since: at once if it is what is wanted, else when patience is over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = Counter({name: n - since.get(name, 0) for name, n in self.counts().items()})
            found = +found
            if found == wanted or time.monotonic() > deadline:
                return found

    def close(self) -> None:
        """Let go of everything that would keep the namespaces alive."""
        for made in (*self._senders.values(), *self.wires.values(), self.local, self.netlink):
            made.close()


@contextmanager
def world(*wrapper: str) -> Iterator[World]:
    """Make the world, and take it away again; ``wrapper`` stands before the commands of the backend."""
    with ExitStack() as stack:
        plain = stack.enter_context(namespace())
        hosts = {side: stack.enter_context(namespace()) for side in SIDES}
        plain.must("ip link set lo up")
        for side, host in hosts.items():
            host.must("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
            plain.must(f"ip link add {side} address {MACS[side].hex(':')} type veth peer name wire netns {host.name}")
            host.must("ip link set wire up arp off")
            plain.must(f"ip link set {side} addrgenmode none")
        _set(plain)
        for side in SIDES:
            plain.must(f"ip link set {side} up arp off")
        plain.must("ip -batch -", ADDRESSES.strip() + "\n")
        plain.nft(KEEPER)
        made = World(plain, hosts, wrapper)
        stack.callback(made.close)
        yield made


def _set(router: Namespace) -> None:
    router.must("sysctl -q -p -", "".join(f"{key} = {value}\n" for key, value in SYSCTLS.items()))


def _drain(source: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            data, address = source.recvfrom(65536)
        except BlockingIOError:
            return found
        if address[2] != PACKET_OUTGOING:
            found.append(data)


# --- nf_tables' named counters by netlink: a hundred times as fast as a process ---

NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
NFT_MSG_GETOBJ = 10 << 8 | 19
NFPROTO_INET = 1
NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA = 1, 2, 3, 4
NFT_OBJECT_COUNTER = 1
NFTA_COUNTER_PACKETS = 2


def _counters(netlink: socket.socket) -> Iterator[tuple[str, int]]:
    kind = struct.pack("=HH", 8, NFTA_OBJ_TYPE) + struct.pack("!I", NFT_OBJECT_COUNTER)
    body = struct.pack("=BBH", NFPROTO_INET, 0, 0) + kind
    netlink.setblocking(True)
    netlink.send(struct.pack("=IHHII", 16 + len(body), NFT_MSG_GETOBJ, NLM_F_REQUEST_DUMP, 1, 0) + body)
    while True:
        data = netlink.recv(1 << 20)
        while data:
            length, message = struct.unpack_from("=IH", data)
            assert message != NLMSG_ERROR, data[:64].hex()
            if message == NLMSG_DONE:
                return
            about = dict(_attributes(data[20:length]))
            table, name = (about[key].rstrip(b"\0").decode() for key in (NFTA_OBJ_TABLE, NFTA_OBJ_NAME))
            packets = dict(_attributes(about[NFTA_OBJ_DATA]))[NFTA_COUNTER_PACKETS]
            yield f"{table}:{name}", int.from_bytes(packets, "big")
            data = data[length + 3 & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[length + 3 & ~3 :]
