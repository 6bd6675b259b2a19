# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of packets at the routers between two addresses. Private to this collection.

A router is between two addresses that are on different sides of it, as its prefixes tell. What stays on one segment no
router sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, FAMILIES, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, intersect, subtract
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import Frame, Outcome, shared, walk
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import join
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Fleet, Policy, Router
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import AXIS, Region, minus, within

# Return a ruleset as packets of a family meet it in a base chain.
Frames = Callable[[Ruleset, str, str], Frame]


@dataclass(frozen=True)
class Crossing:
    """Packets that a router forwards: from ``source`` addresses by one interface to ``destination`` by another."""

    router: str
    in_interface: str
    out_interface: str
    source: Ranges
    destination: Ranges


@dataclass(frozen=True)
class _Side:
    interface: str
    addresses: Ranges
    is_inside: bool


@dataclass(frozen=True)
class _Router:
    """A router in one family: its sides, all that is inside, and its own addresses."""

    name: str
    sides: tuple[_Side, ...]
    inside: Ranges
    own: Ranges


class Crossings:
    """The routers of a fleet that have a border policy."""

    def __init__(self, fleet: Fleet, policies: Mapping[str, Policy]) -> None:
        self._routers = {
            family: [
                _router(name, policy.border.router, family, fleet.hosts[name].addresses_of(family))
                for name, policy in policies.items()
                if policy.border
            ]
            for family in FAMILIES
        }

    def parts(self, family: str, source: Ranges) -> list[Ranges]:
        """Return sources in parts, each of which is on one side of each router."""
        parts = [source]
        for its in (side.addresses for router in self._routers[family] for side in router.sides):
            halves = [half for part in parts for half in (intersect(part, its), subtract(part, its))]
            parts = [half for half in halves if half]
        return parts or [()]

    def is_behind(self, family: str, addresses: Ranges) -> bool:
        """Tell whether some of these addresses are on the inside of a router."""
        return any(intersect(addresses, router.inside) for router in self._routers[family])

    def between(self, family: str, source: Ranges, destination: Ranges) -> Iterator[Crossing]:
        """Yield the ways by which packets from some addresses to others cross a router."""
        for router in self._routers[family]:
            if not (intersect(source, router.inside) or intersect(destination, router.inside)):
                continue  # as with most routers of a large fleet
            for side in router.sides:
                coming = subtract(intersect(source, side.addresses), router.own)
                for other in router.sides if coming else ():
                    going = subtract(intersect(destination, other.addresses), router.own)
                    if going and other is not side and (side.is_inside or other.is_inside):
                        yield Crossing(router.name, side.interface, other.interface, coming, going)


def _router(name: str, router: Router, family: str, own: Ranges) -> _Router:
    inside = join(side.prefixes for side in router.inside).of(family)
    beyond = subtract(ALL_ADDRESSES.of(family), inside)
    sides = [_Side(side.interface, side.prefixes.of(family), True) for side in router.inside]
    sides += [_Side(side.interface, beyond, False) for side in router.outside]
    return _Router(name, tuple(sides), inside, own)


def at_routers(
    crossings: Crossings, rulesets: Mapping[str, Ruleset], frames: Frames, family: str, source: Ranges, region: Region
) -> Iterator[tuple[Crossing, Outcome]]:
    """Yield what may become of packets of a region, from these addresses, at each router that they cross."""
    for box in region:
        for crossing in crossings.between(family, source, box[AXIS["destination"]]):
            ruleset = rulesets[crossing.router]
            arriving = [box]
            for chain in ("prerouting", "forward"):
                whole = frames(ruleset, family, chain)
                start = within(whole.start, _ends(crossing, whole, chain))
                arriving = [piece for other in arriving for piece in within(start, shared(other))]
                found = walk(whole, chain, arriving).outcomes
                yield from ((crossing, outcome) for outcome in found if chain == "forward" or not outcome.accepts)
                arriving = [piece for outcome in found if outcome.accepts for piece in outcome.region]


def _ends(crossing: Crossing, whole: Frame, chain: str) -> tuple[tuple[int, Ranges], ...]:
    """Return what packets of a crossing have in common; a spoofed source is no matter of policy."""
    demands = {
        "source": crossing.source,
        "destination": crossing.destination,
        "in_interface": whole.symbols.ranges("in_interface", [crossing.in_interface]),
    }
    if chain == "forward":
        demands["out_interface"] = whole.symbols.ranges("out_interface", [crossing.out_interface])
    return tuple(sorted((AXIS[axis], ranges) for axis, ranges in demands.items()))


def past_routers(found: Sequence[tuple[Crossing, Outcome]], region: Region) -> Region:
    """Return the packets of a region that may get past all routers, by what may become of them there."""
    for router in dict.fromkeys(crossing.router for crossing, _outcome in found):
        here = [outcome for crossing, outcome in found if crossing.router == router]
        crossing = _like(region, here)
        region = minus(region, crossing) + _like(region, [outcome for outcome in here if outcome.accepts])
    return region


def _like(region: Region, outcomes: Iterable[Outcome]) -> Region:
    """Return the packets of a region that are those of these outcomes, seen elsewhere."""
    return [box for outcome in outcomes for other in outcome.region for box in within(region, shared(other))]
