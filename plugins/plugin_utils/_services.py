# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads services, those that ship and the inventory's own, and tells how each is tried. Private to this collection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_PORTS, FAMILIES
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import PAYLOAD_PORTS
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, contains, merge
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    ICMP_TYPES,
    ICMPV6_TYPES,
    PORT_PROTOCOLS,
    PROTOCOLS,
    parse_icmp_type,
    parse_ports,
    parse_protocol,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._catalogue import NEEDS_INTERFACE, SERVICES
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Part, Service, Way
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    nearest,
    read_by,
    read_choice,
    read_list,
    read_mapping,
    read_name,
    read_some,
    shown,
)

EXAMPLE = "{protocol: tcp, ports: [8443]}"
ECHO = "echo-request"
ICMP = {"icmp": ICMP_TYPES, "icmpv6": ICMPV6_TYPES}
_KEYS = ("protocol", "family", "ports", "source_ports", "icmp_types")
_FAMILY = {"icmp": "ipv4", "igmp": "ipv4", "icmpv6": "ipv6"}
_PAYLOADS = {port: payload for payload, port in PAYLOAD_PORTS.items() if port is not None}


def read_services(value: Any, place: Place) -> dict[str, Service]:
    """Return the services that ship and the inventory's own, by name.

    A service that ships cannot be redefined: every forbid that names it would change its meaning without a word.
    """
    services = dict(_shipped())
    for name, parts in read_mapping(value, place, example=f"{{my_service: {EXAMPLE}}}").items():
        read_name(name, place.key(name))
        if name in services:
            place.key(name).fail(f"the service '{name}' ships with the collection", "Give yours another name")
        services[name] = _read_service(name, parts, place.key(name))
    return services


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, Service]:
    place = Place("shipped services")
    return {name: _read_service(name, list(parts), place.key(name)) for name, parts in SERVICES.items()}


def find_service(value: Any, place: Place, services: Mapping[str, Service]) -> Service:
    """Return the service of this name, or the one that is defined on the spot."""
    if isinstance(value, dict):
        parts = tuple(read_parts(value, place))
        return Service(_name_of(value), parts, text=json.dumps(value))
    if not isinstance(value, str):
        mend = f"Write it like https, one a grant, or like {EXAMPLE}"
        place.fail(f"{shown(value)} stands where the name of a service belongs", mend)
    if value not in services:
        hint = nearest(value, services)
        place.fail(f"unknown service {shown(value)}", f"{hint}Services of your own go into egress_firewall_services")
    return services[value]


def _name_of(options: Mapping[str, Any]) -> str:
    """Return what a service without a name is called: the words that define it, like tcp-6000-6010."""
    values = (options[key] for key in ("family", "protocol", "ports", "source_ports", "icmp_types") if key in options)
    words = (value if isinstance(value, list) else [value] for value in values)
    return "-".join("+".join(str(item) for item in items) for items in words)


def _read_service(name: str, value: Any, place: Place) -> Service:
    parts: list[Part] = []
    items = read_some(value, place, example=EXAMPLE)
    for index, item in enumerate(items):
        parts.extend(read_parts(item, place.item(index) if isinstance(value, list) else place))
    return Service(name, tuple(parts), name in NEEDS_INTERFACE)


def read_parts(value: Any, place: Place) -> list[Part]:
    """Return a part for each protocol of one definition."""
    options = read_mapping(value, place, keys=_KEYS, example=EXAMPLE)
    if "protocol" not in options:
        place.fail("it has no protocol", f"Write it like {EXAMPLE}")
    protocols = read_some(options["protocol"], place.key("protocol"), example="tcp or [tcp, udp]")
    return [_read_part(_read_protocol(protocol, place.key("protocol")), options, place) for protocol in protocols]


def _read_protocol(value: Any, place: Place) -> str:
    return "any" if value == "any" else read_by(parse_protocol, value, place)


def _read_part(protocol: str, options: Mapping[str, Any], place: Place) -> Part:
    family = read_choice(options.get("family", "any"), place.key("family"), ("any", "ipv4", "ipv6"))
    only = _FAMILY.get(protocol, family)
    if family not in ("any", only):
        place.key("family").fail(f"{protocol} does not exist in {family}", "Leave the family out")
    for key in ("ports", "source_ports"):
        if key in options and protocol not in PORT_PROTOCOLS:
            place.key(key).fail(f"the protocol {protocol} has no ports", f"Only {', '.join(PORT_PROTOCOLS)} have")
    if "icmp_types" in options and protocol not in ICMP:
        place.key("icmp_types").fail(f"the protocol {protocol} has no ICMP types", "Only icmp and icmpv6 have")
    selector = _read_types(protocol, options, place) if protocol in ICMP else _read_ports(options, "ports", place)
    return Part(protocol, only, selector, _read_ports(options, "source_ports", place))


def _read_ports(options: Mapping[str, Any], key: str, place: Place) -> Ranges:
    if key not in options:
        return ALL_PORTS
    return read_by(parse_ports, read_some(options[key], place.key(key), example="[443, 8000-8010]"), place.key(key))


def _read_types(protocol: str, options: Mapping[str, Any], place: Place) -> Ranges:
    if "icmp_types" not in options:
        return ALL_PORTS
    place, names = place.key("icmp_types"), ICMP[protocol]
    types = []
    for item in read_some(options["icmp_types"], place, example="[echo-request]"):
        name = read_by(lambda value: parse_icmp_type(value, protocol), item, place)
        types.append(names[name] if name in names else int(name))
    return merge((number, number) for number in types)


def read_icmp_types(value: Any, place: Place) -> tuple[str, ...]:
    """Return names of ICMP types, each of one family or of both; numbers would mean something else in each."""
    known = {**ICMP_TYPES, **ICMPV6_TYPES}
    items = read_list(value, place, example=f"[{ECHO}], or [] for none")
    for index, item in enumerate(items):
        if not isinstance(item, str) or item not in known:
            hint = nearest(item, known) if isinstance(item, str) else ""
            place.item(index).fail(f"unknown ICMP type {shown(item)}", f"{hint}Write a name like {ECHO}")
    return tuple(dict.fromkeys(items))


def icmp_service(name: str) -> Service:
    """Return the service that an ICMP type is, in the families that have it."""
    numbers = {protocol: types[name] for protocol, types in ICMP.items() if name in types}
    return Service(name, tuple(Part(p, _FAMILY[p], ((number, number),)) for p, number in numbers.items()))


def icmp_types(part: Part) -> list[str]:
    """Return the names (or numbers, where a type has none) of the ICMP types that a part selects."""
    names = {number: name for name, number in ICMP[part.protocol].items()}
    return [names.get(n, str(n)) for first, last in part.selector for n in range(first, min(last, 255) + 1)]


def protocol_numbers(part: Part) -> Ranges:
    """Return the numbers of the protocols that a part matches."""
    if part.protocol == "any":
        return ((0, 255),)
    number = PROTOCOLS[part.protocol] if part.protocol in PROTOCOLS else int(part.protocol)
    return ((number, number),)


def ways(service: Service) -> tuple[Way, ...]:
    """Return how a service is tried in the families that it has; nothing if it cannot be."""
    return tuple(way for family in FAMILIES if (way := way_to(service, family)))


def way_to(service: Service, family: str) -> Way | None:
    """Return how a service is tried in one family: what answers a question first, what never answers last."""
    parts = (part for part in service.parts if part.family in ("any", family) and part.source_ports == ALL_PORTS)
    return min((way for part in parts if (way := _way_of(part))), key=_rank, default=None)


def _way_of(part: Part) -> Way | None:
    if part.protocol in ICMP:
        return Way("icmp") if contains(part.selector, ICMP[part.protocol][ECHO]) else None
    if part.protocol not in ("tcp", "udp") or part.selector == ALL_PORTS:
        return None
    port = next((max(first, 1) for first, last in part.selector if last), None)
    if port is None:
        return None
    return Way("tcp", port) if part.protocol == "tcp" else Way("udp", port, _PAYLOADS.get(port, "none"))


def _rank(way: Way) -> int:
    return 3 if way.payload == "none" else ("udp", "tcp", "icmp").index(way.protocol)
