# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``egress_rule`` does with its parameters. Private to this collection."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from ansible_collections.palisade.egress.plugins.module_utils import _boot, _connections, _persistence, _watchdog
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._describe import describe
from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError, RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of, runner
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._plan import Change
from ansible_collections.palisade.egress.plugins.module_utils._transaction import Outcome, converge


def apply_rules(module: Any) -> Dict[str, Any]:
    """Make the kernel match the module's parameters and return its result; raises ``EgressError``."""
    confirm = module.params["confirm"]
    if module.check_mode:
        return _apply(module, None)
    with _watchdog.only_one():
        if confirm["stage"] == "confirm":
            return _confirm(module, confirm["token"])
        _watchdog.check_none_pending()
        return _apply(module, confirm["token"] if confirm["stage"] == "apply" else None)


def _apply(module: Any, token: Optional[str]) -> Dict[str, Any]:
    """Change what differs; with a token, only for as long as the watchdog waits to be told to let it stand."""
    wanted = _wanted(module.params)
    outcome = _converge(module, wanted, midstream=module.params["midstream"] == "on_first_apply", token=token)
    pending = bool(token and outcome.plan)
    ended = 0 if pending or outcome.midstream or not outcome.plan else _end_flows(module, outcome.wanted)
    # While it is pending, the next boot is to load what was there before.
    plan = [*outcome.plan, *_persist(module, wanted, write=not pending and not module.check_mode)]
    if outcome.assumed_empty:
        module.warn("nft is not installed here yet: this plan assumes that the kernel holds no rules of ours.")
    result = {
        "changed": bool(plan),
        "plan": [change.as_dict() for change in plan],
        "backend": backend_of(module).name,
        "midstream": outcome.midstream,
        "flows_ended": ended,
        "pending": pending,
    }
    return {**result, "diff": _diff(outcome)} if module._diff and outcome.plan else result


def _confirm(module: Any, token: str) -> Dict[str, Any]:
    """Let a change stand; this runs over a login that began after it."""
    _watchdog.check_pending(token)
    # Takes the rule away that let connections in midstream pass. Should it fail, the watchdog is there still.
    wanted = _wanted(module.params)
    _converge(module, wanted, midstream=False, token=None)
    _watchdog.disarm(runner(module), token)
    _persist(module, wanted, write=True)
    return {"changed": True, "midstream": False, "flows_ended": _end_flows(module, wanted)}


def _converge(module: Any, wanted: Optional[Ruleset], *, midstream: bool, token: Optional[str]) -> Outcome:
    backend = backend_of(module)

    def prepare(first_apply: bool, snapshot: Any) -> None:
        if module.params["live_flows"] == "end":
            _connections.check_conntrack()
        if midstream and first_apply:
            _connections.adopt_open_connections()
        if token is not None:
            program = module.get_bin_path(backend.program, required=True)
            _watchdog.arm(runner(module), token, program, snapshot.script, module.params["confirm"]["timeout"])

    try:
        return converge(backend, wanted, check=module.check_mode, midstream=midstream, before_load=prepare)
    except EgressError:
        if token is not None:
            _watchdog.call_off(runner(module), token)
        raise


def _persist(module: Any, wanted: Optional[Ruleset], *, write: bool) -> List[Change]:
    """Let the next boot load these rules, or with ``write`` off only tell whether that would be new to it."""
    if not module.params["persist"]:
        return []
    if wanted is None:
        return _forget(module, write=write)
    changes = []
    text = backend_of(module).saved_form(wanted)
    before = _persistence.saved()
    if text != before:
        changes.append(Change("saved rules", "changed" if before else "added"))
        if write:
            _persistence.save(text, module.params["generations"])
    outdated = _boot.outdated(module.params["boot_failure"])
    if outdated:
        changes.append(Change("boot unit", "changed" if _boot.present() else "added"))
        if write:
            _boot.install(runner(module), module.params["boot_failure"])
    return changes


def _forget(module: Any, *, write: bool) -> List[Change]:
    changes = []
    if _boot.present():
        changes.append(Change("boot unit", "removed"))
        if write:
            _boot.remove(runner(module))
    if _persistence.saved() is not None:
        changes.append(Change("saved rules", "removed"))
        if write:
            _persistence.forget()
    return changes


def _wanted(params: Dict[str, Any]) -> Optional[Ruleset]:
    if params["state"] == "present":
        return resolve_owners(decode(params["rules"], params["chains"]))
    if params["rules"]:
        raise RuleError("rules", "goes with state: present only", "leave it out, or set the state")
    return None


def _end_flows(module: Any, ruleset: Optional[Ruleset]) -> int:
    """End the flows that these rules deny, or with check mode count them."""
    if ruleset is None or module.params["live_flows"] == "keep":
        return 0
    denied = _connections.denied_here(ruleset)
    for flow in denied if not module.check_mode else ():
        _connections.end_flow(flow)
    return len(denied)


def _diff(outcome: Outcome) -> Dict[str, str]:
    return {
        "before_header": "rules in the kernel",
        "before": describe(outcome.observed.ruleset, outcome.observed.strays),
        "after_header": "rules wanted",
        "after": describe(outcome.wanted) if outcome.wanted else "",
    }
