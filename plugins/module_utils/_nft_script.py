# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that turn our table into the one wanted, as one transaction. Private to this collection.

What is the same stays: its rules keep their handles, its sets their elements, and counters count on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, Chain, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._nft_parse import KernelChain, Table
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import (
    NamedSet,
    Rendered,
    all_rules,
    chain_definition,
    chain_name,
    render_rule,
    set_definition,
)
from ansible_collections.palisade.egress.plugins.module_utils._sequence import staying

TABLE = "inet palisade_egress"


@dataclass(frozen=True)
class Command:
    """One line for nft, and what of ours it is about, so that an error can name it."""

    text: str
    about: str


@dataclass(frozen=True)
class _Wanted:
    """A chain wanted, with the nftables form of all its rules."""

    chain: Chain
    rules: Tuple[Tuple[Rule, Rendered], ...]


def make_script(table: Optional[Table], wanted: Optional[Ruleset]) -> Tuple[Command, ...]:
    """Return the commands that make ``wanted`` of ``table``; None means no table. Raises ``UnsupportedError``."""
    if wanted is None:
        return (Command(f"delete table {TABLE}", "the table"),) if table else ()
    chains = [_Wanted(c, tuple((rule, render_rule(rule)) for rule in all_rules(c))) for c in wanted.chains]
    commands = list(_changes(table or Table(), chains))
    if table is not None and (table.opaque or (table.flags and commands)):
        # The kernel does not wake up a table and change its base chains at the same time.
        return (Command(f"delete table {TABLE}", "the table"), *make_script(None, wanted))
    if commands or table is None or table.flags:
        # Without flags in the command, nft takes those away that the table has: "dormant" would let all pass.
        commands.insert(0, Command(f"add table {TABLE}", "the table"))
    return tuple(commands)


def _changes(table: Table, chains: List[_Wanted]) -> Iterator[Command]:
    sets = {named.name: named for wanted in chains for _rule, rendered in wanted.rules for named in rendered.sets}
    counters = [rendered.counter for wanted in chains for _rule, rendered in wanted.rules]
    renewed = {chain_name(w.chain.name) for w in chains if _must_be_new(table, w.chain)}
    outdated = {n for n, named in table.sets.items() if n in sets and _shape(named) != _shape(sets[n])}
    stay = {chain_name(w.chain.name): _stay(table, w) for w in chains}
    for name, kernel in table.chains.items():
        keep = stay.get(name, frozenset()) if name not in renewed else frozenset()
        yield from _delete_rules(kernel, keep)
    changed = [named for named in sets.values() if named.name in outdated or named != table.sets.get(named.name)]
    for named in changed:
        if named.name in table.sets and named.name not in outdated:
            # Before chains go: the map may lead to them still.
            yield Command(f"flush {named.kind} {TABLE} {named.name}", f"the {named.kind} {named.name}")
    yield from _delete_objects(table, stay, renewed, sets, counters, outdated)
    yield from _add_chains(table, chains, renewed)
    for counter in counters:
        if counter not in table.counters:
            yield Command(f"add counter {TABLE} {counter}", f"the counter {counter}")
    for named in changed:
        yield Command(f"add {named.kind} {TABLE} {set_definition(named)}", f"the {named.kind} {named.name}")
    for wanted in chains:
        name = chain_name(wanted.chain.name)
        keep = stay[name] if name not in renewed else frozenset()
        yield from _add_rules(table.chains.get(name), wanted, keep)


def _must_be_new(table: Table, chain: Chain) -> bool:
    kernel = table.chains.get(chain_name(chain.name))
    definition = ("filter", chain.name, chain.priority, None) if chain.is_base else (None, None, None, None)
    return kernel is not None and kernel.definition != definition


def _shape(named: NamedSet) -> Tuple[object, ...]:
    return named.family, named.kind, named.memory


def _stay(table: Table, wanted: _Wanted) -> frozenset[str]:
    """Return the names of the rules whose lines are in the kernel already, in the right order."""
    kernel = table.chains.get(chain_name(wanted.chain.name))
    if kernel is None:
        return frozenset()
    now = {entry.rule.name: entry.rendered for entry in kernel.entries if entry.rule}
    after = {rule.name: rendered for rule, rendered in wanted.rules}
    same = [n for n, rendered in now.items() if rendered and n in after and _same_lines(rendered, after[n])]
    return staying(same, list(after))


def _same_lines(now: Rendered, after: Rendered) -> bool:
    return now.lines == after.lines and [_shape(s) for s in now.sets] == [_shape(s) for s in after.sets]


def _delete_rules(kernel: KernelChain, keep: frozenset[str]) -> Iterator[Command]:
    for entry in kernel.entries:
        if entry.rule is None or entry.rule.name not in keep:
            about = f"rule {entry.rule.name!r}" if entry.rule else f"the rule {entry.text}"
            for handle in entry.handles:
                yield Command(f"delete rule {TABLE} {kernel.name} handle {handle}", f"{about} in {kernel.name}")


def _delete_objects(
    table: Table,
    wanted_chains: Dict[str, frozenset[str]],
    renewed: set[str],
    sets: Dict[str, NamedSet],
    counters: List[str],
    outdated: set[str],
) -> Iterator[Command]:
    gone_chains = [name for name in table.chains if name not in wanted_chains or name in renewed]
    gone_sets = [named for name, named in table.sets.items() if name not in sets or name in outdated]
    strange = [(kind, name) for kind, name in table.strays if name not in table.sets and kind != "counter"]
    # A map still refers to the chains that it jumps to.
    for named in gone_sets:
        yield Command(f"delete {named.kind} {TABLE} {named.name}", f"the {named.kind} {named.name}")
    for kind, name in strange:
        yield Command(f"delete {kind} {TABLE} {name}", f"the {kind} {name}")
    for name in gone_chains:
        yield Command(f"delete chain {TABLE} {name}", f"the chain {name}")
    for name in sorted(table.counters - set(counters)):
        yield Command(f"delete counter {TABLE} {name}", f"the counter {name}")


def _add_chains(table: Table, chains: List[_Wanted], renewed: set[str]) -> Iterator[Command]:
    for wanted in chains:
        name = chain_name(wanted.chain.name)
        kernel = table.chains.get(name)
        policy = None if name not in BASE_CHAINS else "accept" if wanted.chain.default == "accept" else "drop"
        if kernel is None or name in renewed or kernel.policy != policy:
            yield Command(f"add chain {TABLE} {chain_definition(wanted.chain)}", f"the chain {name}")


def _add_rules(kernel: Optional[KernelChain], wanted: _Wanted, keep: frozenset[str]) -> Iterator[Command]:
    """Put each new rule before the next one that stays, in order; the others at the end."""
    first_handle = {e.rule.name: e.handles[0] for e in (kernel.entries if kernel else ()) if e.rule}
    name = chain_name(wanted.chain.name)
    before: List[Optional[int]] = []
    following: Optional[int] = None
    for rule, _rendered in reversed(wanted.rules):
        before.append(following)
        if rule.name in keep:
            following = first_handle[rule.name]
    for (rule, rendered), handle in zip(wanted.rules, reversed(before)):
        if rule.name not in keep:
            place = f"add rule {TABLE} {name}" if handle is None else f"insert rule {TABLE} {name} handle {handle}"
            for line in rendered.lines:
                yield Command(f"{place} {line}", f"rule {rule.name!r} in {wanted.chain.name}")
