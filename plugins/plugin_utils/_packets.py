# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single packets and their verdicts as plain data, for filters. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Evaluation, Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, FAMILIES, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._options import ADDRESS_TYPES, CTSTATES, TCP_FLAGS
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    PORT_PROTOCOLS,
    address_text,
    format_time,
    parse_icmp_type,
    parse_network,
    parse_ports,
    parse_protocol,
    parse_time,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    demand,
    read_by,
    read_choice,
    read_list,
    read_mapping,
    read_text,
)

_EXAMPLE = "{from: 198.51.100.11, to: 203.0.113.10, protocol: tcp, port: 25}"
_NAMES = {
    "in_interface": "in_interface",
    "out_interface": "out_interface",
    "user": "uid",
    "group": "gid",
    "cgroup": "cgroup",
}
_KEYS = (
    "chain",
    "from",
    "to",
    "protocol",
    "source_port",
    "port",
    "icmp_type",
    "tcp_flags",
    *_NAMES,
    "state",
    "direction",
    "source_type",
    "destination_type",
    "failed_reverse_path",
    "time",
)


def read_ruleset(value: Any, place: Place) -> Ruleset:
    """Return the ruleset of a policy, or of any mapping with ``rules`` and ``chains``."""
    if not isinstance(value, Mapping) or "rules" not in value:
        place.fail("it has no 'rules'", "Give a policy, or {rules: […], chains: {…}}")
    return decode(value["rules"], value.get("chains", {}))


def read_packet(value: Any, place: Place) -> Packet:
    """Return a packet; what is not said is as in a packet that begins a flow from a host's own address."""
    options = read_mapping(value, place, keys=_KEYS, example=_EXAMPLE)
    demand(options, place, ("from", "to", "protocol"), of="packet", example=_EXAMPLE)
    chain = read_choice(options.get("chain", "output"), place.key("chain"), BASE_CHAINS)
    source, destination = (_read_address(options[key], place.key(key)) for key in ("from", "to"))
    if source[0] != destination[0]:
        place.fail("'from' and 'to' are of different families", "Write two IPv4 addresses, or two IPv6 addresses")
    names = {f: read_text(options[key], place.key(key), example=key) for key, f in _NAMES.items() if key in options}
    packet = Packet(
        chain=chain,
        family=source[0],
        source=source[1],
        destination=destination[1],
        protocol=read_by(parse_protocol, options["protocol"], place.key("protocol")),
        uid=names.get("uid"),
        gid=names.get("gid"),
        cgroup=names.get("cgroup"),
        in_interface=names.get("in_interface"),
        out_interface=names.get("out_interface"),
    )
    return _with_state(_with_ports(packet, options, place), options, place)


def _read_address(value: Any, place: Place) -> tuple[str, int]:
    _family, (first, last) = read_by(parse_network, value, place)
    if first != last:
        place.fail("a packet has one address, and this is a network", "Write a single address")
    return FAMILIES[":" in value], first


def _with_ports(packet: Packet, options: Mapping[str, Any], place: Place) -> Packet:
    found: dict[str, Any] = {"tcp_flags": ("syn",) if packet.protocol == "tcp" else ()}
    for key, field in (("port", "destination_port"), ("source_port", "source_port")):
        has_ports = packet.protocol in PORT_PROTOCOLS
        if key in options and not has_ports:
            place.key(key).fail(f"{packet.protocol} has no ports", f"Only {', '.join(PORT_PROTOCOLS)} have")
        if has_ports and key == "port" and key not in options:
            place.fail("the packet has no 'port'", f"Write it like {_EXAMPLE}")
        if has_ports:
            found[field] = read_by(parse_ports, [options.get(key, 50000)], place.key(key))[0][0]
    if packet.protocol in ("icmp", "icmpv6"):
        kind = options.get("icmp_type", "echo-request")
        found["icmp_type"] = read_by(lambda v: parse_icmp_type(v, packet.protocol), kind, place.key("icmp_type"))
    if "tcp_flags" in options:
        flags = read_list(options["tcp_flags"], place.key("tcp_flags"), example="[syn]")
        found["tcp_flags"] = tuple(read_choice(flag, place.key("tcp_flags"), TCP_FLAGS) for flag in flags)
    return replace(packet, **found)


def _with_state(packet: Packet, options: Mapping[str, Any], place: Place) -> Packet:
    local = "local" if packet.chain == "output" else "unicast"
    choices = {
        "ctstate": ("state", "new", CTSTATES),
        "ct_direction": ("direction", "original", ("original", "reply")),
        "source_type": ("source_type", local, (*ADDRESS_TYPES, "other")),
        "destination_type": (
            "destination_type",
            "local" if packet.chain == "input" else "unicast",
            (*ADDRESS_TYPES, "other"),
        ),
    }
    found: dict[str, Any] = {
        field: read_choice(options.get(key, default), place.key(key), words)
        for field, (key, default, words) in choices.items()
    }
    paths = {"none": (), "strict": ("strict",), "loose": ("strict", "loose")}
    failed = options.get("failed_reverse_path", "none")
    found["failed_reverse_path"] = paths[read_choice(failed, place.key("failed_reverse_path"), paths)]
    if "time" in options:
        found["time"] = read_by(parse_time, options["time"], place.key("time"))
    return replace(packet, **found)


def encode_packet(packet: Packet) -> dict[str, Any]:
    """Return a packet as ``read_packet`` takes it, without what is as in every packet that begins a flow."""
    plain: dict[str, Any] = {
        "chain": packet.chain,
        "from": address_text(packet.source, packet.family),
        "to": address_text(packet.destination, packet.family),
        "protocol": packet.protocol,
        "source_port": packet.source_port,
        "port": packet.destination_port,
        "icmp_type": packet.icmp_type,
        "tcp_flags": list(packet.tcp_flags),
        **{key: getattr(packet, field) for key, field in _NAMES.items()},
        "state": packet.ctstate,
        "direction": packet.ct_direction,
        "source_type": packet.source_type,
        "destination_type": packet.destination_type,
        "failed_reverse_path": packet.failed_reverse_path[-1] if packet.failed_reverse_path else None,
        "time": format_time(int(packet.time)) if packet.time else None,
    }
    return {key: value for key, value in plain.items() if value not in (None, [])}


def encode_verdicts(found: Evaluation) -> dict[str, Any]:
    """Return what decides; where a limit leaves two verdicts possible, ``limited`` is true and the first one leads."""
    first = found.verdicts[0]
    return {"verdict": first.action, "rule": first.rule, "chain": first.chain, "limited": len(found.verdicts) > 1}


def verdict(value: Any, packet: Any) -> dict[str, Any]:
    """Return what a policy or ruleset does with a packet."""
    ruleset = read_ruleset(value, Place("policy"))
    found = evaluate(ruleset, read_packet(packet, Place("packet")))
    result = encode_verdicts(found)
    return {**result, "origin": _origin(value, result["rule"]), "matched": [rule.name for rule in found.trace]}


def _origin(value: Mapping[str, Any], rule: str | None) -> str | None:
    """Return the origin of a rule, as far as the policy names it."""
    origins = {
        f"{prefix}{item['origin']}": item["origin"]
        for key, prefixes in (("forbids", ("forbid/",)), ("waivers", ("waiver/",)), ("grants", ("grant/", "")))
        for prefix in prefixes
        for item in value.get(key, ())
    }
    name = rule or ""
    while name and name not in origins:
        name = name.rpartition("/")[0]
    return origins.get(name)
