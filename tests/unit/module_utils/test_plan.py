# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan between two rulesets: what it says has changed, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from property.strategies import PlainRuleset, histories, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._plan import Change, Observed, make_plan

Plain = dict[str, Any]
Told = tuple[str, ...]


def ruleset(words: str) -> Ruleset:
    """Return an output chain with a rule a word: its name, and its action where it is not accept."""
    pairs = [word.partition("=") for word in words.split()]
    return decode([{"name": name, "chain": "output", "action": action or "accept"} for name, _is, action in pairs], {})


def told(plan: tuple[Any, ...]) -> list[Told]:
    return [tuple(part for part in (c.what, c.change, c.chain, c.name) if part) for c in plan]


def rule(change: str, name: str) -> Told:
    return ("rule", change, "output", name)


RULES: list[tuple[str, str, list[Told]]] = [
    ("a", "a", []),
    ("a b c", "a b c", []),
    ("a", "a b", [rule("added", "b")]),
    ("b", "a b", [rule("added", "a")]),
    ("a b", "a", [rule("removed", "b")]),
    ("a", "b", [rule("removed", "a"), rule("added", "b")]),
    ("a", "a=drop", [rule("changed", "a")]),
    ("a b", "b a", [rule("moved", "a")]),
    ("a b c", "b c a", [rule("moved", "a")]),
    ("a b c", "c a b", [rule("moved", "c")]),
    ("a b c d", "a c b d", [rule("moved", "b")]),
    ("a b c", "c b=drop a", [rule("changed", "b"), rule("moved", "a")]),
    ("a b", "c b=drop d", [rule("removed", "a"), rule("added", "c"), rule("changed", "b"), rule("added", "d")]),
]

CHAINS: list[tuple[Plain, Plain, list[Told]]] = [
    ({"output": {}}, {"output": {"default": "drop"}}, [("chain", "changed", "output")]),
    ({"output": {}}, {"output": {"priority": 5}}, [("chain", "changed", "output")]),
    ({"output": {"default": "reject"}}, {"output": {"default": "reject", "reject_with": "tcp-reset"}},
     [("chain", "changed", "output")]),
    ({"output": {}}, {}, [("chain", "removed", "output")]),
    ({}, {"output": {}}, [("chain", "added", "output")]),
    ({"output": {}}, {"input": {}}, [("chain", "added", "input"), ("chain", "removed", "output")]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), RULES)
def test_rules(before: str, after: str, expected: list[Told]) -> None:
    plan = make_plan(Observed(True, ruleset(before)), ruleset(after))
    assert sorted(told(plan)) == sorted(expected)


@pytest.mark.parametrize(("before", "after", "expected"), CHAINS)
def test_chains(before: Plain, after: Plain, expected: list[Told]) -> None:
    assert told(make_plan(Observed(True, decode([], before)), decode([], after))) == expected


def test_the_table_itself() -> None:
    nothing = Ruleset()
    assert told(make_plan(Observed(False), None)) == []
    assert told(make_plan(Observed(False), nothing)) == [("ruleset", "added")]
    assert told(make_plan(Observed(True), None)) == [("ruleset", "removed")]
    assert told(make_plan(Observed(True), nothing)) == []
    whole = make_plan(Observed(False), ruleset("a"))
    assert told(whole) == [("ruleset", "added"), ("chain", "added", "output"), rule("added", "a")]
    whole = make_plan(Observed(True, ruleset("a")), None)
    assert told(whole) == [("ruleset", "removed"), ("chain", "removed", "output"), rule("removed", "a")]


def test_strays_go() -> None:
    plan = make_plan(Observed(True, ruleset("a"), ("counter mine", "rule x (handle 7) in output")), ruleset("a"))
    assert told(plan) == [("stray", "removed", "counter mine"), ("stray", "removed", "rule x (handle 7) in output")]


def test_what_a_change_tells() -> None:
    (change,) = make_plan(Observed(True, ruleset("a")), ruleset("a=drop"))
    web = {"name": "a", "chain": "output"}
    assert change.as_dict() == {
        "what": "rule", "change": "changed", "chain": "output", "name": "a",
        "before": {**web, "action": "accept"}, "after": {**web, "action": "drop"},
    }  # fmt: skip


@settings(max_examples=30)
@given(rulesets(max_rules=1), rulesets(max_rules=1))
def test_is_empty_exactly_if_the_rulesets_are_equal(one: PlainRuleset, other: PlainRuleset) -> None:
    before, after = decode(*one), decode(*other)
    assert make_plan(Observed(True, before), before) == ()
    assert bool(make_plan(Observed(True, before), after)) == (before != after)


@settings(max_examples=30)
@given(histories())
def test_tells_what_each_rule_was_and_becomes(history: list[PlainRuleset]) -> None:
    before, after = (decode(*plain) for plain in history[:2])
    for change in make_plan(Observed(True, before), after):
        for side, plain in ((before, change.before), (after, change.after)):
            if change.what == "rule" and plain is not None:
                chain = side.chain(str(change.chain))
                assert chain
                assert change.name in {rule.name for rule in chain.rules}
                assert plain["name"] == change.name
        assert change.change in ("added", "removed", "changed", "moved")


def test_long_lists_are_told_by_their_length() -> None:
    change = Change(
        "rule", "added", "output", "many", after={"name": "many", "destination": ["198.51.100.1/32"] * 1001}
    )
    assert change.as_dict()["after"] == {"name": "many", "destination": "1001 entries"}
    assert change.after is not None
    assert len(change.after["destination"]) == 1001
