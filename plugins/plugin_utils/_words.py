# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Regions in words, and packets that stand for them. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet
from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, ALL_PORTS, FAMILIES
from ansible_collections.palisade.egress.plugins.module_utils._options import ADDRESS_TYPES, TCP_FLAGS
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, contains, subtract
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    ICMP_TYPES,
    ICMPV6_TYPES,
    MAX_TIME,
    PORT_PROTOCOLS,
    PROTOCOL_NAMES,
    address_text,
    format_ports,
    format_ranges,
    format_time,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    AXIS,
    NUMBERS,
    STATES,
    Box,
    Region,
    Symbols,
    compact,
    normal,
)

# So many addresses are listed; of more, how many there are.
LISTED = 6
# Sets of more ranges are not looked at for a likeness.
_LARGE = 1000
_ICMP = {"ipv4": ("icmp", ICMP_TYPES), "ipv6": ("icmpv6", ICMPV6_TYPES)}
# What a person would try first.
_LIKELY_PROTOCOLS = (6, 17, 1, 58)
_LIKELY_SOURCE_PORT = 50000
_DOCUMENTATION = {"ipv4": 0xC0000201, "ipv6": 0x20010DB8 << 96 | 1}
_NAMES = {"in_interface": "in", "out_interface": "out", "uid_owner": "user", "gid_owner": "group", "cgroup": "cgroup"}
_REVERSE_PATHS: tuple[tuple[str, ...], ...] = ((), ("strict",), ("strict", "loose"))


Known = Mapping[tuple[str, Ranges], str]
Contexts = Mapping[str, Box]


def describe(
    regions: Iterable[tuple[str, Region]], symbols: Symbols, contexts: Contexts, known: Known | None = None
) -> list[str]:
    """Return a line for each kind of packets in regions, given with their families; both families share a line.

    ``contexts`` are all packets that it could be about, by family: what they have in common is not told. ``known``
    gives names to sets of addresses of a family.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    for family, region in regions:
        # Pieces that are all there is together are told as such: hence twice.
        for box in compact(normal(box, family, symbols, contexts[family]) for box in compact(region)):
            before, after = _facets(box, family, symbols, known or {})
            lines.setdefault((before, after), []).extend(_destinations(box[AXIS["destination"]], family, known or {}))
    return [" ".join(part for part in (before, _to(to), after) if part) for (before, after), to in lines.items()]


def _facets(box: Box, family: str, symbols: Symbols, known: Known) -> tuple[str, str]:
    """Return what to tell before and behind the destination."""
    words = []
    if box[AXIS["source"]] != ALL_ADDRESSES.of(family):
        words.append(f"from {_listed(_destinations(box[AXIS['source']], family, known))}")
    if box[AXIS["source_ports"]] != ALL_PORTS:
        words.append(f"from port {_listed(format_ports(box[AXIS['source_ports']]))}")
    for axis, word in _NAMES.items():
        names = _names(box[AXIS[axis]], symbols.all(axis))
        if box[AXIS[axis]] != symbols.whole(axis) and (axis, names) != ("out_interface", "any but lo"):
            words.append(f"{word} {names}")
    words += _hidden(box)
    return _service(box, family), ", ".join(words)


def _hidden(box: Box) -> Iterator[str]:
    """Yield what to tell of that which does not stand in addresses and ports."""
    flags = box[AXIS["tcp_flags"]]
    if flags != ((0, 2 ** len(TCP_FLAGS) - 1),) and 6 in _few(box[0]):
        yield f"with {len(_few(flags))} combinations of TCP flags"
    for axis, word in (("source_type", "source"), ("destination_type", "destination")):
        if box[AXIS[axis]] != ((0, len(ADDRESS_TYPES)),):
            yield f"{word} of type {_names(box[AXIS[axis]], ADDRESS_TYPES)}"
    if box[AXIS["reverse_path"]] != ((0, 2),):
        failing = [" and ".join(_REVERSE_PATHS[n]) or "none" for n in _few(box[AXIS["reverse_path"]])]
        yield f"failing {' or '.join(failing)} of the reverse path checks"
    states = _few(box[AXIS["state"]])
    if len(states) < len(STATES):
        yield f"state {', '.join(STATES[n] for n in states)}"
    first, last = box[AXIS["time"]][0][0], box[AXIS["time"]][-1][1]
    if last != MAX_TIME:
        yield f"until {format_time(last + 1)}"
    elif first:
        yield f"from {format_time(first)} on"


def _service(box: Box, family: str) -> str:
    """Return protocols and ports, or ICMP types, in words."""
    protocols, selector = box[0], box[AXIS["selector"]]
    icmp = _ICMP[family][0]
    rest = subtract(NUMBERS, protocols)
    names = [PROTOCOL_NAMES.get(n, f"protocol {n}") for n in _few(protocols)]
    if len(names) > LISTED:
        without = [PROTOCOL_NAMES.get(n, f"protocol {n}") for n in _few(rest)]
        return f"any protocol but {_listed(without)}" if without else "any protocol"
    text = ", ".join(names)
    if selector == ALL_PORTS or not set(names) & {icmp, *PORT_PROTOCOLS}:
        return text
    if names == [icmp]:
        return f"{text} type {_icmp_types(selector, family)}"
    return f"{text} port {_but(selector, ALL_PORTS, format_ports)}"


def _icmp_types(selector: Ranges, family: str) -> str:
    words = {number: name for name, number in _ICMP[family][1].items()}
    rest = subtract(NUMBERS, selector)
    wanted, but = (rest, "any but ") if len(_few(rest)) < len(_few(selector)) else (selector, "")
    return but + _listed([words.get(n, str(n)) for n in _few(wanted)])


def _few(ranges: Ranges) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


def _but(ranges: Ranges, whole: Ranges, texts: Callable[[Ranges], list[str]]) -> str:
    """Return a set, or what is missing of the whole, whichever is shorter."""
    rest = subtract(whole, ranges)
    if len(rest) < len(ranges):
        return f"any but {_listed(texts(rest))}"
    return _listed(format_ports(ranges))


def _destinations(ranges: Ranges, family: str, known: Known) -> list[str]:
    """Return addresses by their name, as CIDRs, or as a phrase about what is missing, whichever is shortest."""
    whole = ALL_ADDRESSES.of(family)
    if (family, ranges) in known:
        return [known[family, ranges]]
    if ranges == whole:
        return [f"any {family} address"]
    listed, missing = format_ranges(ranges, family), format_ranges(subtract(whole, ranges), family)
    near = _nearly(ranges, family, known)
    if near and len(near[1]) < min(len(missing), len(listed)):
        return [f"{near[0]} but {_listed([short(text) for text in near[1]])}"]
    if len(missing) < len(listed):
        return [f"any {family} address but {_listed([short(text) for text in missing])}"]
    return [short(text) for text in listed]


def _nearly(ranges: Ranges, family: str, known: Known) -> tuple[str, list[str]] | None:
    """Return the name of the set that holds these addresses and the fewest others, and those others."""
    found = [
        (subtract(whole, ranges), name)
        for (of, whole), name in known.items()
        if of == family and len(whole) < _LARGE
        if not subtract(ranges, whole)
    ]
    return min(((name, format_ranges(rest, family)) for rest, name in found), key=lambda f: len(f[1]), default=None)


def _to(destinations: Sequence[str]) -> str:
    destinations = list(dict.fromkeys(destinations))
    phrases = [text for text in destinations if text.startswith("any ") or " but " in text]
    if phrases == [f"any {family} address" for family in FAMILIES]:
        phrases = ["any address"]
    others = [text for text in destinations if text not in phrases and not text.startswith("any ")]
    return f"to {' and '.join([*phrases, *([_listed(others)] if others else [])])}"


def short(cidr: str) -> str:
    """Return a single address without the length of its prefix."""
    address, _slash, length = cidr.partition("/")
    return address if length == ("128" if ":" in address else "32") else cidr


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - LISTED
    return ", ".join(texts[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _names(ranges: Ranges, known: Sequence[str]) -> str:
    numbers = _few(ranges)
    if 0 not in numbers:
        return _listed([known[number - 1] for number in numbers])
    without = [name for number, name in enumerate(known, 1) if number not in numbers]
    return f"any but {_listed(without)}"


def witness(box: Box, family: str, chain: str, symbols: Symbols) -> Packet:
    """Return a packet that is in the box."""
    numbers = {axis: box[AXIS[axis]][0][0] for axis in AXIS}
    protocol = next((n for n in _LIKELY_PROTOCOLS if contains(box[0], n)), numbers["protocol"])
    name = PROTOCOL_NAMES.get(protocol, str(protocol))
    icmp, types = _ICMP[family]
    words = {number: word for word, number in types.items()}
    state, _space, way = STATES[numbers["state"]].partition(" ")
    kinds = ("other", *ADDRESS_TYPES)
    return Packet(
        chain=chain,
        family=family,
        source=_host_of(box[AXIS["source"]], family),
        destination=_host_of(box[AXIS["destination"]], family),
        protocol=name,
        source_port=_source_port(box) if name in PORT_PROTOCOLS else None,
        destination_port=numbers["selector"] if name in PORT_PROTOCOLS else None,
        tcp_flags=tuple(flag for bit, flag in enumerate(TCP_FLAGS) if numbers["tcp_flags"] >> bit & 1),
        icmp_type=words.get(numbers["selector"], str(numbers["selector"])) if name == icmp else None,
        **{key: _name(box, axis, symbols) for axis, key in _FIELDS.items()},
        ctstate=state,
        ct_direction=way or None,
        source_type=kinds[_kind(box[AXIS["source_type"]])],
        destination_type=kinds[_kind(box[AXIS["destination_type"]])],
        failed_reverse_path=_REVERSE_PATHS[numbers["reverse_path"]],
        time=numbers["time"],
    )


_FIELDS = {
    "in_interface": "in_interface",
    "out_interface": "out_interface",
    "uid_owner": "uid",
    "gid_owner": "gid",
    "cgroup": "cgroup",
}


def _name(box: Box, axis: str, symbols: Symbols) -> str | None:
    """Return the name of an interface or owner; None is one that no rule mentions."""
    number = box[AXIS[axis]][0][0]
    return symbols.all(axis)[number - 1] if number else None


def _kind(ranges: Ranges) -> int:
    unicast = ADDRESS_TYPES.index("unicast") + 1
    return unicast if contains(ranges, unicast) else ranges[0][0]


def _host_of(ranges: Ranges, family: str) -> int:
    """Return an address that looks like a host's: one of the documentation's, or not the first of a network."""
    if contains(ranges, _DOCUMENTATION[family]):
        return _DOCUMENTATION[family]
    first, last = ranges[0] if ranges[0] != (0, 0) or len(ranges) == 1 else ranges[1]
    return first + 1 if last > first + 1 else first


def _source_port(box: Box) -> int:
    ports = box[AXIS["source_ports"]]
    return _LIKELY_SOURCE_PORT if contains(ports, _LIKELY_SOURCE_PORT) else ports[0][0]


def tell(packet: Packet, source: str = "", destination: str = "") -> str:
    """Return a packet in words; ``source`` and ``destination`` are names to tell with or for its addresses."""
    to = address_text(packet.destination, packet.family)
    to = f"{destination} ({to})" if destination else to
    words = [f"{source or address_text(packet.source, packet.family)} → {to}", packet.protocol]
    if packet.destination_port is not None:
        words.append(f"port {packet.destination_port}")
    if packet.icmp_type is not None:
        words.append(f"type {packet.icmp_type}")
    owners = (("user", packet.uid), ("group", packet.gid), ("out", packet.out_interface), ("in", packet.in_interface))
    words += [f"{word} {name}" for word, name in owners if name is not None]
    if packet.source_port not in (None, _LIKELY_SOURCE_PORT):
        words.append(f"from port {packet.source_port}")
    if packet.ctstate != "new":
        words.append(f"state {packet.ctstate}")
    return " ".join(words)
