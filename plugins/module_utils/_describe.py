# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules in words, for people who read a diff. Private to this collection."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.palisade.egress.plugins.module_utils._codec import encode_chain, encode_rule
from ansible_collections.palisade.egress.plugins.module_utils._model import Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._plan import LISTED

# Longer lists stand below their rule, an element a line, so that a diff shows which element changed.
INLINE = 6

_PREPOSITIONS = {
    "source": "from",
    "source_ports": "from port",
    "source_type": "from type",
    "destination": "to",
    "destination_ports": "port",
    "destination_type": "to type",
    "in_interface": "in",
    "out_interface": "out",
    "icmp_type": "type",
    "ctstate": "state",
    "ct_direction": "direction",
    "uid_owner": "user",
    "gid_owner": "group",
    "reverse_path": "failing reverse path",
    "tcp_flags": "flags",
    "reject_with": "with",
    "expires": "until",
    "target": "to chain",
}
_UNTOLD = ("name", "chain", "action", "protocol", "family", "comment")


def describe(ruleset: Ruleset, strays: Sequence[str] = ()) -> str:
    """Return a text with a line a rule, chain by chain; what is nobody's comes last."""
    lines: List[str] = []
    for chain in ruleset.chains:
        told = ", ".join(f"{key} {value}" for key, value in encode_chain(chain).items())
        lines.append(f"chain {chain.name}: {told or 'reached by jumps'}")
        for rule in chain.rules:
            lines.extend(_rule_lines(rule))
    lines.extend(f"stray: {stray}" for stray in strays)
    return "".join(f"{line}\n" for line in lines)


def _rule_lines(rule: Rule) -> Iterator[str]:
    plain = encode_rule(rule)
    family = None if (rule.protocol or "").startswith("icmp") else plain.get("family")
    words = [rule.action, family, plain.get("protocol")]
    below: List[str] = []
    for option, value in plain.items():
        if option not in _UNTOLD:
            # The actions log and dispatch are called as their options are: once is enough.
            words += [_PREPOSITIONS.get(option, option) if option != rule.action else "", _inline(value, below)]
    comment = f"  # {rule.comment}" if rule.comment else ""
    yield f"  {rule.name}: {' '.join(word for word in words if word)}{comment}"
    yield from (f"      {element}" for element in below)


def _inline(value: Any, below: List[str]) -> str:
    if isinstance(value, Mapping):
        return _options(value, below)
    if not isinstance(value, list):
        return str(value)
    value = [_short(element) for element in value]
    if len(value) <= INLINE:
        return ",".join(value)
    if len(value) > LISTED:
        return f"{len(value)} entries (sha256 {sha256(' '.join(value).encode()).hexdigest()[:16]})"
    below.extend(value)
    return f"{len(value)} entries:"


def _short(element: str) -> str:
    """Return a single address without the length of its prefix."""
    address, _slash, length = element.partition("/")
    return address if (length == "128" if ":" in address else length == "32") else element


def _options(value: Mapping[str, Any], below: List[str]) -> str:
    (first, *_others) = value.values()
    if isinstance(first, Mapping):
        table: Dict[str, str] = dict(first)
        branches = [f"{_short(key)} to chain {chain}" for key, chain in table.items()]
        return f"by {next(iter(value))} {_inline(branches, below)}"
    return "(" + ", ".join(f"{key} {_inline(item, below)}" for key, item in value.items()) + ")"
