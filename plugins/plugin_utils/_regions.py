# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exact sets of packets of one IP family, over all that a rule can match. Private to this collection.

A box is a product of ranges, one an axis; a region is a list of boxes. Interfaces, owners and other names are numbered
by ``Symbols``; number 0 is every name that no rule mentions, which all fare alike. A condition is what a rule demands:
ranges for some axes. It costs what those axes cost, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    AddressType,
    Rule,
    Ruleset,
    TcpFlags,
)
from ansible_collections.palisade.egress.plugins.module_utils._options import ADDRESS_TYPES, TCP_FLAGS
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, Ranges, intersect, merge, subtract
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    ICMP_TYPES,
    ICMPV6_TYPES,
    MAX_TIME,
    PORT_PROTOCOLS,
    PROTOCOLS,
)

Box = tuple[Ranges, ...]
Region = list[Box]
Condition = tuple[tuple[int, Ranges], ...]

# What is looked at first splits a region first: protocol and ports, as then most rules meet one piece only.
AXES = (
    "protocol",
    "selector",
    "source_ports",
    "tcp_flags",
    "destination",
    "source",
    "in_interface",
    "out_interface",
    "uid_owner",
    "gid_owner",
    "cgroup",
    "source_type",
    "destination_type",
    "reverse_path",
    "state",
    "time",
)
AXIS = {name: number for number, name in enumerate(AXES)}
NUMBERS: Ranges = ((0, 255),)
NOTHING: Ranges = ((0, 0),)
SYN: Ranges = ((2, 2),)
# Of a packet that belongs to no flow conntrack knows no direction.
STATES = (
    "invalid",
    "untracked",
    *(f"{state} {way}" for state in ("new", "established", "related") for way in ("original", "reply")),
)
# Which checks of the reverse path a packet fails.
REVERSE_PATHS = {"strict": ((1, 2),), "loose": ((2, 2),)}
_NAMED = ("in_interface", "out_interface", "uid_owner", "gid_owner", "cgroup")
_TYPES = {"ipv4": ICMP_TYPES, "ipv6": ICMPV6_TYPES}
_ICMP = {"ipv4": 1, "ipv6": 58}


def cut(box: Box, condition: Condition) -> tuple[Box | None, Region]:
    """Return what of a box meets a condition, and what does not."""
    inside, outside = box, []
    for axis, wanted in condition:
        mine = inside[axis]
        common = mine if mine is wanted else intersect(mine, wanted)
        if not common:
            return None, [box]
        if common != mine:
            outside.append((*inside[:axis], subtract(mine, wanted), *inside[axis + 1 :]))
            inside = (*inside[:axis], common, *inside[axis + 1 :])
    return inside, outside


def divide(region: Iterable[Box], condition: Condition) -> tuple[Region, Region]:
    """Return what of a region meets a condition, and what does not."""
    hit: Region = []
    rest: Region = []
    for box in region:
        inside, outside = cut(box, condition)
        if inside is not None:
            hit.append(inside)
        rest += outside
    return hit, rest


def within(region: Iterable[Box], condition: Condition) -> Region:
    """Return what of a region meets a condition."""
    return divide(region, condition)[0]


def minus(region: Iterable[Box], others: Iterable[Box]) -> Region:
    """Return what of a region is in none of the other boxes."""
    left = list(region)
    for other in others:
        if not left:
            break
        left = divide(left, tuple(enumerate(other)))[1]
    return left


def common(region: Iterable[Box], others: Iterable[Box]) -> Region:
    """Return what two regions have in common."""
    region = list(region)
    return [box for other in others for box in within(region, tuple(enumerate(other)))]


def compact(region: Iterable[Box]) -> Region:
    """Return the same packets in fewer boxes, where boxes differ in one axis only."""
    boxes = list(dict.fromkeys(region))
    while True:
        before = len(boxes)
        for axis in reversed(range(len(AXES))):
            groups: dict[Box, list[Range]] = {}
            for box in boxes:
                groups.setdefault((*box[:axis], *box[axis + 1 :]), []).extend(box[axis])
            boxes = [(*key[:axis], merge(ranges), *key[axis:]) for key, ranges in groups.items()]
        if len(boxes) == before:
            return boxes


@dataclass(frozen=True)
class Symbols:
    """The names that rules mention, by axis; the first is number 1."""

    names: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rulesets: Iterable[Ruleset], **more: Iterable[str]) -> Symbols:
        """Return the names in these rulesets, and more of them by axis."""
        found: dict[str, dict[str, None]] = {axis: dict.fromkeys(more.get(axis, ())) for axis in _NAMED}
        for ruleset in rulesets:
            for chain in ruleset.chains:
                for rule in chain.rules:
                    for axis in _NAMED:
                        found[axis].update(dict.fromkeys(getattr(rule, axis) or ()))
        return cls(tuple(tuple(sorted(names)) for names in found.values()))

    def all(self, axis: str) -> tuple[str, ...]:
        """Return the names on an axis."""
        return self.names[_NAMED.index(axis)]

    def whole(self, axis: str) -> Ranges:
        """Return all numbers on an axis."""
        return ((0, len(self.all(axis))),)

    def ranges(self, axis: str, names: Iterable[str]) -> Ranges:
        """Return the numbers of these names; a cgroup's are those of all below it, too."""
        known = self.all(axis)
        if axis == "cgroup":
            names = [path for path in known for name in names if f"{path}/".startswith(f"{name}/")]
        return merge((known.index(name) + 1,) * 2 for name in names)


def universe(family: str, symbols: Symbols) -> Region:
    """Return all packets of a family: TCP, what else has ports, ICMP, and the rest.

    A packet has ports, flags or an ICMP type only where its protocol has: elsewhere that is 0, once.
    """
    ports = {PROTOCOLS[name] for name in PORT_PROTOCOLS} - {PROTOCOLS["tcp"]}
    special = {PROTOCOLS["tcp"], _ICMP[family], *ports}
    kinds = (
        ({PROTOCOLS["tcp"]}, ALL_PORTS, ALL_PORTS, ((0, 2 ** len(TCP_FLAGS) - 1),)),
        (ports, ALL_PORTS, ALL_PORTS, NOTHING),
        ({_ICMP[family]}, NUMBERS, NOTHING, NOTHING),
        (set(range(256)) - special, NOTHING, NOTHING, NOTHING),
    )
    addresses = ALL_ADDRESSES.of(family)
    types = ((0, len(ADDRESS_TYPES)),)
    tail = (*(symbols.whole(axis) for axis in _NAMED), types, types, ((0, 2),), ((0, len(STATES) - 1),))
    return [(_numbers(protocols), *rest, addresses, addresses, *tail, ((0, MAX_TIME),)) for protocols, *rest in kinds]


def normal(box: Box, family: str, symbols: Symbols, context: Box) -> Box:
    """Return the box fit to be told in words: an axis is whole where it holds all that there is in its context.

    That is what its protocols can have at all, or what all packets have that it is about.
    """
    kinds = universe(family, symbols)
    whole = hull(kinds)
    mine = next((kind for kind in kinds if not subtract(box[0], kind[0])), whole)
    told = (AXIS["destination"], AXIS["protocol"])
    flags = AXIS["tcp_flags"]
    if context[flags] != whole[flags]:  # what begins a flow has SYN, and nobody needs to be told
        box = (*box[:flags], whole[flags], *box[flags + 1 :])
    return tuple(
        whole[axis] if axis not in told and ranges in (mine[axis], context[axis]) else ranges
        for axis, ranges in enumerate(box)
    )


def condition_of(rule: Rule, family: str, symbols: Symbols) -> Condition | None:
    """Return what a rule demands of packets of this family, its limit aside, or None where it matches none."""
    if family not in rule.families:
        return None
    found: dict[int, Ranges] = {}
    for axis, ranges in _demands(rule, family, symbols):
        number = AXIS[axis]
        found[number] = intersect(found[number], ranges) if number in found else ranges
    if not all(found.values()):
        return None
    return tuple(sorted(found.items()))


def _demands(rule: Rule, family: str, symbols: Symbols) -> Iterator[tuple[str, Ranges]]:
    if rule.protocol is not None:
        yield "protocol", _numbers([PROTOCOLS[rule.protocol] if rule.protocol in PROTOCOLS else int(rule.protocol)])
    if rule.icmp_type is not None:
        types = _TYPES[family]
        yield "selector", _numbers(types[name] if name in types else int(name) for name in rule.icmp_type)
    for axis, ranges in (("selector", rule.destination_ports), ("source_ports", rule.source_ports)):
        if ranges is not None:
            yield axis, ranges
    for axis, addresses in (("destination", rule.destination), ("source", rule.source)):
        if addresses is not None:
            yield axis, addresses.of(family)
    for axis in _NAMED:
        if getattr(rule, axis) is not None:
            yield axis, symbols.ranges(axis, getattr(rule, axis))
    yield from _hidden_demands(rule)


def _hidden_demands(rule: Rule) -> Iterator[tuple[str, Ranges]]:
    """Yield what a rule demands of what does not stand in a packet's addresses and ports."""
    if rule.tcp_flags is not None:
        yield "tcp_flags", _flags(rule.tcp_flags)
    for axis, kind in (("source_type", rule.source_type), ("destination_type", rule.destination_type)):
        if kind is not None:
            yield axis, _types(kind)
    if rule.reverse_path is not None:
        yield "reverse_path", REVERSE_PATHS[rule.reverse_path]
    if rule.ctstate is not None:
        yield "state", _numbers(n for n, state in enumerate(STATES) if state.split()[0] in rule.ctstate)
    if rule.ct_direction is not None:
        yield "state", _numbers(n for n, state in enumerate(STATES) if state.endswith(f" {rule.ct_direction}"))
    if rule.expires is not None:
        yield "time", ((0, rule.expires - 1),) if rule.expires else ()


def _numbers(numbers: Iterable[int]) -> Ranges:
    return merge((number, number) for number in numbers)


def _flags(flags: TcpFlags) -> Ranges:
    mask, on = (sum(1 << TCP_FLAGS.index(name) for name in names) for names in (flags.mask, flags.set))
    return _numbers(number for number in range(2 ** len(TCP_FLAGS)) if number & mask == on)


def _types(kind: AddressType) -> Ranges:
    number = ADDRESS_TYPES.index(kind.kind) + 1
    return subtract(((0, len(ADDRESS_TYPES)),), ((number, number),)) if kind.negated else ((number, number),)


def state(name: str) -> Ranges:
    """Return the number of a connection state, such as ``new original``."""
    return _numbers([STATES.index(name)])


def hull(region: Sequence[Box]) -> tuple[Ranges, ...]:
    """Return, by axis, all that any box of a region holds."""
    return tuple(merge(r for box in region for r in box[axis]) for axis in range(len(AXES)))
