# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds grants and forbids that change nothing, as others say it already. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import intersect
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import (
    Frame,
    beginning,
    deciders,
    frame,
    leaving,
    part_of,
    stopped,
    walk,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import Condition, Symbols, within
from ansible_collections.palisade.egress.plugins.plugin_utils._sources import Source, source_of, sources

_CHAIN = "output"
Names = frozenset[tuple[str, str]]


def notices(composition: Composition, ruleset: Ruleset, now: int) -> Iterator[str]:
    """Yield a sentence for each grant or forbid that others cover, alone or together."""
    known = sources(composition)
    for source, covers in _idle_sources(ruleset, known, now):
        by = [found or rule.name for rule in covers for found in (source_of(rule.name, known),)]
        names = dict.fromkeys(f"'{cover.origin if isinstance(cover, Source) else cover}'" for cover in by)
        cover = " and ".join(name for name in names if name != f"'{source.origin}'")
        yield f"the {source} changes nothing, as it is covered by {cover}"


def _idle_sources(ruleset: Ruleset, known: Mapping[str, Source], now: int) -> Iterator[tuple[Source, tuple[Rule, ...]]]:
    """Yield what is declared and changes nothing; of equals the last one, so that one of them stays."""
    ruleset = part_of(ruleset, _CHAIN)
    symbols = Symbols.of((ruleset,), out_interface=("lo",))
    starts = {family: beginning(family, symbols, _CHAIN, ruleset, now) for family in FAMILIES}
    frames = [frame(ruleset, family, symbols, leaving(start, symbols)) for family, start in starts.items()]
    chain = ruleset.chain(_CHAIN)
    by_source: dict[Source, list[Rule]] = {}
    for rule in chain.rules if chain else ():
        source = source_of(rule.name, known)
        if source is not None and not rule.name.startswith(("until/", "after/")):
            by_source.setdefault(source, []).append(rule)
    idle: dict[Source, Names] = {}
    gone: Names = frozenset()
    for source, rules in reversed(by_source.items()):
        names = frozenset((rule.chain, rule.name) for rule in rules)
        if any(_asks(whole, names) for whole in frames) and all(_is_idle(whole, names, gone) for whole in frames):
            idle[source] = names
            gone |= names
    for source in reversed(idle):
        covers = [rule for whole in frames for rule in _covers(whole, idle[source], gone)]
        yield source, tuple({id(rule): rule for rule in covers}.values())


def _asks(whole: Frame, names: Names) -> list[tuple[Rule, Condition]]:
    """Return these rules, with what they ask of packets of a family, if any."""
    return [(rule, condition) for rule, condition in whole.chains.get(_CHAIN, ()) if (_CHAIN, rule.name) in names]


def _is_idle(whole: Frame, names: Names, gone: Names) -> bool:
    """Tell whether without these rules each packet would fare as it does with them."""
    others = [condition for rule, condition in whole.chains.get(_CHAIN, ()) if (_CHAIN, rule.name) not in names | gone]
    for rule, condition in _asks(whole, names):
        if not _meets_any(condition, others):
            return False
        reaching = walk(whole, _CHAIN, within(whole.start, condition), gone).hits.get((_CHAIN, rule.name), [])
        if reaching and (rule.action != "accept" or stopped(walk(whole, _CHAIN, reaching, gone | names).outcomes)):
            return False
    return True


def _covers(whole: Frame, names: Names, gone: Names) -> Iterator[Rule]:
    """Yield the rules that take the place of these."""
    for _rule, condition in _asks(whole, names):
        yield from deciders(walk(whole, _CHAIN, within(whole.start, condition), gone))


def _meets_any(condition: Condition, others: Iterable[Condition]) -> bool:
    """Tell whether another rule can match the same packet: most share none, which saves the closer look."""
    wanted = dict(condition)
    return any(all(intersect(wanted[a], r) for a, r in other if a in wanted) for other in others)
