# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The algebra against the evaluator, on random rulesets: what it says of sets is true of each packet."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from property.strategies import PlainRuleset, histories, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, FAMILIES, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import dead_rules, frame, reached, walk
from ansible_collections.palisade.egress.plugins.plugin_utils._compare import compare
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    Box,
    Region,
    Symbols,
    condition_of,
    universe,
    within,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._words import witness

PACKETS = 25
# Drawing each number from Hypothesis would take longer than all the rest.
SEEDS = st.integers(0, 2**32)
# Shrinking a ruleset takes minutes and makes it little smaller.
on_random_rulesets = settings(
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def base_chains(*found: Ruleset) -> list[str]:
    return [name for name in BASE_CHAINS if any(ruleset.chain(name) for ruleset in found)]


def corners(found: Ruleset, family: str, symbols: Symbols, random: Random) -> Region:
    """Return packets where rules begin and end to match, as boxes of one point."""
    start = universe(family, symbols)
    conditions = [condition_of(rule, family, symbols) for chain in found.chains for rule in chain.rules]
    boxes = [box for condition in conditions if condition is not None for box in within(start, condition)] + start
    return [point(random.choice(boxes), random) for _number in range(PACKETS)]


def point(box: Box, random: Random) -> Box:
    return tuple(((value, value),) for value in (random.choice(random.choice(ranges)) for ranges in box))


def holds(region: Region, packet: Box) -> bool:
    return any(all(contains(ranges, value[0][0]) for ranges, value in zip(box, packet, strict=True)) for box in region)


@on_random_rulesets
@given(rulesets(), SEEDS)
def test_a_packet_has_the_verdicts_of_the_regions_that_hold_it(plain: PlainRuleset, seed: int) -> None:
    random = Random(seed)
    found = decode(*plain)
    symbols = Symbols.of((found,))
    for chain in base_chains(found):
        for family in FAMILIES:
            outcomes = walk(frame(found, family, symbols, universe(family, symbols)), chain).outcomes
            for packet in corners(found, family, symbols, random):
                verdicts = evaluate(found, witness(packet, family, chain, symbols)).verdicts
                told = {(o.action, o.rule and (o.rule.chain, o.rule.name)) for o in outcomes if holds(o.region, packet)}
                assert told == {(v.action, v.rule and (v.chain, v.rule)) for v in verdicts}


@on_random_rulesets
@given(rulesets())
def test_each_region_has_a_packet_of_its_verdict(plain: PlainRuleset) -> None:
    found = decode(*plain)
    symbols = Symbols.of((found,))
    for chain in base_chains(found):
        for family in FAMILIES:
            for outcome in walk(frame(found, family, symbols, universe(family, symbols)), chain).outcomes:
                for box in outcome.region:
                    packet = witness(box, family, chain, symbols)
                    verdicts = {(v.action, v.rule) for v in evaluate(found, packet).verdicts}
                    assert (outcome.action, outcome.rule and outcome.rule.name) in verdicts


@on_random_rulesets
@given(rulesets(), SEEDS)
def test_no_packet_matches_a_dead_rule(plain: PlainRuleset, seed: int) -> None:
    random = Random(seed)
    found = decode(*plain)
    symbols = Symbols.of((found,))
    for chain in base_chains(found):
        for family in FAMILIES:
            all_of_it = frame(found, family, symbols, universe(family, symbols))
            dead = {(rule.chain, rule.name) for rule, _covers in dead_rules(all_of_it, chain)}
            alive = {(name, rule.name) for name in reached(all_of_it, chain) for rule, _c in all_of_it.chains[name]}
            hits = walk(all_of_it, chain).hits
            for key in alive - dead:
                packet = witness(hits[key][0], family, chain, symbols)
                assert key in {(rule.chain, rule.name) for rule in evaluate(found, packet).trace}
            for box in corners(found, family, symbols, random):
                trace = evaluate(found, witness(box, family, chain, symbols)).trace
                assert dead.isdisjoint((rule.chain, rule.name) for rule in trace)


RANK = {frozenset(("accept",)): 2, frozenset(("stop",)): 0, frozenset(("accept", "stop")): 1}


def rank(found: Ruleset, packet: object) -> int:
    """Return how open a packet is: 2 passes, 1 passes or not, by limits, 0 does not."""
    actions = {verdict.action for verdict in evaluate(found, packet).verdicts}
    return RANK[frozenset("accept" if action == "accept" else "stop" for action in actions)]


KINDS = {
    (0, 1): "allowed",
    (0, 2): "allowed",
    (1, 2): "unlimited",
    (1, 0): "denied",
    (2, 0): "denied",
    (2, 1): "limited",
}


@on_random_rulesets
@given(histories(), SEEDS)
def test_compare_finds_what_changes_and_nothing_else(history: list[PlainRuleset], seed: int) -> None:
    random = Random(seed)
    first, second, third = (decode(*plain) for plain in history)
    for before, after in ((first, second), (second, third), (third, third)):
        changes = compare(before, after, every_packet=True)
        for change in changes:
            ranks = rank(before, change.witness), rank(after, change.witness)
            assert KINDS.get(ranks) == change.kind
        symbols = Symbols.of((before, after))
        for chain in base_chains(before, after):
            kinds = {change.kind for change in changes if change.chain == chain}
            for family in FAMILIES:
                for box in corners(random.choice((before, after)), family, symbols, random):
                    packet = witness(box, family, chain, symbols)
                    ranks = rank(before, packet), rank(after, packet)
                    assert ranks[0] == ranks[1] or KINDS[ranks] in kinds
