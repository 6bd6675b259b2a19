# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single values of the data contract: text to canonical form and back. Private to this collection.

A parser raises ``BadValueError``, which knows the problem and the mend but not the place; ``_codec`` adds that.
"""

from __future__ import annotations

import re
from calendar import timegm
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from time import gmtime, strftime, strptime
from typing import Dict, Iterable, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, Ranges, merge, prefixes

# IANA protocol numbers under the names that people use for them.
PROTOCOLS: Dict[str, int] = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "eigrp": 88,
    "ospf": 89,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
# The names that /etc/protocols, and with it the firewall tools, use where they differ from ours.
PROTOCOL_ALIASES = {"ipv6-icmp": "icmpv6", "ipencap": "ipip", "ospfigp": "ospf", "comp": "ipcomp"}
PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")

ICMP_TYPES: Dict[str, int] = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
ICMPV6_TYPES: Dict[str, int] = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142,
    "mld2-listener-report": 143,
}
ICMPV6_ALIASES = {"mld-listener-reduction": "mld-listener-done"}
NETWORK_MEND = "write it like 198.51.100.0/24 or 2001:db8::/32"
UNITS = ("second", "minute", "hour", "day")
MAX_RATE = 2**31 - 1
MAX_TIME = 2**63 // 10**9  # the kernel counts nanoseconds

_RATE = re.compile(r"([0-9]{1,10})/(second|minute|hour|day)\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")


class BadValueError(Exception):
    """A value that cannot be: ``what`` is wrong with it, and how to ``mend`` it.

    ``option`` names the one of several that it is about.
    """

    def __init__(self, what: str, mend: str, option: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.option = option


def quoted(value: object) -> str:
    """Return a value as a message quotes it: on one line, and its beginning only if it is long."""
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:60]}..."


def parse_network(text: object) -> Tuple[int, Range]:
    """Return ``(address family, (first, last))`` of an address or CIDR, such as ``198.51.100.0/24``."""
    if not isinstance(text, str):
        raise BadValueError(f"{quoted(text)} is not text", "write an address or CIDR in quotes")
    address, slash, length = text.partition("/")
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    try:
        first = int.from_bytes(inet_pton(family, address), "big")
    except (OSError, ValueError):
        raise BadValueError(f"{quoted(text)} is not an address or CIDR", NETWORK_MEND) from None
    if not slash:
        return family, (first, first)
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits):
        raise BadValueError(f"{quoted(text)} has no prefix length of 0 to {bits}", NETWORK_MEND)
    host_part = (1 << (bits - int(length))) - 1
    if first & host_part:
        network = inet_ntop(family, (first & ~host_part).to_bytes(bits // 8, "big"))
        raise BadValueError(
            f"{quoted(text)} has bits set behind its prefix", f"write {network}/{length}, or the address alone"
        )
    return family, (first, first | host_part)


def parse_addresses(texts: Iterable[object]) -> Addresses:
    """Return the set that addresses and CIDRs of both families make up together."""
    ipv4: List[Range] = []
    ipv6: List[Range] = []
    for text in texts:
        family, found = parse_network(text)
        (ipv6 if family == AF_INET6 else ipv4).append(found)
    return Addresses(merge(ipv4), merge(ipv6))


def address_text(value: int, family: str) -> str:
    """Return one address as text."""
    if family == "ipv4":
        return inet_ntop(AF_INET, value.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))


def format_ranges(ranges: Ranges, family: str) -> List[str]:
    """Return the fewest CIDRs for these ranges, with their length always."""
    bits = 32 if family == "ipv4" else 128
    return [f"{address_text(first, family)}/{length}" for first, length in prefixes(ranges, bits)]


def format_addresses(addresses: Addresses) -> List[str]:
    """Return the CIDRs of both families, IPv4 first."""
    return format_ranges(addresses.ipv4, "ipv4") + format_ranges(addresses.ipv6, "ipv6")


def parse_ports(values: Iterable[object]) -> Ranges:
    """Return the set of ports that numbers and ranges such as ``8000-8010`` make up."""
    return merge(_port_range(value) for value in values)


def _port_range(value: object) -> Range:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _PORTS.match(text) if isinstance(text, str) else None
    if not match:
        raise BadValueError(f"{quoted(value)} is not a port", "write a number such as 443 or a range such as 8000-8010")
    first = int(match.group(1))
    last = int(match.group(2) or first)
    if last > 65535 or first > 65535:
        raise BadValueError(f"port {text} is out of range", "ports go from 0 to 65535")
    if first > last:
        raise BadValueError(f"the range {text} is reversed", f"write {last}-{first}")
    return first, last


def format_ports(ports: Ranges) -> List[str]:
    """Return ports as ``443`` and ``8000-8010``."""
    return [str(first) if first == last else f"{first}-{last}" for first, last in ports]


def parse_protocol(value: object) -> str:
    """Return the canonical word for a protocol's name or number."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        text = PROTOCOL_ALIASES.get(text, text)
        if text in PROTOCOLS:
            return text
        if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255:
            return PROTOCOL_NAMES.get(int(text), str(int(text)))
    raise BadValueError(
        f"unknown protocol {quoted(value)}", f"use a number from 0 to 255 or one of {', '.join(PROTOCOLS)}"
    )


def parse_icmp_type(value: object, protocol: Optional[str]) -> str:
    """Return the canonical word for an ICMP type's name or number, as ``protocol`` (icmp, icmpv6) numbers them."""
    types = ICMPV6_TYPES if protocol == "icmpv6" else ICMP_TYPES
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        text = ICMPV6_ALIASES.get(text, text) if protocol == "icmpv6" else text
        if text in types:
            return text
        if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255:
            return next((name for name, number in types.items() if number == int(text)), str(int(text)))
    raise BadValueError(
        f"unknown {protocol} type {quoted(value)}", f"use a number from 0 to 255 or one of {', '.join(types)}"
    )


def parse_rate(value: object) -> Tuple[int, str]:
    """Return ``(amount, unit)`` of a rate such as ``20/second``."""
    match = _RATE.match(value) if isinstance(value, str) else None
    if not match or not 0 < int(match.group(1)) <= MAX_RATE:
        raise BadValueError(f"{quoted(value)} is not a rate", f"write it like 20/second; units are {', '.join(UNITS)}")
    return int(match.group(1)), match.group(2)


def parse_time(value: object) -> int:
    """Return the seconds since 1970 of a time such as ``2027-01-31T00:00:00Z``."""
    if isinstance(value, str) and _TIME.match(value):
        try:
            seconds = timegm(strptime(value, "%Y-%m-%dT%H:%M:%SZ"))
        except ValueError:
            seconds = -1
        if 0 <= seconds < MAX_TIME:
            return seconds
    raise BadValueError(f"{quoted(value)} is not a time in UTC", 'write it in quotes like "2027-01-31T00:00:00Z"')


def format_time(seconds: int) -> str:
    """Return a time in UTC as the contract writes it."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))
