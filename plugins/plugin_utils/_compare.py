# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What two rulesets do differently, for all packets. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Evaluation, Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, FAMILIES, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import (
    Outcome,
    beginning,
    frame,
    passing,
    stopped,
    walk,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import (
    Box,
    Region,
    Symbols,
    common,
    condition_of,
    hull,
    minus,
    universe,
    within,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._words import Contexts, Known, describe, witness

# Kinds of change. A limit leaves two verdicts possible: what it binds is neither allowed nor denied.
KINDS = ("allowed", "denied", "limited", "unlimited")


@dataclass(frozen=True)
class Change:
    """Packets that a base chain newly treats so, in words, with one of them and what becomes of that."""

    kind: str
    chain: str
    packets: tuple[str, ...]
    witness: Packet
    before: Evaluation
    after: Evaluation


@dataclass(frozen=True)
class _Piece:
    """Packets of one family that change alike, and the rule that decides about them from now on or did before."""

    kind: str
    rule: str | None
    family: str
    region: Region


@dataclass(frozen=True)
class _Scene:
    """Where changes happen, and the words to tell them with."""

    chain: str
    symbols: Symbols
    contexts: Contexts
    known: Known | None


def compare(
    before: Ruleset, after: Ruleset, every_packet: bool = False, now: int = 0, known: Known | None = None
) -> list[Change]:
    """Return what changes for packets that begin a flow, or for every packet that there can be.

    ``known`` gives names to sets of addresses.
    """
    symbols = Symbols.of((before, after))
    changes: list[Change] = []
    for chain in BASE_CHAINS:
        if before.chain(chain) is None and after.chain(chain) is None:
            continue
        pieces: list[_Piece] = []
        contexts: dict[str, Box] = {}
        for family in FAMILIES:
            start = universe(family, symbols) if every_packet else beginning(family, symbols, chain, after, now)
            pieces += _pieces(before, after, chain, family, symbols, start)
            contexts[family] = hull(start)
        scene = _Scene(chain, symbols, contexts, known)
        changes += _changes(pieces, scene, (before, after))
    return sorted(changes, key=lambda change: (BASE_CHAINS.index(change.chain), KINDS.index(change.kind)))


def _pieces(
    before: Ruleset, after: Ruleset, chain: str, family: str, symbols: Symbols, start: Region
) -> Iterator[_Piece]:
    start = _touched(before, after, family, symbols, start)
    if not start:
        return
    old, new = (walk(frame(ruleset, family, symbols, start), chain).outcomes for ruleset in (before, after))
    old_open, new_open = (common(passing(found), stopped(found)) for found in (old, new))
    for outcomes, others, kinds in ((new, old, ("allowed", "unlimited")), (old, new, ("denied", "limited"))):
        closed, was_open = passing(others), old_open if outcomes is new else new_open
        for outcome in outcomes:
            if outcome.accepts:
                yield _Piece(kinds[0], _name(outcome), family, minus(outcome.region, closed))
                if was_open:
                    sure = minus(outcome.region, stopped(outcomes))
                    yield _Piece(kinds[1], _name(outcome), family, common(sure, was_open))


def _name(outcome: Outcome) -> str | None:
    return outcome.rule.name if outcome.rule else None


def _touched(before: Ruleset, after: Ruleset, family: str, symbols: Symbols, start: Region) -> Region:
    """Return the packets that meet a rule which is not the same in both: all others fare alike."""
    touched: Region = []
    for name in {chain.name: None for ruleset in (before, after) for chain in ruleset.chains}:
        old, new = before.chain(name), after.chain(name)
        if name in BASE_CHAINS and (old and (old.default or "accept")) != (new and (new.default or "accept")):
            return touched + start
        for rule in _differing(old.rules if old else (), new.rules if new else ()):
            condition = condition_of(rule, family, symbols)
            hit = [] if condition is None else within(start, condition)
            touched += hit
            start = start if condition is None else minus(start, hit)
    return touched


def _differing(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> Iterator[Rule]:
    """Yield the rules of two chains that are not in both in the same order."""
    if old is new or old == new:
        return
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for tag, first, last, new_first, new_last in blocks:
        if tag != "equal":
            yield from old[first:last]
            yield from new[new_first:new_last]


def _changes(pieces: Iterable[_Piece], scene: _Scene, rulesets: tuple[Ruleset, Ruleset]) -> Iterator[Change]:
    grouped: dict[tuple[str, str | None], list[tuple[str, Region]]] = {}
    for piece in pieces:
        if piece.region:
            grouped.setdefault((piece.kind, piece.rule), []).append((piece.family, piece.region))
    for (kind, _rule), regions in grouped.items():
        family, region = regions[0]
        packet = witness(region[0], family, scene.chain, scene.symbols)
        found = (evaluate(ruleset, packet) for ruleset in rulesets)
        packets = describe(regions, scene.symbols, scene.contexts, scene.known)
        yield Change(kind, scene.chain, tuple(packets), packet, *found)
