# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``egress_rule`` does with its parameters. Private to this collection."""

from __future__ import annotations

from time import time
from typing import Any, Dict, List, Optional

from ansible_collections.palisade.egress.plugins.module_utils import (
    _connections,
    _console,
    _persistence,
    _watchdog,
)
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._describe import describe
from ansible_collections.palisade.egress.plugins.module_utils._errors import (
    EgressError,
    NotRestoredError,
    ProbeError,
    RuleError,
)
from ansible_collections.palisade.egress.plugins.module_utils._guard import check_logins
from ansible_collections.palisade.egress.plugins.module_utils._leases import check_leases
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of, runner
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._probe import failure_of, run_probes
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import Probe, decode_probes
from ansible_collections.palisade.egress.plugins.module_utils._saving import Saving
from ansible_collections.palisade.egress.plugins.module_utils._transaction import Outcome, converge


def apply_rules(module: Any) -> Dict[str, Any]:
    """Make the kernel match the module's parameters and return its result; raises ``EgressError``."""
    confirm = module.params["confirm"]
    probes = _probes(module.params)
    if module.check_mode:
        _console.check_not_off(module.params["state"])
        return _apply(module, None)
    with _watchdog.only_one():
        if confirm["stage"] == "confirm":
            result = _confirm(module, confirm["token"], probes)
        else:
            _console.check_not_off(module.params["state"])
            _watchdog.settle(runner(module))
            _persistence.discard()
            result = _apply(module, confirm["token"] if confirm["stage"] == "apply" else None)
        if module.params["state"] == "absent" and not result["pending"]:
            _watchdog.leave_nothing()
    return result


def _apply(module: Any, token: Optional[str]) -> Dict[str, Any]:
    """Change what differs; with a token, only for as long as the watchdog waits to be told to let it stand."""
    wanted = _wanted(module.params)
    if wanted is not None and module.params["guard"]:
        # Rules that have not changed are told, too: a host may have come to its lease since.
        check_leases(wanted, _connections.addresses(), time())
    saving = Saving(module, wanted)
    outcome = _converge(module, wanted, saving, midstream=module.params["midstream"] == "on_first_apply", token=token)
    pending = bool(token and outcome.plan)
    judging = None if pending or outcome.midstream or not outcome.plan else outcome.wanted
    plan = [*outcome.plan, *saving.plan]
    if outcome.assumed_empty:
        module.warn("nft is not installed here yet: this plan assumes that the kernel holds no rules of ours.")
    result = {
        "changed": bool(plan),
        "plan": [change.as_dict() for change in plan],
        "backend": backend_of(module).name,
        "midstream": outcome.midstream,
        "flows_ended": 0,
        "pending": pending,
    }
    if module._diff and outcome.plan:
        result["diff"] = _diff(outcome)
    if pending:
        # While it is pending, the next boot is to load what was there before.
        try:
            _watchdog.note_result(str(token), result)
        except EgressError:
            _watchdog.take_back(runner(module), str(token))
            raise
    elif module.check_mode:
        result["flows_ended"] = _end_flows(module, judging)
    else:
        result["flows_ended"] = _make_it_last(module, saving, judging, kernel_changed=bool(outcome.plan))
    return result


def _confirm(module: Any, token: str, probes: List[Probe]) -> Dict[str, Any]:
    """Let a change stand; this runs over a login that began after it."""
    _watchdog.check_pending(token)
    result = _watchdog.noted_result(token)
    wanted = _wanted(module.params)
    saving = Saving(module, wanted)
    try:
        # Takes the rule away that let connections in midstream pass.
        _converge(module, wanted, saving, midstream=False, token=None)
        saving.prepare()
        _probe(probes)
        _watchdog.disarm(token)
    except _watchdog.NotPendingError:
        raise
    except EgressError as error:
        _watchdog.take_back(runner(module), token)
        raise _told_again(error, probes) from error
    ended = _make_it_last(module, saving, wanted, kernel_changed=True)
    _watchdog.call_off(runner(module), token)
    return {**result, "midstream": False, "pending": False, "flows_ended": ended}


def _make_it_last(module: Any, saving: Saving, judging: Optional[Ruleset], *, kernel_changed: bool) -> int:
    """End the flows that these rules deny, return how many, and save the rules; neither waits for the other.

    The next run, which finds the rules in place, would do without the first.
    """
    try:
        return _end_flows(module, judging)
    finally:
        saving.carry_out(kernel_changed=kernel_changed)


def _probes(params: Dict[str, Any]) -> List[Probe]:
    """Return the probes; raises ``ProbeError``, also for those that last longer than the watchdog waits."""
    probes = [] if params["probes"] is None else decode_probes(params["probes"])
    timeout = params["confirm"]["timeout"]
    for probe in probes:
        if 0 < timeout <= probe.timeout:
            what = f"it may take {probe.timeout:g} seconds, and the change has to be confirmed in {timeout}"
            raise ProbeError(f"probe {probe.name!r}", what, "shorten its timeout, or lengthen that of confirm")
    return probes


def _probe(probes: List[Probe]) -> None:
    failure = failure_of(run_probes(probes)) if probes else ""
    if failure:
        mend = "grant what is missing, or mend the probe"
        raise ProbeError("probes", f"{failure}. The change was taken back", mend)


def _told_again(error: EgressError, probes: List[Probe]) -> EgressError:
    """Return the error, of probes with what they find over the rules before: those may not be to blame."""
    if not isinstance(error, ProbeError):
        return error
    again = failure_of(run_probes(probes))
    what = f"{error.what}. Over the rules before it, {again or 'no probe fails'}"
    return ProbeError(error.where, what, error.mend)


def _converge(
    module: Any, wanted: Optional[Ruleset], saving: Saving, *, midstream: bool, token: Optional[str]
) -> Outcome:
    backend = backend_of(module)

    def guard(rules: Ruleset) -> None:
        if module.params["guard"]:
            check_logins(rules, _connections.logins(module.params["login"]), time())

    def prepare(first_apply: bool, snapshot: Any) -> None:
        if module.params["live_flows"] == "end":
            _connections.check_conntrack()
        saving.prepare()
        if midstream and first_apply:
            _connections.adopt_open_connections()
        if token is not None:
            program = module.get_bin_path(backend.program, required=True)
            _watchdog.arm(runner(module), token, program, snapshot.script, module.params["confirm"]["timeout"])

    try:
        return converge(backend, wanted, check=module.check_mode, midstream=midstream, guard=guard, before_load=prepare)
    except NotRestoredError:
        # The watchdog, where there is one, is the last hope.
        raise
    except EgressError:
        if token is not None:
            _watchdog.call_off(runner(module), token)
        raise


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
    denied = _connections.denied_here(ruleset, module.params["login"])
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
