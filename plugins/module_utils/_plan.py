# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The difference between the ruleset wanted and the one in the kernel, rule by rule. Private to this collection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._codec import encode_chain, encode_rule
from ansible_collections.palisade.egress.plugins.module_utils._model import Chain, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._sequence import staying

# Longer lists are told by their length.
LISTED = 1000


@dataclass(frozen=True)
class Observed:
    """What is ours in the kernel: the rules that we know, and strays, in words, which nobody can explain."""

    present: bool
    ruleset: Ruleset = field(default_factory=Ruleset)
    strays: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One change: ``what`` (ruleset, chain, rule, stray, forwarding, saved rules,
    boot unit) is ``added``, ``removed``, ``changed`` or ``moved``.

    ``before`` and ``after`` are plain data of the contract, or None where there is none. Of forwarding, ``name`` is the
    family, and they tell whether it is ``on``.
    """

    what: str
    change: str
    chain: Optional[str] = None
    name: Optional[str] = None
    before: Optional[Dict[str, Any]] = None
    after: Optional[Dict[str, Any]] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module's return value ``plan`` lists it."""
        told = {**vars(self), "before": _in_short(self.before), "after": _in_short(self.after)}
        return {key: value for key, value in told.items() if value is not None}


def _in_short(plain: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """Return options with long lists told by their length: a plan is read by people, and travels with the result."""
    if plain is None:
        return None
    return {
        option: f"{len(value)} entries" if isinstance(value, list) and len(value) > LISTED else value
        for option, value in plain.items()
    }


def make_plan(observed: Observed, wanted: Optional[Ruleset]) -> Tuple[Change, ...]:
    """Return what has to change in the kernel; ``wanted`` None means that nothing of ours shall remain."""
    changes: List[Change] = []
    if observed.present != (wanted is not None):
        changes.append(Change("ruleset", "removed" if observed.present else "added"))
    changes += [Change("stray", "removed", name=stray) for stray in observed.strays]
    before = {chain.name: chain for chain in observed.ruleset.chains}
    after = {chain.name: chain for chain in (wanted.chains if wanted else ())}
    for name in [*after, *(name for name in before if name not in after)]:
        changes += _chain_changes(before.get(name), after.get(name))
    return tuple(changes)


def _chain_changes(before: Optional[Chain], after: Optional[Chain]) -> Iterator[Change]:
    chain = after or before
    if chain is None:
        return
    old = encode_chain(before) if before else None
    new = encode_chain(after) if after else None
    if old != new:
        change = "added" if old is None else "removed" if new is None else "changed"
        yield Change("chain", change, chain.name, before=old, after=new)
    yield from _rule_changes(chain.name, before.rules if before else (), after.rules if after else ())


def _rule_changes(chain: str, before: Tuple[Rule, ...], after: Tuple[Rule, ...]) -> Iterator[Change]:
    old = {rule.name: rule for rule in before}
    new = {rule.name: rule for rule in after}
    for name, rule in old.items():
        if name not in new:
            yield Change("rule", "removed", chain, name, before=encode_rule(rule))
    stay = staying(list(old), list(new))
    for name, rule in new.items():
        if name not in old:
            yield Change("rule", "added", chain, name, after=encode_rule(rule))
        elif rule != old[name]:
            yield Change("rule", "changed", chain, name, encode_rule(old[name]), encode_rule(rule))
        elif name not in stay:
            yield Change("rule", "moved", chain, name)
