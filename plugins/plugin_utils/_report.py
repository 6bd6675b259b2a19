# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies as plain data, for the role, for filters and for people. Private to this collection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._forwarding import forwarded, unasked
from ansible_collections.palisade.egress.plugins.plugin_utils._idle import notices as idle_notices
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accepted,
    Composition,
    Forbidden,
    Granted,
    Policy,
    Probed,
    RateLimit,
    Settings,
    Term,
    Waived,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._probes import encode
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import Lowered, rule

# What the role goes by, beside rules and chains.
_SETTINGS = ("state", "backend", "live_flows", "confirm_timeout", "persist", "generations", "boot_failure", "guard")


def policies(
    inventory: Inventory, now: float | None = None, here: Collection[tuple[str, int]] = ()
) -> dict[str, dict[str, Any]]:
    """Return the policy of every managed host with its rules; hosts with equal policy share one object."""
    ruled = rule(inventory, now, here=here)
    seconds = parse_time(ruled.fleet.now)
    shared: dict[tuple[int, int], dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for host, lowered in ruled.lowered.items():
        policy = ruled.policies[host]
        key = (id(lowered), id(policy.probes))
        if key not in shared:
            shared[key] = _report(policy, lowered, seconds)
        found[host] = shared[key]
    return found


def compile_policies(hostvars: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the policies of a whole inventory."""
    return policies(Inventory(hostvars, groups))


def _report(policy: Policy, lowered: Lowered, now: int) -> dict[str, Any]:
    composition = policy.composition
    return {
        "profiles": list(composition.profiles),
        "router": composition.is_router,
        "mode": policy.settings.mode,
        "settings": _settings(policy.settings),
        "forwarding": forwarded(composition, policy.settings),
        "forwarding_unasked": unasked(composition, policy.settings),
        "container_bridges": list(policy.settings.container_bridges) if composition.is_container_host else [],
        **_grants(composition),
        "accepts": _accepts(policy),
        "not_in_use": _not_in_use(policy),
        "forbids": [_forbid(forbidden) for forbidden in composition.forbids],
        "waivers": [_waiver(waived) for forbidden in composition.forbids for waived in forbidden.waived],
        "notices": [*_audit(policy), *composition.notices, *idle_notices(composition, lowered.enforced, now)],
        "rules": lowered.rules,
        "chains": lowered.chains,
        "probes": [plain for item in policy.probes if not _is_void(item, policy) for plain in encode(item)],
    }


def _settings(settings: Settings) -> dict[str, Any]:
    """Return what the role goes by; audit ends no flows."""
    kept = {"live_flows": "keep"} if settings.is_audit else {}
    return {**{name: getattr(settings, name) for name in _SETTINGS}, **kept}


def _audit(policy: Policy) -> Iterator[str]:
    """Yield what is different in audit."""
    if policy.settings.is_audit and policy.settings.state == "present":
        yield "the host is in audit: what its policy denies is logged and passes"
        for item in policy.probes:
            if _is_void(item, policy):
                yield f"the probe {item.origin} is not tried, as what it expects to be blocked passes in audit"


def _is_void(item: Probed, policy: Policy) -> bool:
    return policy.settings.is_audit and item.probe.expect == "blocked"


def _grants(composition: Composition) -> dict[str, list[Any]]:
    """Return the grants that open something, and the names of those of which nothing came."""
    by_state: dict[str, list[Granted]] = {}
    for granted in (*composition.grants, *composition.containers):
        by_state.setdefault("in use" if granted.state == "cut" else granted.state, []).append(granted)
    return {
        "grants": [_grant(granted) for granted in by_state.get("in use", [])],
        "withheld": [{"origin": granted.origin, "by": list(granted.by)} for granted in by_state.get("withheld", [])],
    }


def _accepts(policy: Policy) -> list[dict[str, Any]]:
    """Return the accepts that open something: those of a host whose input is closed."""
    used = _all_accepts(policy.composition) if policy.settings.input == "closed" else ()
    return [_accept(accepted) for accepted in used if accepted.is_used]


def _all_accepts(composition: Composition) -> tuple[Accepted, ...]:
    return (*composition.accepts, *composition.container_accepts)


def _not_in_use(policy: Policy) -> list[str]:
    """Return the grants to networks that are not defined, and, if input is not closed, the accepts, by their rules."""
    composition = policy.composition
    every = (*composition.grants, *composition.containers)
    grants = [granted.origin for granted in every if granted.state == "not in use"]
    if policy.settings.input == "closed":
        return grants
    return grants + [f"accept/{accepted.origin}" for accepted in _all_accepts(composition)]


def _grant(granted: Granted) -> dict[str, Any]:
    grant = granted.grant
    extras = {
        "interface": list(grant.interface),
        "user": list(grant.user),
        "group": list(grant.group),
        "containers": grant.containers,
        "limit": _limit(grant.limit),
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


def _accept(accepted: Accepted) -> dict[str, Any]:
    accept = accepted.accept
    extras = {
        "interface": list(accept.interface),
        "containers": accept.containers,
        "limit": _limit(accept.limit),
        "expires": accept.expires,
        "reason": accept.reason,
    }
    return {
        "origin": accepted.origin,
        "service": accept.service.name,
        "from": _texts(accept.source),
        **{key: value for key, value in extras.items() if value},
    }


def _limit(limit: RateLimit | None) -> dict[str, Any] | None:
    return None if limit is None else {"rate": limit.rate, "burst": limit.burst, "per": limit.per}


def _forbid(forbidden: Forbidden) -> dict[str, Any]:
    forbid = forbidden.forbid
    extras = {"except": _texts(forbid.without), "verdict": forbid.verdict, "reject_with": forbid.reject_with}
    return {
        "origin": forbidden.origin,
        "service": forbid.service.name,
        "to": _texts(forbid.to),
        **{key: value for key, value in extras.items() if value},
    }


def _waiver(waived: Waived) -> dict[str, Any]:
    waiver = waived.waiver
    return {
        "origin": waived.origin,
        "forbid": waiver.forbid,
        "service": waiver.service.name,
        "to": _texts(waiver.to),
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires,
    }


def _texts(terms: tuple[Term, ...]) -> list[str]:
    return [term.text for term in terms]
