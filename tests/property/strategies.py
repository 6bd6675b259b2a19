# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies for plain data of the contract: what users could write, and all of it legal.

``rulesets()`` gives ``(rules, chains)`` that ``_codec.decode`` takes and every backend carries.
``samples(strategy, count, seed)`` gives the same examples again for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from property.values import (
    ADDRESS_TYPES,
    BASE_CHAINS,
    FAMILIES,
    INTERFACES,
    MORE_THAN_A_HANDFUL,
    OWNERS,
    Plain,
    address_lists,
    comments,
    limits,
    logs,
    names,
    own_chain_names,
    port_lists,
    some,
    tcp_flags,
    times,
)

from ansible_collections.palisade.egress.plugins.module_utils import _options, _values

LEADING = {"ipv4": "10.{}.0.0/16", "ipv6": "2001:db8:{:x}::/48"}

PlainRuleset = tuple[list[Plain], dict[str, Plain]]


def for_samples(
    strategy: st.SearchStrategy[Any], count: int, seed_number: int
) -> Callable[[Callable[[Any], None]], None]:
    """Return a decorator that runs a function at once, on as many examples, always the same ones for a seed."""

    def run(prove: Callable[[Any], None]) -> None:
        limits = settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        seed(seed_number)(limits(given(strategy)(prove)))()

    return run


def samples(strategy: st.SearchStrategy[Any], count: int, seed_number: int = 0) -> list[Any]:
    """Return examples of a strategy, always the same ones for a seed."""
    found: list[Any] = []

    @for_samples(strategy, count, seed_number)
    def collect(example: Any) -> None:
        found.append(example)

    return found


# Options that go with any action and protocol, and the base chains in which they mean something.
ANYWHERE = frozenset(BASE_CHAINS)
COMMON: dict[str, tuple[frozenset[str], st.SearchStrategy[Any]]] = {
    "source_type": (ANYWHERE, ADDRESS_TYPES),
    "destination_type": (ANYWHERE, ADDRESS_TYPES),
    "reverse_path": (frozenset(("prerouting", "input", "forward")), st.sampled_from(["strict", "loose"])),
    "in_interface": (frozenset(("prerouting", "input", "forward")), INTERFACES),
    "out_interface": (frozenset(("forward", "output")), INTERFACES),
    "ctstate": (ANYWHERE, st.lists(st.sampled_from(_options.CTSTATES), min_size=1)),
    "ct_direction": (ANYWHERE, st.sampled_from(["original", "reply"])),
    "uid_owner": (frozenset(("output",)), OWNERS),
    "gid_owner": (frozenset(("output",)), OWNERS),
    "limit": (ANYWHERE, limits()),
    "expires": (ANYWHERE, times()),
    "comment": (ANYWHERE, comments()),
}


# --- rules ---


@st.composite
def protocols(draw: st.DrawFn, families: tuple[str, ...]) -> Plain:
    """Return a protocol and what goes with it."""
    known = sorted({*_values.PROTOCOLS} - {"icmp", "icmpv6"})
    kinds = ["none", "tcp", "ports", "other", "number"]
    kinds += {("ipv4",): ["icmp"], ("ipv6",): ["icmpv6"]}.get(families, [])
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return {}
    if kind == "other":
        return {"protocol": draw(st.sampled_from(known))}
    if kind == "number":
        return {"protocol": draw(st.integers(0, 255).filter(lambda n: n not in (1, 58)))}
    if kind in ("icmp", "icmpv6"):
        types = _values.ICMP_TYPES if kind == "icmp" else _values.ICMPV6_TYPES
        word = st.one_of(st.sampled_from(sorted(types)), st.integers(0, 255))
        return {"protocol": kind, **draw(st.fixed_dictionaries({}, optional={"icmp_type": some(word)}))}
    optional = {"source_ports": port_lists(), "destination_ports": port_lists()}
    if kind == "tcp":
        return {"protocol": "tcp", **draw(st.fixed_dictionaries({}, optional={**optional, "tcp_flags": tcp_flags()}))}
    protocol = draw(st.sampled_from(_values.PORT_PROTOCOLS))
    return {"protocol": protocol, **draw(st.fixed_dictionaries({}, optional=optional))}


@st.composite
def matches(draw: st.DrawFn, entrances: frozenset[str], families: tuple[str, ...]) -> Plain:
    """Return the options of a rule that say which packets match, and extras of any action."""
    options: Plain = {}
    if families != FAMILIES or draw(st.booleans()):
        options["family"] = "any" if families == FAMILIES else families[0]
    for option in ("source", "destination"):
        if draw(st.integers(0, 2)) == 0:
            options[option] = draw(address_lists(families))
    options.update(draw(protocols(families)))
    possible = [option for option, (places, _strategy) in COMMON.items() if entrances <= places]
    for option in draw(st.lists(st.sampled_from(possible), max_size=3, unique=True)):
        options[option] = draw(COMMON[option][1])
    if draw(st.integers(0, 3)) == 0:
        options["log"] = draw(logs(rated="limit" not in options))
    return options


@st.composite
def verdicts(draw: st.DrawFn, base: bool, entrances: frozenset[str], options: Plain) -> Plain:
    """Return an action that is no jump, with its options."""
    actions = ["accept", "drop", "log"] + ([] if base else ["return"])
    action = draw(st.sampled_from(actions + ([] if "prerouting" in entrances else ["reject"])))
    if action == "log":
        return {"log": options.get("log") or draw(logs(rated="limit" not in options))}
    if action == "reject" and draw(st.booleans()):
        replies = _options.REJECTS if options.get("protocol") == "tcp" else _options.REJECTS[:-1]
        return {"action": action, "reject_with": draw(st.sampled_from(replies))}
    return {"action": action}


@st.composite
def dispatch_tables(draw: st.DrawFn, families: tuple[str, ...], chains: list[str]) -> Plain:
    """Return a table that names each of these chains, with few branches or many."""
    many = draw(st.booleans())
    table: dict[str, str] = {}
    for family in families:
        count = draw(st.integers(len(chains), len(chains) + (MORE_THAN_A_HANDFUL if many else 1)))
        for number in range(count):
            inside = ip_network(LEADING[family].format(number))
            length = draw(st.sampled_from([inside.prefixlen, inside.prefixlen + 3, inside.max_prefixlen]))
            offset = draw(st.integers(0, 2 ** (length - inside.prefixlen) - 1)) << (inside.max_prefixlen - length)
            start = inside.network_address + offset
            table[f"{start}/{length}"] = chains[number] if number < len(chains) else draw(st.sampled_from(chains))
    return {draw(st.sampled_from(["source", "destination"])): table}


@st.composite
def rules(draw: st.DrawFn, chain: str, entrances: frozenset[str], targets: list[str]) -> Plain:
    """Return a rule for a chain that packets enter from ``entrances``; one that leads to ``targets`` if there are any.

    Of several targets it dispatches to all.
    """
    families = draw(st.sampled_from([FAMILIES, FAMILIES, ("ipv4",), ("ipv6",)]))
    options = draw(matches(entrances, families))
    if len(targets) > 1 or (targets and draw(st.booleans())):
        action = {"action": "dispatch", "dispatch": draw(dispatch_tables(families, targets))}
    elif targets:
        action = {"action": "jump", "target": targets[0]}
    else:
        action = draw(verdicts(chain in BASE_CHAINS, entrances, options))
    # Without an action it is a log option that came out, which then decides.
    return {"name": draw(names()), "chain": chain, "action": "log", **options, **action}


# --- rulesets ---


@dataclass(frozen=True)
class Shape:
    """Which chains there are, and which lead where; ``leads`` holds the targets of one rule in each list."""

    chains: tuple[str, ...]
    leads: dict[str, list[list[str]]]

    def entrances(self, chain: str) -> frozenset[str]:
        """Return the base chains from which jumps lead to a chain."""
        if chain in BASE_CHAINS:
            return frozenset((chain,))
        before = [name for name, rules in self.leads.items() if any(chain in targets for targets in rules)]
        return frozenset().union(*(self.entrances(name) for name in before))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Return chains such that a jump leads to each of one's own, and none back."""
    base = draw(st.lists(st.sampled_from(BASE_CHAINS), min_size=1, unique=True))
    own = draw(st.lists(own_chain_names(), max_size=4, unique=True))
    leads: dict[str, list[list[str]]] = {name: [] for name in base + own}
    for index, name in enumerate(own):
        for parent in draw(st.lists(st.sampled_from(base + own[:index]), min_size=1, max_size=2, unique=True)):
            together = draw(st.booleans()) and bool(leads[parent])
            leads[parent][-1:] = [[*leads[parent][-1], name]] if together else [*leads[parent][-1:], [name]]
    return Shape(tuple(base + own), leads)


@cache
def chain_options(chain: str) -> st.SearchStrategy[Plain]:
    """Return a declaration of a base chain, with every default and priority."""
    priority = st.one_of(st.sampled_from(sorted(_options.PRIORITIES)), st.integers(-1000, 1000))
    optional = {"priority": priority} if chain != "prerouting" else {"priority": st.integers(-390, 1000)}
    plain = st.fixed_dictionaries({}, optional={**optional, "default": st.sampled_from(["accept", "drop"])})
    reject = st.fixed_dictionaries(
        {"default": st.just("reject")}, optional={**optional, "reject_with": st.sampled_from(_options.REJECTS)}
    )
    return plain if chain == "prerouting" else st.one_of(plain, reject)


@st.composite
def filled(draw: st.DrawFn, shape: Shape, max_rules: int = 5) -> PlainRuleset:
    """Return ``(rules, chains)`` of this shape; ``max_rules`` counts those of a chain that are no jumps."""
    every: list[Plain] = []
    declared: dict[str, Plain] = {}
    for chain in shape.chains:
        leads = shape.leads[chain] + [[] for _ in range(draw(st.integers(0, max_rules)))]
        ordered = draw(st.permutations(leads)) if shape.leads[chain] else leads
        found = [draw(rules(chain, shape.entrances(chain), targets)) for targets in ordered]
        every += _uniquely_named(found)
        if not found or draw(st.booleans()):
            declared[chain] = draw(chain_options(chain)) if chain in BASE_CHAINS else {}
    return every, declared


def rulesets(max_rules: int = 5) -> st.SearchStrategy[PlainRuleset]:
    """Return rulesets of every shape."""
    return shapes().flatmap(lambda shape: filled(shape, max_rules))


@st.composite
def edits(draw: st.DrawFn, rule: Plain) -> Plain:
    """Return the rule with one option more, or another value of it, or without it."""
    families = FAMILIES if rule.get("family", "any") == "any" else (rule["family"],)
    possible: dict[str, st.SearchStrategy[Any]] = {
        "source": address_lists(families),
        "destination": address_lists(families),
        "comment": comments(),
        "expires": times(),
        "log": logs(rated="limit" not in rule),
    }
    if "rate" not in rule.get("log", {}):
        possible["limit"] = limits()
    option = draw(st.sampled_from(sorted(possible)))
    needed = option == "log" and rule["action"] == "log"
    if option in rule and not needed and draw(st.booleans()):
        return {key: value for key, value in rule.items() if key != option}
    return {**rule, option: draw(possible[option])}


@st.composite
def revisions(draw: st.DrawFn, shape: Shape, before: PlainRuleset) -> PlainRuleset:
    """Return a ruleset of the same shape in which some of the rules are the same, and some only by name."""
    every: list[Plain] = []
    declared: dict[str, Plain] = {}
    for chain in shape.chains:
        entrances = shape.entrances(chain)
        found: list[Plain] = []
        for rule in [rule for rule in before[0] if rule["chain"] == chain]:
            targets = _targets(rule)
            fate = draw(st.sampled_from(["keep", "keep", "edit", "renew", *([] if targets else ["drop"])]))
            if fate == "renew":
                found.append({**draw(rules(chain, entrances, targets)), "name": rule["name"]})
            elif fate != "drop":
                found.append(draw(edits(rule)) if fate == "edit" else rule)
        found += draw(st.lists(rules(chain, entrances, []), max_size=2))
        ordered = draw(st.permutations(found)) if draw(st.booleans()) else found
        every += _uniquely_named([dict(rule) for rule in ordered])
        if not found or draw(st.booleans()):
            declared[chain] = draw(chain_options(chain)) if chain in BASE_CHAINS else {}
        elif chain in before[1]:
            declared[chain] = before[1][chain]
    return every, declared


def _targets(rule: Plain) -> list[str]:
    tables = rule.get("dispatch", {}).values()
    return [rule["target"]] if "target" in rule else sorted({chain for table in tables for chain in table.values()})


@st.composite
def histories(draw: st.DrawFn) -> list[PlainRuleset]:
    """Return rulesets that follow each other on one host: two that are akin, then one that is all different."""
    shape = draw(shapes())
    first = draw(filled(shape))
    return [first, draw(revisions(shape, first)), draw(rulesets(max_rules=2))]


def _uniquely_named(found: list[Plain]) -> list[Plain]:
    seen: set[str] = set()
    for rule in found:
        while rule["name"] in seen:
            rule["name"] += "'"
        seen.add(rule["name"])
    return found
