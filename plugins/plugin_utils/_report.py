# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies as plain data, for the role, for filters and for people. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.palisade.egress.plugins.plugin_utils._compile import compile_fleet
from ansible_collections.palisade.egress.plugins.plugin_utils._fleet import digest
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._lower import lower
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Composition,
    Forbidden,
    Granted,
    Policy,
    Settings,
    Term,
)


def policies(inventory: Inventory) -> dict[str, dict[str, Any]]:
    """Return the policy of every managed host with its rules; hosts with equal policy share one object."""
    shared: dict[tuple[int, Settings], dict[str, Any]] = {}
    compiled = compile_fleet(digest(inventory))
    for policy in compiled.values():
        key = (id(policy.composition), policy.settings)
        if key not in shared:
            shared[key] = _report(policy)
    return {host: shared[id(policy.composition), policy.settings] for host, policy in compiled.items()}


def compile_policies(hostvars: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the policies of a whole inventory."""
    return policies(Inventory(hostvars, groups))


def _report(policy: Policy) -> dict[str, Any]:
    rules, chains = lower(policy)
    composition = policy.composition
    return {
        "profiles": list(composition.profiles),
        "router": composition.is_router,
        "state": policy.settings.state,
        "backend": policy.settings.backend,
        "live_flows": policy.settings.live_flows,
        **_grants(composition),
        "forbids": [_forbid(forbidden) for forbidden in composition.forbids],
        "notices": list(composition.notices),
        "rules": rules,
        "chains": chains,
    }


def _grants(composition: Composition) -> dict[str, list[Any]]:
    """Return the grants that open something, and the names of those of which nothing came."""
    by_state: dict[str, list[Granted]] = {}
    for granted in composition.grants:
        by_state.setdefault("in use" if granted.state == "cut" else granted.state, []).append(granted)
    return {
        "grants": [_grant(granted) for granted in by_state.get("in use", [])],
        "withheld": [{"origin": granted.origin, "by": list(granted.by)} for granted in by_state.get("withheld", [])],
        "not_in_use": [granted.origin for granted in by_state.get("not in use", [])],
    }


def _grant(granted: Granted) -> dict[str, Any]:
    grant = granted.grant
    limit = grant.limit
    extras = {
        "interface": list(grant.interface),
        "user": list(grant.user),
        "group": list(grant.group),
        "limit": limit and {"rate": limit.rate, "burst": limit.burst, "per": limit.per},
        "expires": grant.expires,
        "reason": grant.reason,
        "cut_by": list(granted.by),
    }
    return {
        "origin": granted.origin,
        "service": grant.service.name,
        "to": _texts(grant.to),
        **{key: value for key, value in extras.items() if value},
    }


def _forbid(forbidden: Forbidden) -> dict[str, Any]:
    forbid = forbidden.forbid
    excepted = {"except": _texts(forbid.without)} if forbid.without else {}
    return {"origin": forbidden.origin, "service": forbid.service.name, "to": _texts(forbid.to), **excepted}


def _texts(terms: tuple[Term, ...]) -> list[str]:
    return [term.text for term in terms]
