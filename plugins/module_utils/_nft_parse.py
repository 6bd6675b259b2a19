# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nft's JSON listing of our table, read back as rules. Private to this collection.

What is read as a rule is exactly what rendering that rule would give, down to the names of sets and counters:
whatever else stands in the table is a stray, so that nothing foreign can pass for one of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils import _nft_expressions as expressions
from ansible_collections.palisade.egress.plugins.module_utils._codec import canonical, parse_comment
from ansible_collections.palisade.egress.plugins.module_utils._errors import UnsupportedError
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    BASE_CHAINS,
    FAMILIES,
    Addresses,
    Chain,
    Dispatch,
    Rule,
    Ruleset,
)
from ansible_collections.palisade.egress.plugins.module_utils._nft_compat import known_flags
from ansible_collections.palisade.egress.plugins.module_utils._nft_expressions import Line, UnexplainedError
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import (
    DEFAULT_RULE,
    REJECT_WITH,
    NamedSet,
    Rendered,
    all_rules,
    chain_name,
    line_families,
    render_rule,
)
from ansible_collections.palisade.egress.plugins.module_utils._options import DEFAULT_BURST
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, merge
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError

# Options that differ between the lines of a rule's two families, and those that its log line does not repeat.
PER_FAMILY = ("source", "destination", "dispatch")
VERDICT_OPTIONS = ("action", "target", "dispatch", "reject_with", "log")

# A listing may hold anything that nft can say; what cannot be read as something of ours is a stray.
_NOT_OURS = (
    UnexplainedError,
    BadValueError,
    UnsupportedError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)


@dataclass(frozen=True)
class Entry:
    """Consecutive lines of a chain: those of one rule of ours, or one that we cannot explain (``rule`` is None).

    Of the latter ``text`` says in words which it is, and ``expressions`` what stands in it, as JSON.
    """

    handles: Tuple[int, ...]
    rule: Optional[Rule] = None
    rendered: Optional[Rendered] = None
    text: str = ""
    expressions: str = ""


@dataclass(frozen=True)
class KernelChain:
    """A chain as the kernel has it; ``definition`` holds what only a new chain can change."""

    name: str
    definition: Tuple[object, ...]
    policy: Optional[str]
    entries: Tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """Our table as the kernel has it. ``strays`` are ``(kind, name)`` of objects that no rule of ours uses.

    Of an ``opaque`` one nft tells nothing but its flags.
    """

    chains: Mapping[str, KernelChain] = field(default_factory=dict)
    sets: Mapping[str, NamedSet] = field(default_factory=dict)
    counters: FrozenSet[str] = frozenset()
    strays: Tuple[Tuple[str, str], ...] = ()
    flags: Tuple[str, ...] = ()
    opaque: bool = False
    counts: Mapping[str, Tuple[int, int]] = field(default_factory=dict)

    def ruleset(self) -> Ruleset:
        """Return the rules in it that are ours."""
        ours = {chain.name: chain for chain in (_as_chain(chain) for chain in self.chains.values()) if chain}
        names = [name for name in BASE_CHAINS if name in ours] + sorted(set(ours) - set(BASE_CHAINS))
        return Ruleset(tuple(ours[name] for name in names))


def parse_table(listing: Mapping[str, Any]) -> Table:
    """Return what ``nft -j list table`` printed."""
    objects: Dict[str, List[Dict[str, Any]]] = {}
    for item in listing["nftables"]:
        for kind, value in item.items():
            objects.setdefault(kind, []).append(value)
    odd: List[Tuple[str, str]] = []
    sets = _parse_sets(objects, odd)
    rules: Dict[str, List[Dict[str, Any]]] = {}
    for rule in objects.get("rule", []):
        rules.setdefault(rule["chain"], []).append(rule)
    chains = {item["name"]: _parse_chain(item, rules.get(item["name"], []), sets) for item in objects.get("chain", [])}
    counters = objects.get("counter", [])
    known = ("metainfo", "table", "chain", "rule", "set", "map", "counter", "element")
    odd += [(kind, value["name"]) for kind, values in objects.items() if kind not in known for value in values]
    table = objects["table"][0]
    return Table(
        chains=chains,
        sets=sets,
        counters=frozenset(item["name"] for item in counters),
        strays=tuple(odd) + tuple(_unused(chains, sets, counters)),
        flags=known_flags(expressions.words(table["flags"])) if "flags" in table else (),
        counts={item["name"]: (item["packets"], item["bytes"]) for item in counters},
    )


def _parse_sets(objects: Mapping[str, List[Dict[str, Any]]], odd: List[Tuple[str, str]]) -> Dict[str, NamedSet]:
    sets = {}
    for kind in ("set", "map"):
        for item in objects.get(kind, []):
            try:
                sets[item["name"]] = expressions.named_set(kind, item)
            except _NOT_OURS:
                odd.append((kind, item["name"]))
    return sets


def _unused(
    chains: Mapping[str, KernelChain], sets: Mapping[str, NamedSet], counters: List[Dict[str, Any]]
) -> List[Tuple[str, str]]:
    """Return the sets and counters that no rule uses, be it ours or a stray."""
    entries = [entry for chain in chains.values() for entry in chain.entries]
    rendered = [entry.rendered for entry in entries if entry.rendered]
    used = {f"@{named.name}" for r in rendered for named in r.sets} | {r.counter for r in rendered}
    in_strays = "".join(entry.expressions for entry in entries)
    unused = [(named.kind, name) for name, named in sets.items() if f"@{name}" not in used]
    unused += [("counter", item["name"]) for item in counters if item["name"] not in used]
    return [(kind, name) for kind, name in unused if f'"{name}"' not in in_strays and f'"@{name}"' not in in_strays]


def _parse_chain(item: Mapping[str, Any], rules: List[Dict[str, Any]], sets: Mapping[str, NamedSet]) -> KernelChain:
    definition = tuple(item.get(key) for key in ("type", "hook", "prio", "dev"))
    name = item["name"]
    entries = tuple(_entries(_contract_name(name), rules, sets))
    return KernelChain(name, definition, item.get("policy"), entries)


def _contract_name(name: str) -> str:
    return name[len("own/") :] if name.startswith("own/") else name


def _entries(chain: str, rules: List[Dict[str, Any]], sets: Mapping[str, NamedSet]) -> List[Entry]:
    entries: List[Entry] = []
    names = set()
    start = 0
    while start < len(rules):
        end = start + 1
        comment = rules[start].get("comment")
        while comment is not None and end < len(rules) and rules[end].get("comment") == comment:
            end += 1
        group = rules[start:end]
        entry = None if comment is None or comment in names else _explain(chain, comment, group, sets)
        names.add(comment)
        if entry is not None:
            entries.append(entry)
        else:
            entries.extend(_stray(r) for r in group)
        start = end
    return entries


def _stray(rule: Mapping[str, Any]) -> Entry:
    text = f"{rule.get('comment') or 'without a name'} (handle {rule['handle']})"
    return Entry((rule["handle"],), text=text, expressions=json.dumps(rule["expr"]))


def _explain(chain: str, comment: str, group: List[Dict[str, Any]], sets: Mapping[str, NamedSet]) -> Optional[Entry]:
    """Return the entry of the one rule whose rendering these lines are, or None if there is no such rule."""
    try:
        lines = [expressions.parse_line(rule["expr"], sets) for rule in group]
        rule = canonical(_join(chain, comment, lines))
        rendered = render_rule(rule)
    except _NOT_OURS:
        return None
    used = {name for line in lines for name in line.used_sets}
    as_rendered = (
        len(lines) == len(rendered.lines)
        and tuple(line.family for line in _mains(lines)) == line_families(rule)
        and all(line.counter == rendered.counter for line in _mains(lines))
        and {name: sets[name] for name in used} == {named.name: named for named in rendered.sets}
    )
    return Entry(tuple(rule["handle"] for rule in group), rule, rendered) if as_rendered else None


def _mains(lines: List[Line]) -> List[Line]:
    """Return the lines that count and decide; any other one only logs."""
    return [line for line in lines if line.counter is not None]


def _join(chain: str, comment: str, lines: List[Line]) -> Rule:
    """Return the rule of which each family's line is a part."""
    parts = []
    log_lines: List[Line] = []
    for line in lines:
        if line.counter is None:
            log_lines.append(line)
        else:
            parts.append((line.family, _with_rated_log(line, log_lines)))
            log_lines = []
    if not parts or log_lines or len({family for family, _options in parts}) != len(parts):
        raise UnexplainedError(comment)
    options = dict(parts[0][1])
    for _family, other in parts[1:]:
        if {**other, **dict.fromkeys(PER_FAMILY)} != {**options, **dict.fromkeys(PER_FAMILY)}:
            raise UnexplainedError(comment)
    by_family = {str(family): values for family, values in parts}
    for option in ("source", "destination"):
        options[option] = _join_addresses(option, by_family)
    options["dispatch"] = _join_dispatch(by_family)
    name, text = parse_comment(comment)
    family = "any" if len(parts) == 2 or parts[0][0] is None else parts[0][0]
    return Rule(name=name, chain=chain, family=family, comment=text, **options)


def _with_rated_log(line: Line, log_lines: List[Line]) -> Dict[str, Any]:
    """Return the line's options, with the log that a line before it wrote at a rate."""
    options = dict(line.options)
    options.setdefault("action", "log")
    if options["action"] == "log" and not log_lines and "log" not in options:
        raise UnexplainedError("no verdict")
    if not log_lines:
        return options
    (before,) = log_lines
    log, limit = before.options["log"], before.options["limit"]
    matches = {key: value for key, value in before.options.items() if key not in ("log", "limit")}
    rest = {key: value for key, value in options.items() if key not in VERDICT_OPTIONS}
    if before.family != line.family or matches != rest or (limit.burst, limit.mode) != (DEFAULT_BURST, "under"):
        raise UnexplainedError("log")
    return {**options, "log": replace(log, amount=limit.amount, unit=limit.unit)}


def _join_addresses(option: str, by_family: Mapping[str, Mapping[str, Any]]) -> Optional[Addresses]:
    if not any(option in values for values in by_family.values()):
        return None
    members = {family: values.get(option, ALL_ADDRESSES.of(family)) for family, values in by_family.items()}
    return Addresses(*(members.get(family, ()) for family in FAMILIES))


def _join_dispatch(by_family: Mapping[str, Mapping[str, Any]]) -> Optional[Dispatch]:
    tables = {family: values["dispatch"] for family, values in by_family.items() if "dispatch" in values}
    if not tables:
        return None
    by_chain: Dict[str, Dict[str, List[Range]]] = {}
    for family, (_selector, branches) in tables.items():
        for found, chain in branches:
            by_chain.setdefault(chain, {}).setdefault(family, []).append(found)
    (selector,) = {selector for selector, _branches in tables.values()}
    sets = {
        chain: Addresses(*(merge(members.get(family, [])) for family in FAMILIES))
        for chain, members in by_chain.items()
    }
    return Dispatch(selector, tuple((addresses, chain) for chain, addresses in sorted(sets.items())))


def _as_chain(kernel: KernelChain) -> Optional[Chain]:
    """Return the chain with the rules that are ours, or None if no rendering would make such a chain."""
    name = _contract_name(kernel.name)
    if kernel.name != chain_name(name):
        return None
    found = tuple(entry.rule for entry in kernel.entries if entry.rule)
    chain = Chain(name, found)
    if not chain.is_base:
        return chain if kernel.policy is None else None
    rules = tuple(rule for rule in found if not rule.name.startswith(DEFAULT_RULE))
    kind, hook, priority, device = kernel.definition
    if (kind, hook, device) != ("filter", name, None) or not isinstance(priority, int):
        return None
    return _with_default(replace(chain, rules=rules, priority=priority), kernel.policy, found[len(rules) :])


def _with_default(chain: Chain, policy: Optional[str], tail: Tuple[Rule, ...]) -> Chain:
    """Return the chain with the verdict that policy and last rules carry out together; None where they contradict."""
    for default, reject_with in [("accept", None), ("drop", None)] + [("reject", word) for word in REJECT_WITH]:
        wanted = replace(chain, rules=(), default=default, reject_with=reject_with)
        if policy == ("accept" if default == "accept" else "drop") and tail == all_rules(wanted):
            return replace(chain, default=default, reject_with=reject_with)
    return chain
