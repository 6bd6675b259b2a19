# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data and back, for all that is legal; and for all that is not, one kind of error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property.strategies import PlainRuleset, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode, encode
from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS

# What a person could put where something else belongs, and what would be right elsewhere.
WORDS = [
    "accept", "drop", "output", "own", "tcp", "ipv6", "any", "198.51.100.0/24", "2001:db8::1", "22", "1-2", "5/second",
    "local", "not:", "new", "echo-request", "rate", "prefix", "mask", "source", "2027-01-31T00:00:00Z", "", "\0", "\n",
]  # fmt: skip
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=8),
    st.sampled_from([2**31, 2**32, 2**64, 10**30, -1, 0]),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from([*WORDS, "set", "group", "burst", "per", "mode"]), st.text(max_size=4))
ANYTHING = st.recursive(
    ATOMS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8
)
NEEDED: dict[str, dict[str, Any]] = {
    "source_ports": {"protocol": "tcp"},
    "destination_ports": {"protocol": "tcp"},
    "tcp_flags": {"protocol": "tcp"},
    "icmp_type": {"protocol": "icmp"},
    "in_interface": {"chain": "input"},
    "reverse_path": {"chain": "input"},
    "reject_with": {"action": "reject"},
    "target": {"action": "jump"},
    "dispatch": {"action": "dispatch"},
}


def decoded(rules: Any, chains: Any) -> Ruleset | None:
    """Return the ruleset, or None where it is refused."""
    try:
        return decode(rules, chains)
    except RuleError:
        return None


@settings(max_examples=80)
@given(rulesets(max_rules=3))
def test_encode_gives_back_what_decode_takes(ruleset: PlainRuleset) -> None:
    wanted = decode(*ruleset)
    encoded = encode(wanted)
    assert decode(*encoded) == wanted
    assert encode(decode(*encoded)) == encoded


@pytest.mark.parametrize("option", PARSERS)
@given(value=ANYTHING)
def test_anything_as_an_option(option: str, value: Any) -> None:
    rule = {"name": "web", "chain": "output", "action": "accept", **NEEDED.get(option, {}), option: value}
    ruleset = decoded([rule], {"own": {}})
    assert ruleset is None or decode(*encode(ruleset)) == ruleset


@pytest.mark.parametrize("option", ["default", "reject_with", "priority"])
@given(value=ANYTHING)
def test_anything_as_an_option_of_a_chain(option: str, value: Any) -> None:
    ruleset = decoded([], {"output": {"default": "reject", option: value}})
    assert ruleset is None or decode(*encode(ruleset)) == ruleset


@given(ANYTHING, ANYTHING)
def test_anything_as_parameters(rules: Any, chains: Any) -> None:
    ruleset = decoded(rules, chains)
    assert ruleset is None or decode(*encode(ruleset)) == ruleset


@given(st.lists(st.dictionaries(st.sampled_from([*PARSERS]), ANYTHING, max_size=5), max_size=3))
def test_anything_as_rules(rules: list[dict[str, Any]]) -> None:
    decoded(rules, {})
