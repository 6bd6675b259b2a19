# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rules and chains of a ruleset demand of each other. Private to this collection."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Dict, FrozenSet, Iterator, List, Set, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, Chain, Rule, Ruleset

# The kernel refuses deeper nests of jumps.
MAX_DEPTH = 15

# Where options have no meaning: an option, the base chains it can be used in.
PLACES: Dict[str, FrozenSet[str]] = {
    "in_interface": frozenset(("prerouting", "input", "forward")),
    "out_interface": frozenset(("forward", "output")),
    "uid_owner": frozenset(("output",)),
    "gid_owner": frozenset(("output",)),
    "cgroup": frozenset(("output",)),
    "reverse_path": frozenset(("prerouting", "input", "forward")),
    "reject_with": frozenset(("input", "forward", "output")),
}


def check(ruleset: Ruleset) -> None:
    """Raise ``RuleError`` for the first rule or chain that does not fit in with the others."""
    for chain in ruleset.chains:
        _check_names(chain)
    _check_targets(ruleset)
    entrances = _entrances(ruleset)
    for chain in ruleset.chains:
        _check_reached(chain, entrances[chain.name])
        for rule in chain.rules:
            _check_places(rule, entrances[chain.name])
    if any(chain.name == "prerouting" and chain.default == "reject" for chain in ruleset.chains):
        raise RuleError("chains.prerouting.default", "nothing can be rejected there", "use drop")


def targets(rule: Rule) -> Tuple[str, ...]:
    """Return the chains that a rule can jump to."""
    if rule.dispatch is not None:
        return tuple(chain for _addresses, chain in rule.dispatch.branches)
    return (rule.target,) if rule.target is not None else ()


def _where(rule: Rule) -> str:
    return f"rule {rule.name!r} in {rule.chain}"


def _check_names(chain: Chain) -> None:
    seen: Set[str] = set()
    for rule in chain.rules:
        if rule.name in seen:
            raise RuleError(f"{_where(rule)}.name", "two rules of a chain have this name", "give each its own")
        seen.add(rule.name)


def _check_targets(ruleset: Ruleset) -> None:
    known = {chain.name for chain in ruleset.chains}
    for rule in _rules(ruleset):
        for target in targets(rule):
            if target not in known:
                near = get_close_matches(target, known - set(BASE_CHAINS), 1)
                mend = f"did you mean {near[0]!r}" if near else f"give {target} rules, or declare it in chains"
                raise RuleError(f"{_where(rule)}.{rule.action}", f"there is no chain {target!r}", mend)


def _entrances(ruleset: Ruleset) -> Dict[str, FrozenSet[str]]:
    """Return, for every chain, the base chains from which jumps lead to it."""
    follows = {chain.name: [target for rule in chain.rules for target in targets(rule)] for chain in ruleset.chains}
    reached: Dict[str, Set[str]] = {name: set() for name in follows}
    _check_depth(follows)
    for base in (name for name in follows if name in BASE_CHAINS):
        waiting: List[str] = [base]
        while waiting:
            name = waiting.pop()
            if base not in reached[name]:
                reached[name].add(base)
                waiting.extend(follows[name])
    return {name: frozenset(bases) for name, bases in reached.items()}


def _check_depth(follows: Dict[str, List[str]]) -> None:
    """Strip the chains that jump nowhere, level by level; what cannot be stripped jumps in a circle."""
    remaining, levels = dict(follows), 0
    while remaining:
        leaves = [name for name, nexts in remaining.items() if not any(target in remaining for target in nexts)]
        levels += 1
        if not leaves:
            name = _in_a_loop(remaining)
            raise RuleError(f"chain {name!r}", "its jumps lead back to it", "take one jump out of the loop")
        if levels > MAX_DEPTH:
            raise RuleError(f"chain {leaves[0]!r}", f"jumps nest deeper than {MAX_DEPTH}", "use fewer levels")
        for name in leaves:
            del remaining[name]


def _in_a_loop(remaining: Dict[str, List[str]]) -> str:
    seen: List[str] = []
    name = next(iter(remaining))
    while name not in seen:
        seen.append(name)
        name = next(target for target in remaining[name] if target in remaining)
    return name


def _check_reached(chain: Chain, entrances: FrozenSet[str]) -> None:
    if not entrances:
        near = get_close_matches(chain.name, BASE_CHAINS, 1)
        mend = f"did you mean {near[0]!r}" if near else "add a rule with action: jump to it, or leave it out"
        place = f"{_where(chain.rules[0])}.chain" if chain.rules else f"chains.{chain.name}"
        raise RuleError(place, f"no jump leads to the chain {chain.name!r}", mend)


def _check_places(rule: Rule, entrances: FrozenSet[str]) -> None:
    for option, possible in PLACES.items():
        wrong = entrances - possible
        if getattr(rule, option) is not None and wrong:
            what = f"means nothing in {', '.join(sorted(wrong))}, where packets enter this chain"
            raise RuleError(f"{_where(rule)}.{option}", what, f"use it for {', '.join(sorted(possible))}")


def _rules(ruleset: Ruleset) -> Iterator[Rule]:
    for chain in ruleset.chains:
        yield from chain.rules
