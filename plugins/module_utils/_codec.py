# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plain data to rulesets and back: the one place where the data contract is validated. Private to this collection.

What one option must look like stands in ``_options``; what the options of a rule demand of each other in
``_rule_checks``; what rules demand of each other in ``_chain_checks``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from ansible_collections.palisade.egress.plugins.module_utils import _chain_checks, _rule_checks
from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import (
    ALL_ADDRESSES,
    ALL_PORTS,
    BASE_CHAINS,
    FAMILIES,
    Addresses,
    Chain,
    Dispatch,
    Rule,
    Ruleset,
)
from ansible_collections.palisade.egress.plugins.module_utils._options import (
    CHAIN_NAME,
    COMMENT_MARK,
    FORMATTERS,
    PARSERS,
    PRIORITIES,
    REJECTS,
    kind,
    one_of,
    plain,
    priority,
)
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError, parse_icmp_type, quoted

DEFAULT_PRIORITY = {"prerouting": PRIORITIES["raw"]}
DEFAULT_REJECT = "icmp-port-unreachable"

_PROTOCOL_FAMILY: Dict[Optional[str], str] = {"icmp": "ipv4", "icmpv6": "ipv6"}
_NO_FAMILY = "no packet can match, as this leaves no family that all of the rule's options are about"


def decode(rules: object, chains: object) -> Ruleset:
    """Return the ruleset that plain data of the contract describes.

    ``rules`` is a list of dictionaries, ``chains`` a dictionary of dictionaries by chain name. Raises ``RuleError``,
    which names the rule (or its place in the list), the option and the mend.
    """
    if not isinstance(rules, list):
        raise RuleError("rules", f"must be a list, not {kind(rules)}", "give a list of rules, or state: absent")
    declared = _decode_chains(chains)
    decoded = [_decode_rule(rule, f"rules[{index}]") for index, rule in enumerate(rules)]
    names = [name for name in BASE_CHAINS if name in declared or any(rule.chain == name for rule in decoded)]
    names += sorted({*declared, *(rule.chain for rule in decoded)} - set(BASE_CHAINS))
    by_chain: Dict[str, List[Rule]] = {name: [] for name in names}
    for rule in decoded:
        by_chain[rule.chain].append(rule)
    ruleset = Ruleset(tuple(_chain(name, declared.get(name), tuple(by_chain[name])) for name in names))
    _chain_checks.check(ruleset)
    return ruleset


def encode(ruleset: Ruleset) -> Tuple[List[Dict[str, Any]], Dict[str, Dict[str, Any]]]:
    """Return ``(rules, chains)`` as plain data that ``decode`` turns into the same ruleset."""
    rules = [encode_rule(rule) for chain in ruleset.chains for rule in chain.rules]
    return rules, {chain.name: encode_chain(chain) for chain in ruleset.chains}


def encode_chain(chain: Chain) -> Dict[str, Any]:
    """Return the declaration of one chain as plain data."""
    options = {"default": chain.default, "reject_with": chain.reject_with, "priority": chain.priority}
    return {name: value for name, value in options.items() if value is not None}


def encode_rule(rule: Rule) -> Dict[str, Any]:
    """Return one rule as plain data, without the options that have no value."""
    encoded = {}
    for field in fields(rule):
        value = getattr(rule, field.name)
        if value is not None and value != field.default:
            encoded[field.name] = FORMATTERS.get(field.name, plain)(value)
    return encoded


def parse_comment(text: str) -> Tuple[str, str]:
    """Return ``(name, comment)`` of a rule from the one comment that a backend keeps."""
    name, _mark, comment = text.partition(COMMENT_MARK)
    return name, comment


def format_comment(rule: Rule) -> str:
    """Return the one comment that a backend keeps: name, and the user's comment where there is one."""
    return f"{rule.name}{COMMENT_MARK}{rule.comment}" if rule.comment else rule.name


def canonical(rule: Rule) -> Rule:
    """Return the rule with its family and sets cut down to what can match; BadValueError if nothing can."""
    families = [family for family in rule.families if _PROTOCOL_FAMILY.get(rule.protocol, family) == family]
    if not families:
        raise BadValueError(f"{rule.protocol} is no protocol of {rule.family}", "choose another one", "protocol")
    for option in ("source", "destination", "dispatch"):
        families = [family for family in families if _has_members(getattr(rule, option), family)]
        if not families:
            raise BadValueError(_NO_FAMILY, "give each address list members of the rule's family", option)
    cut: Dict[str, Any] = {
        "family": "any" if len(families) == 2 else families[0],
        "source": _only(rule.source, families),
        "destination": _only(rule.destination, families),
        "dispatch": rule.dispatch and _only_branches(rule.dispatch, families),
        "source_ports": None if rule.source_ports == ALL_PORTS else rule.source_ports,
        "destination_ports": None if rule.destination_ports == ALL_PORTS else rule.destination_ports,
    }
    changed = {option: value for option, value in cut.items() if value != getattr(rule, option)}
    return replace(rule, **changed) if changed else rule


def _has_members(members: Union[Addresses, Dispatch, None], family: str) -> bool:
    if isinstance(members, Dispatch):
        return bool(members.addresses(family))
    return members is None or bool(members.of(family))


def _only(addresses: Optional[Addresses], families: List[str]) -> Optional[Addresses]:
    if addresses is None:
        return None
    kept = Addresses(*(addresses.of(f) if f in families else () for f in FAMILIES))
    everything = all(kept.of(family) == ALL_ADDRESSES.of(family) for family in families)
    return None if everything else kept


def _only_branches(dispatch: Dispatch, families: List[str]) -> Dispatch:
    branches = []
    for addresses, chain in dispatch.branches:
        kept = Addresses(*(addresses.of(f) if f in families else () for f in FAMILIES))
        if kept != Addresses():
            branches.append((kept, chain))
    return replace(dispatch, branches=tuple(branches))


def _decode_chains(chains: object) -> Dict[str, Chain]:
    if not isinstance(chains, Mapping):
        raise RuleError("chains", f"must be a dictionary, not {kind(chains)}", "write {output: {default: drop}}")
    return {_chain_name(name, "chains"): _decode_chain(name, options) for name, options in chains.items()}


def _decode_chain(name: str, options: object) -> Chain:
    where = f"chains.{name}"
    values = _checked_keys(options, ("default", "reject_with", "priority"), where)
    if name not in BASE_CHAINS:
        if values:
            raise RuleError(where, "a chain of your own has no options", f"write {name}: {{}}, or leave it out")
        return Chain(name)
    parsers: Dict[str, Callable[[Any], Any]] = {
        "default": one_of("accept", "drop", "reject"),
        "reject_with": one_of(*REJECTS),
        "priority": priority,
    }
    parsed = {key: _at(f"{where}.{key}", parsers[key], value) for key, value in values.items()}
    if "reject_with" in parsed and parsed.get("default") != "reject":
        raise RuleError(f"{where}.reject_with", "goes with default: reject only", "set the default, or leave it out")
    return Chain(name, **parsed)


def _chain(name: str, declared: Optional[Chain], rules: Tuple[Rule, ...]) -> Chain:
    chain = replace(declared or Chain(name), rules=rules)
    if not chain.is_base:
        return chain
    default = chain.default or "accept"
    priority = chain.priority if chain.priority is not None else DEFAULT_PRIORITY.get(name, PRIORITIES["filter"])
    reject_with = (chain.reject_with or DEFAULT_REJECT) if default == "reject" else None
    return replace(chain, default=default, priority=priority, reject_with=reject_with)


def _decode_rule(given: object, place: str) -> Rule:
    name = given.get("name") if isinstance(given, Mapping) else None
    where = f"rule {quoted(name)} ({place})" if isinstance(name, str) else place
    options = _checked_keys(given, tuple(PARSERS), where)
    for key in ("name", "chain", "action"):
        if key not in options:
            raise RuleError(f"{where}.{key}", "is missing", "every rule has a name, a chain and an action")
    chain = _chain_name(options["chain"], f"{where}.chain")
    values = {key: _at(f"{where}.{key}", PARSERS[key], value) for key, value in options.items() if key != "chain"}
    rule = Rule(chain=chain, **values)
    _rule_checks.check(rule, where)
    if rule.icmp_type is not None:
        rule = _at(f"{where}.icmp_type", _with_icmp_types, rule)
    if rule.action == "reject" and rule.reject_with is None:
        rule = replace(rule, reject_with=DEFAULT_REJECT)
    cut_down: Rule = _at(where, canonical, rule)
    return cut_down


def _with_icmp_types(rule: Rule) -> Rule:
    types = {parse_icmp_type(item, rule.protocol) for item in rule.icmp_type or ()}
    return replace(rule, icmp_type=tuple(sorted(types)))


def _checked_keys(options: object, known: Tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise RuleError(where, f"must be a dictionary, not {kind(options)}", f"its options are {', '.join(known)}")
    for key in options:
        if key not in known:
            near = get_close_matches(str(key)[:60], known, 1)
            mend = f"did you mean {near[0]!r}" if near else f"the options are {', '.join(known)}"
            raise RuleError(where, f"has no option {quoted(key)}", mend)
    return options


def _at(where: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except BadValueError as bad:
        raise RuleError(f"{where}.{bad.option}" if bad.option else where, bad.what, bad.mend) from None


def _chain_name(value: object, where: str) -> str:
    if isinstance(value, str) and CHAIN_NAME.match(value):
        return value
    mend = f"use one of {', '.join(BASE_CHAINS)}, or up to 20 of a-z, 0-9 and _ for a chain of your own"
    raise RuleError(where, f"{quoted(value)} cannot name a chain", mend)
