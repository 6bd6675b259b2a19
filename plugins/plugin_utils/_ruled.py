# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An inventory compiled down to rulesets. Private to this collection."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import assertions_of
from ansible_collections.palisade.egress.plugins.plugin_utils._compile import compile_fleet
from ansible_collections.palisade.egress.plugins.plugin_utils._fleet import digest
from ansible_collections.palisade.egress.plugins.plugin_utils._guard import check_ways
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._lower import lower_to_ruleset
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Fleet, Policy, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._probes import check_probes
from ansible_collections.palisade.egress.plugins.plugin_utils._prove import check
from ansible_collections.palisade.egress.plugins.plugin_utils._ways import find_ways


@dataclass(frozen=True)
class Lowered:
    """The rules and chains of a policy, as plain data and as the ruleset that they are.

    ``enforced`` is the ruleset as it is or, in audit, as it would be: what the policy says. ``is_audit`` tells whether
    the host lets pass what its policy denies.
    """

    rules: list[dict[str, Any]]
    chains: dict[str, dict[str, Any]]
    ruleset: Ruleset
    enforced: Ruleset
    is_audit: bool = False


@dataclass(frozen=True)
class Ruled:
    """A fleet, and the policy and rules of each managed host; hosts with equal policy share theirs."""

    fleet: Fleet
    policies: Mapping[str, Policy]
    lowered: Mapping[str, Lowered]

    @property
    def rulesets(self) -> dict[str, Ruleset]:
        """The ruleset of each managed host, as its policy says: audit changes nothing about what is proven."""
        return {host: lowered.enforced for host, lowered in self.lowered.items()}


def rule(
    inventory: Inventory, now: float | None = None, *, prove: bool = True, here: Collection[tuple[str, int]] = ()
) -> Ruled:
    """Return an inventory compiled; ``here`` are the addresses of the machine that compiles.

    Raises ``PolicyError`` where it cannot be, where Ansible would be locked out, and where an assertion does not hold
    or a probe can never be satisfied.
    """
    fleet = digest(inventory, now)
    assertions = assertions_of(inventory, fleet) if prove else ()
    ways = find_ways(inventory, fleet, here) if prove else ()
    policies = compile_fleet(fleet)
    shared: dict[tuple[int, Settings, int], Lowered] = {}
    lowered: dict[str, Lowered] = {}
    for name, policy in policies.items():
        key = (id(policy.composition), policy.settings, id(policy.border))
        if key not in shared:
            shared[key] = _lower(policy)
        lowered[name] = shared[key]
    ruled = Ruled(fleet, policies, lowered)
    check_ways(ways, fleet, policies, ruled.rulesets)
    if assertions:
        check(fleet, assertions, policies, ruled.rulesets)
    if prove:
        check_probes(policies, ruled.rulesets, parse_time(fleet.now))
    return ruled


def _lower(policy: Policy) -> Lowered:
    rules, chains, ruleset = lower_to_ruleset(policy)
    enforced = _as_enforced(policy)
    if enforced == policy or policy.settings.state == "absent":
        return Lowered(rules, chains, ruleset, ruleset)
    return Lowered(rules, chains, ruleset, lower_to_ruleset(enforced)[2], policy.settings.is_audit)


def _as_enforced(policy: Policy) -> Policy:
    """Return the policy as it would be if nobody were in audit."""
    border = policy.border
    if border:
        border = replace(border, behind=tuple(replace(behind, is_audit=False) for behind in border.behind))
    return replace(policy, settings=replace(policy.settings, mode="enforce"), border=border)
