# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's own connections: conntrack's flows, TCP sockets, addresses. Private to this collection.

Conntrack and addresses come by netlink, whose messages linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h and
linux/rtnetlink.h define: no program that reads them is sure to be installed. Sockets are in /proc/net.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from time import time
from typing import Dict, FrozenSet, Iterator, List, Optional, Set, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._flows import Flow, Socket, denied_flows, open_flows
from ansible_collections.palisade.egress.plugins.module_utils._leases import Address
from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, merge
from ansible_collections.palisade.egress.plugins.module_utils._values import PORT_PROTOCOLS, PROTOCOLS

NETLINK_NETFILTER = 12
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP, CREATE, EXCLUSIVE = 0x1, 0x4, 0x300, 0x400, 0x200
CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102
GET_LINKS, GET_ADDRESSES = 18, 22
# Attributes of addresses, and what their lifetimes, preferred and valid, say if they do not end.
ADDRESS, ADDRESS_LOCAL, ADDRESS_LIFETIMES = 1, 2, 6
FOREVER = 0xFFFFFFFF
# Of routes in /proc/net.
ROUTE_GATEWAY = 0x2
NESTED, TYPE_MASK = 0x8000, 0x3FFF
# Attributes of conntrack's messages.
TUPLE_ORIGINAL, TUPLE_REPLY, STATUS, PROTOINFO, TIMEOUT = 1, 2, 3, 4, 7
TUPLE_IP, TUPLE_PROTO = 1, 2
# Replies were seen, the flow is no half-open one, and it is in the table: the kernel refuses a new flow without that.
ESTABLISHED_STATUS = 0x2 | 0x4 | 0x8
TCP_ESTABLISHED = 3
# Its window is not known, so that nothing may count as outside of it.
LIBERAL = b"\x08\x08"
# What the kernel gives an established connection, in seconds.
ESTABLISHED_TIMEOUT = 432000

FAMILIES: Dict[int, str] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
NUMBERS = {name: number for number, name in FAMILIES.items()}
PORTED = {PROTOCOLS[name]: name for name in PORT_PROTOCOLS}
MAPPED = b"\0" * 10 + b"\xff\xff"
# States in /proc/net/tcp: established and close-wait carry data still.
LIVE_STATES, LISTEN_STATE = ("01", "08"), "0A"

Attributes = Dict[int, bytes]

_LIVE_ON = "set live_flows: keep; the rules hold, but flows that they deny may live on"


def check_conntrack() -> None:
    """Raise ``KernelError`` where flows could not be ended, before anything depends on it."""
    nobody = Flow("ipv4", "tcp", 0, 0, 0, 0)
    try:
        body = _conntrack_body(socket.AF_INET, _nested(TUPLE_ORIGINAL, *_tuple(nobody)))
        _ask(NETLINK_NETFILTER, CT_GET, ACK, body)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("conntrack", f"the kernel does not answer ({error})", "set live_flows: keep") from error


def tracked_flows() -> List[Flow]:
    """Return conntrack's flows of protocols that have ports."""
    try:
        answers = _ask(NETLINK_NETFILTER, CT_GET, DUMP, _conntrack_body(0, b""))
    except OSError as error:
        raise KernelError("conntrack", f"its flows cannot be read ({error})", _LIVE_ON) from error
    return [flow for flow in (_flow(answer[0], _attributes(answer[4:])) for answer in answers) if flow]


def end_flow(flow: Flow) -> None:
    """Make conntrack forget a flow, so that its next packet counts as a new one's; it may have ended by itself."""
    body = _conntrack_body(NUMBERS[flow.family], _nested(TUPLE_ORIGINAL, *_tuple(flow)))
    try:
        _ask(NETLINK_NETFILTER, CT_DELETE, ACK, body)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("conntrack", f"a flow cannot be ended ({error})", _LIVE_ON) from error


def adopt_flow(flow: Flow) -> bool:
    """Make conntrack know an established TCP flow; tell whether it did not know it before."""
    body = (
        _nested(TUPLE_ORIGINAL, *_tuple(flow))
        + _nested(TUPLE_REPLY, *_tuple(flow.reversed()))
        + _attribute(TIMEOUT, struct.pack(">I", ESTABLISHED_TIMEOUT))
        + _attribute(STATUS, struct.pack(">I", ESTABLISHED_STATUS))
        + _nested(
            PROTOINFO,
            _nested(1, _attribute(1, bytes([TCP_ESTABLISHED])), _attribute(4, LIBERAL), _attribute(5, LIBERAL)),
        )
    )
    try:
        _ask(NETLINK_NETFILTER, CT_NEW, ACK | CREATE | EXCLUSIVE, _conntrack_body(NUMBERS[flow.family], body))
    except FileExistsError:
        return False
    except OSError as error:
        raise KernelError(
            "conntrack", f"a connection cannot be made known ({error})", "set midstream: never"
        ) from error
    return True


def adopt_open_connections() -> None:
    """Let conntrack know the connections that this host has open, idle ones too, and which end began them."""
    for flow in open_flows(tcp_sockets()):
        adopt_flow(flow)


def denied_here(ruleset: Ruleset, login: str) -> List[Flow]:
    """Return the live flows that these rules deny, but for the connection of the login that runs this."""
    sockets = tcp_sockets()
    above = ancestor_inodes()
    spared = set(open_flows([sock for sock in sockets if sock.inode in above or sock.is_listener]))
    spared.update(logins(login))
    spared |= {flow.reversed() for flow in spared}
    denied = denied_flows(ruleset, tracked_flows(), own_addresses(), sockets, time(), behind_bridges())
    return [flow for flow in denied if flow not in spared]


def logins(login: str) -> List[Flow]:
    """Return the connections of the logins that run this: the one that is told, as SSH_CONNECTION has it, or else
    those that others began and a process above us holds.
    """
    if login:
        peer, peer_port, own, own_port = login.split()
        (family, source), (_family, destination) = (_address(text) for text in (peer, own))
        return [Flow(family, "tcp", source, destination, int(peer_port), int(own_port))]
    sockets = tcp_sockets()
    listening = frozenset(sock.port for sock in sockets if sock.is_listener)
    above = ancestor_inodes()
    held = [s for s in sockets if s.inode in above and s.port in listening and not s.is_listener]
    return [Flow(s.family, "tcp", s.peer_address, s.address, s.peer_port, s.port) for s in held]


def own_addresses() -> FrozenSet[Tuple[str, int]]:
    """Return this host's addresses as (family, integer)."""
    return frozenset((address.family, address.value) for address in addresses())


def addresses() -> List[Address]:
    """Return this host's addresses."""
    try:
        answers = _ask(socket.NETLINK_ROUTE, GET_ADDRESSES, DUMP, struct.pack("=BBBBI", 0, 0, 0, 0, 0))
    except OSError as error:
        mend = "set guard: false and live_flows: keep"
        raise KernelError("netlink", f"this host's addresses cannot be read ({error})", mend) from error
    return [address for address in map(_own, answers) if address]


def _own(answer: bytes) -> Optional[Address]:
    """Return an address as rtnetlink tells it; where the link has two ends, the first attribute is the other's."""
    family, length, _flags, _scope, index = struct.unpack_from("=BBBBI", answer)
    try:
        interface = socket.if_indextoname(index)
    except OSError:
        # It has gone meanwhile.
        return None
    if family not in FAMILIES:
        return None
    attributes = _attributes(answer[8:])
    value = attributes.get(ADDRESS_LOCAL) or attributes[ADDRESS]
    (valid,) = struct.unpack_from("=4xI", attributes[ADDRESS_LIFETIMES])
    return Address(FAMILIES[family], int.from_bytes(value, "big"), length, interface, valid != FOREVER)


def behind_bridges() -> Dict[str, Addresses]:
    """Return the addresses of the networks on each bridge; one with a gateway on it may lead anywhere, and is no such.

    They are where containers are.
    """
    try:
        answers = _ask(socket.NETLINK_ROUTE, GET_LINKS, DUMP, bytes(16))
    except OSError as error:
        raise KernelError("netlink", f"this host's interfaces cannot be read ({error})", _LIVE_ON) from error
    links = [_attributes(answer[16:]) for answer in answers]
    bridges = {link[3].rstrip(b"\0").decode() for link in links if _is_bridge(link)}
    beyond = _with_gateways()
    found: Dict[str, Dict[str, List[Range]]] = {}
    for own in addresses():
        if own.interface in bridges - beyond:
            size = 2 ** ((32 if own.family == "ipv4" else 128) - own.length)
            first = own.value // size * size
            found.setdefault(own.interface, {}).setdefault(own.family, []).append((first, first + size - 1))
    return {name: Addresses(**{f: merge(ranges) for f, ranges in by.items()}) for name, by in found.items()}


def _is_bridge(link: Attributes) -> bool:
    return _attributes(link.get(18, b"")).get(1, b"").rstrip(b"\0") == b"bridge"


def _with_gateways(directory: Path = Path("/proc/net")) -> FrozenSet[str]:
    """Return the interfaces on which there is a gateway to other networks."""
    found: Set[str] = set()
    for name, flags, interface in (("route", 3, 0), ("ipv6_route", 8, 9)):
        try:
            lines = (directory / name).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            continue
        columns = (line.split() for line in lines if not line.startswith("Iface"))
        found.update(words[interface] for words in columns if int(words[flags], 16) & ROUTE_GATEWAY)
    return frozenset(found)


def tcp_sockets(directory: Path = Path("/proc/net")) -> List[Socket]:
    """Return the TCP sockets of this host that listen or carry data."""
    found: List[Socket] = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (directory / name).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        found.extend(sock for sock in (_socket(line.split()) for line in lines) if sock)
    return found


def ancestor_inodes() -> FrozenSet[int]:
    """Return the numbers of the sockets that the processes above this one hold: a login's connection is there."""
    inodes = set()
    pid = os.getpid()
    while pid > 1:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(int(target[8:-1]))
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    return frozenset(inodes)


def _socket(columns: List[str]) -> Optional[Socket]:
    local, remote, state, inode = columns[1], columns[2], columns[3], int(columns[9])
    if state not in (*LIVE_STATES, LISTEN_STATE):
        return None
    (family, address, port), (_family, peer, peer_port) = _end(local), _end(remote)
    if state in LIVE_STATES and (address == peer or _is_loopback(family, address)):
        return None
    return Socket(family, address, port, peer, peer_port, state == LISTEN_STATE, inode)


def _end(text: str) -> Tuple[str, int, int]:
    """Return family, address and port of one end: words of 32 bits in this machine's byte order, in hexadecimal."""
    hexadecimal, _colon, port = text.partition(":")
    words = [int(hexadecimal[i : i + 8], 16) for i in range(0, len(hexadecimal), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 16 and packed.startswith(MAPPED):
        packed = packed[12:]
    return "ipv4" if len(packed) == 4 else "ipv6", int.from_bytes(packed, "big"), int(port, 16)


def _address(text: str) -> Tuple[str, int]:
    """Return family and integer; a link-local address may have its interface behind it."""
    kind = socket.AF_INET6 if ":" in text else socket.AF_INET
    return FAMILIES[kind], int.from_bytes(socket.inet_pton(kind, text.partition("%")[0]), "big")


def _is_loopback(family: str, address: int) -> bool:
    return address >> 24 == 127 if family == "ipv4" else address == 1


def _flow(family: int, attributes: Attributes) -> Optional[Flow]:
    if family not in FAMILIES:
        return None
    protocol, source, to = _ends(family, attributes[TUPLE_ORIGINAL])
    if protocol not in PORTED:
        return None
    # Answers come from where it really arrived.
    _protocol, arrived, _to = _ends(family, attributes[TUPLE_REPLY])
    translated = arrived if arrived != to else None
    return Flow(FAMILIES[family], PORTED[protocol], source[0], to[0], source[1], to[1], translated)


def _ends(family: int, data: bytes) -> Tuple[int, Tuple[int, int], Tuple[int, int]]:
    """Return the protocol of a tuple, and its two ends by address and port (0 where the protocol has none)."""
    found = _attributes(data)
    ip, proto = _attributes(found[TUPLE_IP]), _attributes(found[TUPLE_PROTO])
    first = 1 if family == socket.AF_INET else 3
    source, to = (
        (int.from_bytes(ip[first + end], "big"), int.from_bytes(proto.get(2 + end, b""), "big")) for end in (0, 1)
    )
    return proto[1][0], source, to


def _tuple(flow: Flow) -> Tuple[bytes, bytes]:
    first, size = (1, 4) if flow.family == "ipv4" else (3, 16)
    ip = _attribute(first, flow.source.to_bytes(size, "big"))
    ip += _attribute(first + 1, flow.destination.to_bytes(size, "big"))
    proto = _attribute(1, bytes([PROTOCOLS[flow.protocol]]))
    proto += _attribute(2, struct.pack(">H", flow.source_port)) + _attribute(
        3, struct.pack(">H", flow.destination_port)
    )
    return _nested(TUPLE_IP, ip), _nested(TUPLE_PROTO, proto)


def _conntrack_body(family: int, attributes: bytes) -> bytes:
    return struct.pack("=BBH", family, 0, 0) + attributes


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | NESTED, b"".join(attributes))


def _attributes(data: bytes) -> Attributes:
    found: Attributes = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & TYPE_MASK] = data[at + 4 : at + length]
        at += max(4, length + 3 & ~3)
    return found


def _ask(protocol: int, kind: int, flags: int, body: bytes) -> List[bytes]:
    """Send one netlink message and return the bodies of what comes back; raises ``OSError`` as the kernel says."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.bind((0, 0))
        netlink.send(struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST, 1, 0) + body)
        answers: List[bytes] = []
        while True:
            for answer_kind, answer in _messages(netlink.recv(1 << 18)):
                if answer_kind == NLMSG_DONE:
                    return answers
                if answer_kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", answer)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answers
                answers.append(answer)


def _messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += length + 3 & ~3
