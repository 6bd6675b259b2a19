# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The algebra against brute force: every packet of a space so small that all of them can be tried."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.plugin_utils import _compare, _idle
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import Frame, dead_rules, frame, walk
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    AXIS,
    Box,
    Region,
    Symbols,
    compact,
    minus,
    universe,
    within,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._words import witness

# Addresses, ports, users (None: one that no rule names) and times; TCP from one place, over IPv4.
ADDRESSES, PORTS, USERS, EXPIRES = range(4), range(3), (None, "7", "8"), 100
TIMES = (EXPIRES - 1, EXPIRES)
SYMBOLS = Symbols((("lo",), ("lo",), ("7", "8"), (), ()))
FIXED = {"protocol": 6, "source_ports": 9, "tcp_flags": 2, "source": 9, "source_type": 1, "state": 2}

some_addresses = st.lists(st.sampled_from([f"0.0.0.{n}" for n in ADDRESSES]), min_size=1, max_size=3)
some_ports = st.lists(st.sampled_from(list(PORTS)), min_size=1, max_size=2)
matches = st.fixed_dictionaries(
    {},
    optional={
        "destination": some_addresses,
        "destination_ports": some_ports,
        "uid_owner": st.lists(st.sampled_from(["7", "8"]), min_size=1, max_size=2),
        "expires": st.just("1970-01-01T00:01:40Z"),
        "limit": st.just({"rate": "1/second"}),
    },
)
actions = st.sampled_from(
    [{"action": "accept"}, {"action": "accept"}, {"action": "drop"}, {"action": "jump", "target": "own"}]
)
own_actions = st.sampled_from([{"action": "accept"}, {"action": "drop"}, {"action": "return"}])


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    plain: list[dict[str, Any]] = []
    for chain, action, least in (("output", actions, 0), ("own", own_actions, 1)):
        for number in range(draw(st.integers(least, 5))):
            rule = {"name": f"{chain}{number}", "chain": chain, "protocol": "tcp", **draw(matches), **draw(action)}
            plain.append(rule)
    plain.append({"name": "last", "chain": "output", "action": "jump", "target": "own", **draw(matches)})
    plain[-1]["protocol"] = "tcp"
    default = draw(st.sampled_from(["accept", "drop"]))
    return decode(plain, {"output": {"default": default}})


def space() -> Region:
    """Return all packets of the small space."""
    wanted = {axis: ((value, value),) for axis, value in FIXED.items()}
    wanted |= {"destination": ((0, 3),), "selector": ((0, 2),), "time": (TIMES,)}
    wanted |= dict.fromkeys(("in_interface", "out_interface", "destination_type", "reverse_path"), ((0, 0),))
    return within(universe("ipv4", SYMBOLS), tuple(sorted((AXIS[axis], ranges) for axis, ranges in wanted.items())))


SPACE = space()
POINTS: list[Box] = [
    tuple(
        ((value, value),)
        for value in (
            {"destination": address, "selector": port, "uid_owner": USERS.index(user), "time": time, **FIXED}.get(
                axis, 0
            )
            for axis in AXIS
        )
    )
    for address, port, user, time in product(ADDRESSES, PORTS, USERS, TIMES)
]


def packet(point: Box) -> Packet:
    return witness(point, "ipv4", "output", SYMBOLS)


PACKETS = [packet(point) for point in POINTS]
small = settings(max_examples=150)


def framed(ruleset: Ruleset) -> Frame:
    return frame(ruleset, "ipv4", SYMBOLS, SPACE)


def members(region: Region) -> list[int]:
    return [number for number, point in enumerate(POINTS) if not minus([point], region)]


def actions_of(ruleset: Ruleset) -> list[frozenset[str]]:
    return [frozenset(verdict.action for verdict in evaluate(ruleset, packet).verdicts) for packet in PACKETS]


def test_the_space_is_what_it_says() -> None:
    assert members(SPACE) == list(range(len(POINTS)))
    assert len(set(PACKETS)) == len(POINTS)


@small
@given(rulesets())
def test_outcomes_are_those_of_each_packet(ruleset: Ruleset) -> None:
    found: list[set[tuple[str, str | None]]] = [set() for _point in POINTS]
    for outcome in walk(framed(ruleset), "output").outcomes:
        for number in members(outcome.region):
            found[number].add((outcome.action, outcome.rule.name if outcome.rule else None))
    assert found == [{(v.action, v.rule) for v in evaluate(ruleset, packet).verdicts} for packet in PACKETS]


@small
@given(rulesets())
def test_compact_keeps_every_packet(ruleset: Ruleset) -> None:
    for outcome in walk(framed(ruleset), "output").outcomes:
        smaller = compact(outcome.region)
        assert members(smaller) == members(outcome.region)
        assert len(smaller) <= len(outcome.region)


@small
@given(rulesets())
def test_dead_rules_are_those_that_no_packet_matches(ruleset: Ruleset) -> None:
    whole = framed(ruleset)
    matched = {(rule.chain, rule.name) for packet in PACKETS for rule in evaluate(ruleset, packet).trace}
    every = {(name, rule.name) for name, rules in whole.chains.items() for rule, _condition in rules}
    dead = dead_rules(whole, "output")
    assert {(rule.chain, rule.name) for rule, _by in dead} == every - matched
    assert all(rule not in by for rule, by in dead)


@small
@given(rulesets(), rulesets())
def test_what_compare_finds_is_all_that_changes(before: Ruleset, after: Ruleset) -> None:
    pieces = list(_compare._pieces(before, after, "output", "ipv4", SYMBOLS, SPACE))
    found = {kind: {n for p in pieces if p.kind == kind for n in members(p.region)} for kind in _compare.KINDS}
    expected: dict[str, set[int]] = {kind: set() for kind in _compare.KINDS}
    for number, (old, new) in enumerate(zip(actions_of(before), actions_of(after), strict=True)):
        if ("accept" in old) != ("accept" in new):
            expected["allowed" if "accept" in new else "denied"].add(number)
        elif ("drop" in old) != ("drop" in new):
            expected["limited" if "drop" in new else "unlimited"].add(number)
    assert found == expected


@small
@given(rulesets())
def test_idle_rules_are_those_without_which_nothing_changes(ruleset: Ruleset) -> None:
    whole = framed(ruleset)
    chain = ruleset.chain("output")
    for rule in chain.rules if chain else ():
        if rule.action != "accept" or not _idle._asks(whole, frozenset([("output", rule.name)])):
            continue
        without = without_rule(ruleset, rule.name)
        sure = [actions == {"accept"} for actions in actions_of(without)]
        reaching = [rule in evaluate(ruleset, packet).trace for packet in PACKETS]
        expected = all(is_sure for is_sure, reaches in zip(sure, reaching, strict=True) if reaches)
        names = frozenset([("output", rule.name)])
        assert not _idle._is_idle(whole, names, frozenset()) or expected


def without_rule(ruleset: Ruleset, name: str) -> Ruleset:
    kept = (replace(c, rules=tuple(rule for rule in c.rules if rule.name != name)) for c in ruleset.chains)
    return Ruleset(tuple(kept))
