# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets of the differential test as bytes, and all that the kernel will know of each in every hook.

What stands here about routes, address types and conntrack is what a person would say of the world that
``_differential_net`` makes; nothing of it is asked from the kernel under test.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

from netns._differential_net import NOTRACK_DSCP

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._values import ICMP_TYPES, ICMPV6_TYPES, PROTOCOLS

MAGIC = b"PALI"
CONNTRACK_PRIORITY = -200
FLAG_BITS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32}


def number(text: str) -> int:
    """Return an address as an integer."""
    return int(ip_address(text))


# --- what the router knows of addresses ---


@dataclass(frozen=True)
class Place:
    """What the routing table says of an address: its type, and the device behind which it is, if any."""

    kind: str
    device: str | None = None


PLACES = [
    (ip_network(prefix), Place(kind, device))
    for prefix, kind, device in (
        ("198.51.100.1/32", "local", "lo"),
        ("203.0.113.1/32", "local", "lo"),
        ("198.51.100.127/32", "broadcast", "left"),
        ("203.0.113.127/32", "broadcast", "right"),
        ("127.255.255.255/32", "broadcast", "lo"),
        ("127.0.0.0/8", "local", "lo"),
        ("255.255.255.255/32", "broadcast", None),
        ("0.0.0.0/8", "broadcast", None),
        ("224.0.0.0/4", "multicast", None),
        ("198.51.100.0/25", "unicast", "left"),
        ("203.0.113.0/25", "unicast", "right"),
        ("198.51.100.128/26", "unicast", "right"),
        ("203.0.113.128/26", "unicast", "left"),
        # Whatever the routes to them are, only the table "local" is asked for the type of an IPv4 address.
        ("0.0.0.0/0", "unicast", None),
        ("::1/128", "local", "lo"),
        ("2001:db8:1::1/128", "local", "lo"),
        ("2001:db8:2::1/128", "local", "lo"),
        ("2001:db8:1::/128", "anycast", "lo"),
        ("2001:db8:2::/128", "anycast", "lo"),
        ("ff00::/8", "multicast", None),
        # The address of any network on a link, whether or not the router itself answers to it.
        ("2001:db8:3::/128", "anycast", "right"),
        ("2001:db8:4::/128", "anycast", "left"),
        ("2001:db8:1::/64", "unicast", "left"),
        ("2001:db8:2::/64", "unicast", "right"),
        ("2001:db8:3::/64", "unicast", "right"),
        ("2001:db8:4::/64", "unicast", "left"),
        ("2001:db8:5::/64", "blackhole", None),
        ("2001:db8:6::/64", "prohibit", None),
        ("::/0", "unreachable", None),
    )
]
LINK_LOCAL = ip_network("fe80::/10")
# Where the link is not known yet (output), the addresses of all links are the router's own; on the loopback none is.
OWN_LINK_LOCAL = {"left": {number("fe80::1")}, "right": {number("fe80::2")}}
# Without neighbour discovery the router does not join its solicited-node groups.
JOINED = {number(text) for text in ("224.0.0.1", "ff02::1", "ff02::2")}
LIMITED_BROADCAST = number("255.255.255.255")
ANY = 0


def place(family: str, address: int, device: str) -> Place:
    """Return what the router knows of an address, seen at a device."""
    found = ip_address(address.to_bytes(4 if family == "ipv4" else 16, "big"))
    if found in LINK_LOCAL:
        own = OWN_LINK_LOCAL.get(device, set().union(*OWN_LINK_LOCAL.values()))
        if device == "lo":
            return Place("unreachable")
        if address in own:
            return Place("local", "lo")
        return Place("anycast", "lo") if address == number("fe80::") else Place("unicast", device)
    return next(known for network, known in PLACES if found in network)


# --- a packet, and its way ---


@dataclass(frozen=True)
class Sent:
    """A packet to be sent.

    ``way`` is where it comes in (``left``, ``right``) or ``out`` for one of the router's own, which leaves by
    ``device`` if its destination does not say. ``history`` tells what conntrack has seen before: nothing
    (``first``), the flow in both directions (``original``), only packets that this one answers (``reply``), or the
    flow that this ICMP error is about (``related``).
    """

    way: str
    family: str
    source: int
    destination: int
    protocol: str
    source_port: int | None = None
    destination_port: int | None = None
    tcp_flags: tuple[str, ...] = ()
    icmp_type: str | None = None
    history: str = "first"
    uid: int = 0
    gid: int = 0
    device: str = ""
    notrack: bool = False
    extension: int | None = None
    identity: int = 0
    sequence: tuple[int, int] = (1000, 0)
    about: Sent | None = None


@dataclass(frozen=True)
class Hop:
    """A hook that a packet passes, and the interfaces that it has there; ``again`` if it passed ``output`` before."""

    hook: str
    in_interface: str | None = None
    out_interface: str | None = None
    again: bool = False


@dataclass(frozen=True)
class Journey:
    """The hooks on a packet's way, after how many of them it leaves, where, and whether it gets anywhere at all."""

    hops: tuple[Hop, ...]
    leaves_after: int = 0
    leaves_by: str | None = None
    delivered: bool = False


def journey(sent: Sent) -> Journey:
    """Return the way of a packet that no rule stops; no hops for one that no hook ever sees."""
    return _departure(sent) if sent.way == "out" else _arrival(sent)


def _arrival(sent: Sent) -> Journey:
    first = Hop("prerouting", sent.way)
    if not _enters(sent):
        return Journey(())
    at = place(sent.family, sent.destination, sent.way)
    if not _routable(sent):
        return Journey((first,))
    if at.device == "lo" or at.kind == "broadcast" or sent.destination in JOINED:
        return Journey((first, Hop("input", sent.way)), delivered=True)
    # Back by the way that they came, IPv6 forwards even packets whose source is of no use elsewhere.
    unnamed = _link_local(sent.source) or (sent.family, sent.source) == ("ipv6", ANY)
    barred = unnamed and at.device != sent.way
    if at.device is None or barred:
        return Journey((first,))
    hops = (first, Hop("forward", sent.way, at.device))
    return Journey(hops, leaves_after=2, leaves_by=at.device, delivered=True)


def _link_local(address: int) -> bool:
    return address >> 118 == int(LINK_LOCAL.network_address) >> 118


def _enters(sent: Sent) -> bool:
    """Tell whether IPv6 lets a packet come as far as the first hook; IPv4 always does."""
    ends = (sent.source, sent.destination)
    return sent.family == "ipv4" or (number("::1") not in ends and sent.source >> 120 != 0xFF)


def _routable(sent: Sent) -> bool:
    """Tell whether the router takes a packet from the wire whose addresses are these ("martians" it does not)."""
    if sent.family == "ipv6":
        return sent.destination != ANY
    if sent.source >> 28 == 0xE or sent.source == LIMITED_BROADCAST:
        return False
    if sent.destination == LIMITED_BROADCAST or (sent.source, sent.destination) == (ANY, ANY):
        return True  # even from loopback addresses, so long as local sources are accepted
    if sent.destination >> 24 in (0, 127) or sent.source >> 24 == 127:
        return False
    return sent.source >> 24 != 0 or (sent.source == ANY and sent.destination >> 8 == number("224.0.0.0") >> 8)


def _departure(sent: Sent) -> Journey:
    at = place(sent.family, sent.destination, sent.device or "left")
    if sent.destination == ANY or (sent.family == "ipv4" and (sent.source == ANY or sent.destination >> 24 == 0)):
        return Journey(())  # the kernel puts another address there
    if _link_local(sent.destination):
        return Journey(())  # which link it is, the test does not say
    if at.device == "lo":
        hops = (Hop("output", None, "lo"), Hop("prerouting", "lo", again=True), Hop("input", "lo", again=True))
        return Journey(hops if sent.source >> 120 != 0xFF else hops[:1], delivered=True)
    device = at.device or (sent.device if at.kind in ("multicast", "broadcast") else None)
    if device is None:
        return Journey(())
    hops = (Hop("output", None, device),)
    if at.kind == "broadcast" or (sent.destination in JOINED and _enters(sent)):
        hops += (Hop("prerouting", device, again=True), Hop("input", device, again=True))
    return Journey(hops, leaves_after=1, leaves_by=device, delivered=True)


def failed_reverse_path(sent: Sent, hop: Hop) -> tuple[str, ...]:
    """Return the reverse path checks that a packet fails in a hook that it came to from a device."""
    if hop.again or hop.in_interface is None:
        return ()
    if sent.source == ANY and _speaks_unnamed(sent):
        return ()
    at = place(sent.family, sent.source, hop.in_interface)
    if at.device is None or (at.device == "lo" and at.kind != "broadcast"):
        return ("strict", "loose")
    return () if at.device == hop.in_interface else ("strict",)


def _speaks_unnamed(sent: Sent) -> bool:
    """Tell whether the kernel forgives this packet that its source is unspecified."""
    if sent.family == "ipv4":
        return sent.destination == LIMITED_BROADCAST or sent.destination >> 8 == number("224.0.0.0") >> 8
    return sent.protocol == "icmpv6" and (_link_local(sent.destination) or sent.destination >> 112 == 0xFF02)


# --- conntrack ---

# Flags that TCP may have together, psh aside; the others are invalid. Of these a flow can begin with the first three.
VALID_FLAGS = ({"syn"}, {"syn", "urg"}, {"ack"}, {"ack", "urg"}, {"syn", "ack"}, {"rst"}, {"rst", "ack"},
               {"fin", "ack"}, {"fin", "ack", "urg"})  # fmt: skip
FIRST_FLAGS = VALID_FLAGS[:4]
FAMILY_OF_ICMP = {"icmp": "ipv4", "icmpv6": "ipv6"}
FIRST_ICMP = {"ipv4": (8, 13, 15, 17), "ipv6": (128, 139)}
ICMP_ERRORS = {"ipv4": (3, 4, 5, 11, 12), "ipv6": (1, 2, 3, 4)}
UNTRACKED_ICMPV6 = (130, 131, 132, 133, 134, 135, 136, 143)


def icmp_number(sent: Sent) -> int:
    """Return the number of a packet's ICMP type."""
    types = ICMP_TYPES if sent.protocol == "icmp" else ICMPV6_TYPES
    word = sent.icmp_type or ""
    return types[word] if word in types else int(word)


def state(sent: Sent) -> str:
    """Return conntrack's word for a packet."""
    if sent.notrack:
        return "untracked"
    if sent.protocol in FAMILY_OF_ICMP:
        return _icmp_state(sent)
    if sent.protocol == "udplite" and sent.way != "out":
        return "invalid"  # conntrack takes its good checksum for a bad one of UDP
    if sent.protocol == "tcp":
        flags = set(sent.tcp_flags) - {"psh"}
        if flags not in VALID_FLAGS or (sent.history == "first" and flags not in FIRST_FLAGS):
            return "invalid"
    return "new" if sent.history == "first" else "established"


def _icmp_state(sent: Sent) -> str:
    kind, kinds = icmp_number(sent), FAMILY_OF_ICMP[sent.protocol]
    if kinds != sent.family and sent.way != "out":
        return "invalid"  # its checksum is looked for as the other family has it
    if sent.protocol == "icmpv6" and kind in UNTRACKED_ICMPV6:
        return "untracked"
    if sent.history == "related":
        return "related"
    if sent.history == "reply":
        return "established"
    if kind not in FIRST_ICMP[kinds]:
        return "invalid"
    return "established" if sent.history == "original" else "new"


def contexts(sent: Sent, ruleset: Ruleset) -> list[Packet]:
    """Return the packet as each base chain on its way sees it."""
    found = []
    for hop in journey(sent).hops:
        chain = ruleset.chain(hop.hook)
        early = hop.hook in ("prerouting", "output") and chain is not None and chain.priority < CONNTRACK_PRIORITY
        at = hop.in_interface or ""
        owner = {"uid": str(sent.uid), "gid": str(sent.gid)} if hop.hook == "output" else {}
        found.append(
            Packet(
                chain=hop.hook,
                family=sent.family,
                source=sent.source,
                destination=sent.destination,
                **_visible(sent),
                in_interface=hop.in_interface,
                out_interface=hop.out_interface,
                ctstate="invalid" if early and not hop.again and not sent.notrack else state(sent),
                ct_direction="reply" if sent.history in ("reply", "related") else "original",
                source_type=place(sent.family, sent.source, at).kind,
                destination_type=place(sent.family, sent.destination, at).kind,
                failed_reverse_path=failed_reverse_path(sent, hop),
                **owner,
                time=time.time(),
            )
        )
    return found


def _visible(sent: Sent) -> dict[str, Any]:
    """Return what rules see of the packet's protocol; unlike conntrack, they do not look into what AH signs."""
    if sent.extension == PROTOCOLS["ah"]:
        return {"protocol": "ah"}
    return {
        "protocol": sent.protocol,
        "source_port": sent.source_port,
        "destination_port": sent.destination_port,
        "tcp_flags": sent.tcp_flags,
        "icmp_type": sent.icmp_type,
    }


def flow(sent: Sent) -> tuple[Any, ...]:
    """Return what tells a flow from others, whichever its direction; two packets of a test never share it."""
    ends = sorted([(sent.source, sent.source_port), (sent.destination, sent.destination_port)], key=repr)
    portless = sent.protocol in ("udplite", "dccp")
    return (sent.family, sent.protocol, *(end[0] if portless else end for end in ends), sent.identity)


def reverse(sent: Sent) -> Sent:
    """Return a packet of the same flow in the other direction."""
    way = sent.way
    if sent.way == "out":
        at = place(sent.family, sent.destination, sent.device or "left")
        way = at.device if at.device in ("left", "right") else "out"
    elif journey(sent).leaves_by:
        way = journey(sent).leaves_by
    else:
        way = "out"
    answers = {"echo-request": "echo-reply", "echo-reply": "echo-request"}
    return replace(
        sent, way=way, device="", source=sent.destination, destination=sent.source, source_port=sent.destination_port,
        destination_port=sent.source_port, icmp_type=answers.get(sent.icmp_type or "", sent.icmp_type),
    )  # fmt: skip


def with_history(sent: Sent) -> tuple[Sent, list[Sent]]:
    """Return the packet and those that have to come before it; without a history if one of them cannot be."""
    made = _history(sent)
    if made and all(journey(each).delivered and _is_plain(each) for each in (made[0], *made[1])):
        return made
    return replace(sent, history="first", about=None), []


def _is_plain(sent: Sent) -> bool:
    """Tell whether a packet goes from one to one, so that an answer goes back."""
    ends = (sent.source, sent.destination)
    kinds = {place(sent.family, address, "left").kind for address in ends}
    return not {"multicast", "broadcast"} & kinds and not any(_link_local(address) for address in ends)


def _history(sent: Sent) -> tuple[Sent, list[Sent]] | None:
    if sent.notrack or sent.history == "first" or sent.source == sent.destination:
        return None  # what an address says to itself, without ports, is its own answer
    if sent.history == "related":
        return _related(sent)
    if sent.protocol == "tcp":
        return _handshake(sent)
    if sent.protocol in FAMILY_OF_ICMP:
        usual = {"echo-request": "original", "echo-reply": "reply"}.get(sent.icmp_type or "")
        if usual != sent.history or FAMILY_OF_ICMP[sent.protocol] != sent.family:
            return None
    if sent.protocol in ("sctp", "dccp", "udplite"):
        return None
    other = reverse(sent)
    return sent, ([sent, other] if sent.history == "original" else [other])


def _related(sent: Sent) -> tuple[Sent, list[Sent]] | None:
    if FAMILY_OF_ICMP.get(sent.protocol) != sent.family:
        return None
    if icmp_number(sent) not in ICMP_ERRORS[sent.family]:
        return None
    back = reverse(sent)
    begun = replace(back, protocol="udp", source_port=40000 + sent.identity % 20000, destination_port=53,
                    icmp_type=None, history="first")  # fmt: skip
    return replace(sent, about=begun), [begun]


def _handshake(sent: Sent) -> tuple[Sent, list[Sent]] | None:
    flags, other = set(sent.tcp_flags), reverse(sent)
    first, second = (sent, other) if sent.history == "original" else (other, sent)
    syn = replace(first, tcp_flags=("syn",), sequence=(1000, 0))
    syn_ack = replace(second, tcp_flags=("syn", "ack"), sequence=(5000, 1001))
    ack = replace(first, tcp_flags=("ack",), sequence=(1001, 5001))
    if flags == {"syn", "ack"} and sent.history == "reply":
        return replace(sent, sequence=(5000, 1001)), [syn]
    if "syn" in flags:
        return None
    mine = (1001, 5001) if sent.history == "original" else (5001, 1001)
    return replace(sent, sequence=mine), [syn, syn_ack, ack]


# --- bytes ---


def render(sent: Sent, mark: int) -> bytes:
    """Return the packet from its IP header on, with good checksums; its last bytes are ``mark`` (see ``mark_of``)."""
    tail = MAGIC + mark.to_bytes(4, "big")
    body = _body(sent, tail)
    tos = NOTRACK_DSCP << 2 if sent.notrack else 0
    if sent.family == "ipv4":
        header = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), mark & 0xFFFF or 1, 0, 64, _protocol(sent), 0)
        header += sent.source.to_bytes(4, "big") + sent.destination.to_bytes(4, "big")
        return header[:10] + checksum(header) + header[12:] + body
    following = _protocol(sent)
    if sent.extension is not None:
        padding = b"\1\4\0\0\0\0" if sent.extension != PROTOCOLS["ah"] else b"\0\0\0\0\0\1\0\0\0\1"
        body = bytes((following, 0 if sent.extension != PROTOCOLS["ah"] else 1)) + padding + body
        following = sent.extension
    header = struct.pack("!IHBB", 6 << 28 | tos << 20, len(body), following, 255)
    return header + sent.source.to_bytes(16, "big") + sent.destination.to_bytes(16, "big") + body


def mark_of(packet: bytes) -> int | None:
    """Return the mark of a packet of ours."""
    return int.from_bytes(packet[-4:], "big") if packet[-8:-4] == MAGIC else None


def _protocol(sent: Sent) -> int:
    return PROTOCOLS[sent.protocol] if sent.protocol in PROTOCOLS else int(sent.protocol)


def _body(sent: Sent, tail: bytes) -> bytes:
    ports = (sent.source_port or 0, sent.destination_port or 0)
    if sent.protocol == "tcp":
        flags = sum(FLAG_BITS[flag] for flag in sent.tcp_flags)
        sequence, acknowledged = sent.sequence
        fields = (sequence, acknowledged if "ack" in sent.tcp_flags else 0, 0x50, flags, 65535, 0, 0)
        return _summed(sent, struct.pack("!HHIIBBHHH", *ports, *fields) + tail, 16)
    if sent.protocol in ("udp", "udplite"):
        return _summed(sent, struct.pack("!HHHH", *ports, 8 + len(tail), 0) + tail, 6)
    if sent.protocol == "dccp":
        request = struct.pack("!HHBBHBBHIII", *ports, 5, 0, 0, 1, 0, 0, 1, 1, 0)[:20]
        return _summed(sent, request + tail, 6)
    if sent.protocol == "sctp":
        chunk = struct.pack("!BBHIIHHIHH", 1, 0, 24 + len(tail), 1, 65535, 1, 1, 1, 0x8000, 4 + len(tail)) + tail
        begun = struct.pack("!HHI", *ports, 0)
        return begun + crc32c(begun + bytes(4) + chunk).to_bytes(4, "little") + chunk
    if sent.protocol in ("icmp", "icmpv6"):
        inner = render(sent.about, 0)[:-8] if sent.about else b""
        rest = struct.pack("!HH", 0, 0) if sent.about else struct.pack("!HH", sent.identity & 0xFFFF, 1)
        message = bytes((icmp_number(sent), 0, 0, 0)) + rest + inner + tail
        return _summed(sent, message, 2)
    return bytes(12) + tail


def _summed(sent: Sent, body: bytes, at: int) -> bytes:
    size = 4 if sent.family == "ipv4" else 16
    pseudo = sent.source.to_bytes(size, "big") + sent.destination.to_bytes(size, "big")
    pseudo += struct.pack("!II", len(body), _protocol(sent))
    found = checksum((b"" if sent.protocol == "icmp" else pseudo) + body)
    if found == b"\0\0" and sent.protocol in ("udp", "udplite"):
        found = b"\xff\xff"
    return body[:at] + found + body[at + 2 :]


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def crc32c(data: bytes) -> int:
    """Return the checksum of SCTP."""
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _bit in range(8):
            found = found >> 1 ^ (0x82F63B78 if found & 1 else 0)
    return found ^ 0xFFFFFFFF
