# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a ruleset does with sets of packets: ``_evaluate`` for all packets at once. Private to this collection.

A limit may let a packet match or not, so one packet can have several verdicts: what is claimed here of all verdicts
holds however full the buckets are. Time is an axis like any other: a rule that expires matches up to then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.palisade.egress.plugins.module_utils._chain_checks import targets
from ansible_collections.palisade.egress.plugins.module_utils._model import Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._options import ADDRESS_TYPES
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, intersect, subtract
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    AXIS,
    NOTHING,
    SYN,
    Box,
    Condition,
    Region,
    Symbols,
    condition_of,
    divide,
    hull,
    state,
    universe,
    within,
)

# Base chains before this priority see packets that conntrack has not seen yet.
_CONNTRACK = -200
_EARLY = ("prerouting", "output")
LOCAL: Ranges = ((ADDRESS_TYPES.index("local") + 1,) * 2,)
UNICAST: Ranges = ((ADDRESS_TYPES.index("unicast") + 1,) * 2,)


# What a packet has of its own, and not where it is seen.
_SHARED = ("protocol", "selector", "source_ports", "tcp_flags", "destination", "time")


@dataclass(frozen=True)
class Frame:
    """One ruleset as packets of one family meet it that are in ``start``.

    ``chains`` holds the rules that such packets can match, with what is left to demand of them. Rules that only log
    are not among them.
    """

    ruleset: Ruleset
    family: str
    symbols: Symbols
    start: Region
    chains: Mapping[str, list[tuple[Rule, Condition]]]


@dataclass(frozen=True)
class Outcome:
    """Packets and the verdict that a rule of a chain, or the chain's default (None), may give them."""

    action: str
    chain: str
    rule: Rule | None
    region: Region

    @property
    def accepts(self) -> bool:
        """Whether these packets pass."""
        return self.action == "accept"


@dataclass
class Walk:
    """A region's way through the chains, as if there were none of the rules in ``without``.

    Where limits leave it open, it goes all ways at once.
    """

    frame: Frame
    without: Collection[tuple[str, str]] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    hits: dict[tuple[str, str], Region] = field(default_factory=dict)

    def through(self, chain: str, region: Region) -> Region:
        """Note what rules decide; return the packets that can leave the chain without a verdict."""
        returned: Region = []
        for rule, condition in self.frame.chains[chain]:
            if not region:
                break
            if (chain, rule.name) in self.without:
                continue
            hit, rest = divide(region, condition)
            if hit:
                self.hits.setdefault((chain, rule.name), []).extend(hit)
                left = self._act(rule, hit, returned)
                region = rest + (left if rule.limit is None else hit)
        return region + returned

    def _act(self, rule: Rule, hit: Region, returned: Region) -> Region:
        """Carry out a rule; return the packets that go on to the one behind it."""
        if rule.action in ("accept", "drop", "reject"):
            self.outcomes.append(Outcome(rule.action, rule.chain, rule, hit))
            return []
        if rule.dispatch is not None:
            return self._dispatch(rule, hit)
        if rule.target is not None:
            return self.through(rule.target, hit)
        if rule.action == "return":
            returned += hit
            return []
        return hit

    def _dispatch(self, rule: Rule, hit: Region) -> Region:
        left: Region = []
        for addresses, chain in rule.dispatch.branches if rule.dispatch else ():
            axis = AXIS[rule.dispatch.selector if rule.dispatch else "source"]
            inside, hit = divide(hit, ((axis, addresses.of(self.frame.family)),))
            if inside:
                left += self.through(chain, inside)
        return hit + left


def frame(ruleset: Ruleset, family: str, symbols: Symbols, start: Region) -> Frame:
    """Return a ruleset specialised to these packets: rules that match none are gone, what all meet is not asked."""
    whole, silent = hull(start), _deciding_nothing(ruleset)
    chains = {}
    for chain in ruleset.chains:
        asked = (rule for rule in chain.rules if rule.action != "log" and rule.target not in silent)
        found = ((rule, condition_of(rule, family, symbols)) for rule in asked)
        kept = ((rule, _specialised(condition, whole)) for rule, condition in found if condition is not None)
        chains[chain.name] = [(rule, condition) for rule, condition in kept if condition is not None]
    return Frame(ruleset, family, symbols, start, chains)


def _deciding_nothing(ruleset: Ruleset) -> frozenset[str]:
    """Return the chains that packets always come back from, as all of their rules log or return."""
    own = (chain for chain in ruleset.chains if not chain.is_base)
    return frozenset(chain.name for chain in own if all(rule.action in ("log", "return") for rule in chain.rules))


def _specialised(condition: Condition, whole: tuple[Ranges, ...]) -> Condition | None:
    left = []
    for axis, wanted in condition:
        both = intersect(whole[axis], wanted)
        if not both:
            return None
        if both != whole[axis]:
            left.append((axis, wanted))
    return tuple(left)


def part_of(ruleset: Ruleset, chain: str) -> Ruleset:
    """Return a chain and those that its rules lead to: of a router's thousands, its own packets meet few."""
    names = {chain}
    waiting = [chain]
    while waiting:
        found = ruleset.chain(waiting.pop())
        new = {target for rule in found.rules for target in targets(rule)} - names if found else set()
        names |= new
        waiting += new
    return Ruleset(tuple(found for found in ruleset.chains if found.name in names))


def walk(frame: Frame, chain: str, region: Region | None = None, without: Collection[tuple[str, str]] = ()) -> Walk:
    """Return what a base chain can do with packets, with all there are in the frame if none are given."""
    found = Walk(frame, without)
    base = frame.ruleset.chain(chain)
    region = frame.start if region is None else region
    left = found.through(chain, region) if base else region
    if left:
        found.outcomes.append(Outcome((base and base.default) or "accept", chain, None, left))
    return found


def passing(outcomes: Iterable[Outcome]) -> Region:
    """Return the packets that may pass."""
    return [box for outcome in outcomes if outcome.accepts for box in outcome.region]


def stopped(outcomes: Iterable[Outcome]) -> Region:
    """Return the packets that may be stopped."""
    return [box for outcome in outcomes if not outcome.accepts for box in outcome.region]


def beginning(family: str, symbols: Symbols, chain: str, ruleset: Ruleset, now: int = 0) -> Region:
    """Return the packets that begin a flow, from ``now`` on, as a base chain sees them.

    Those of ``output`` have a source of the host's own: what others' addresses get is no matter of policy.
    """
    base = ruleset.chain(chain)
    early = chain in _EARLY and base is not None and base.priority is not None and base.priority < _CONNTRACK
    region = within(universe(family, symbols), ((AXIS["state"], state("invalid" if early else "new original")),))
    region = within(region, ((AXIS["tcp_flags"], (*NOTHING, *SYN)),))
    region = [box for box in (_syn(box) for box in region) if box]
    if chain == "output":
        region = within(region, ((AXIS["source_type"], LOCAL),))
    return within(region, ((AXIS["time"], ((now, region[0][AXIS["time"]][-1][1]),)),))


def leaving(region: Region, symbols: Symbols) -> Region:
    """Return the packets of a region that do not stay within the host; ``lo`` must be among the symbols."""
    others = subtract(symbols.whole("out_interface"), symbols.ranges("out_interface", ["lo"]))
    return within(region, ((AXIS["out_interface"], others),))


def _syn(box: tuple[Ranges, ...]) -> tuple[Ranges, ...]:
    """Return the box with SYN alone where there are flags: a TCP flow begins with nothing else."""
    flags = AXIS["tcp_flags"]
    wanted = SYN if intersect(box[flags], SYN) else box[flags]
    return (*box[:flags], wanted, *box[flags + 1 :])


def dead_rules(frame: Frame, chain: str) -> list[tuple[Rule, tuple[Rule, ...]]]:
    """Return the rules, of a base chain and those that it leads to, that no packet of the frame can ever match.

    With each are those that cover it: they decide about all that it asks for.
    """
    hits = walk(frame, chain).hits
    return [
        (rule, deciders(walk(frame, chain, within(frame.start, condition))))
        for name in reached(frame, chain)
        for rule, condition in frame.chains[name]
        if (name, rule.name) not in hits
    ]


def reached(frame: Frame, chain: str) -> list[str]:
    """Return a chain and those that its rules lead to, each once."""
    names = {chain: None}
    waiting = [chain] if chain in frame.chains else []
    while waiting:
        for rule, _condition in frame.chains[waiting.pop()]:
            new = [target for target in targets(rule) if target not in names]
            names.update(dict.fromkeys(new))
            waiting += new
    return [name for name in names if name in frame.chains]


def deciders(found: Walk) -> tuple[Rule, ...]:
    """Return the rules that decide, each once; a default is none."""
    return tuple({id(o.rule): o.rule for o in found.outcomes if o.rule is not None}.values())


def shared(box: Box) -> Condition:
    """Return what a packet has in common wherever it is seen."""
    return tuple((AXIS[axis], box[AXIS[axis]]) for axis in _SHARED)
