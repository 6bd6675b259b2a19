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
from ansible_collections.palisade.egress.plugins.module_utils._forwarding import Forwarding
from ansible_collections.palisade.egress.plugins.module_utils._guard import check_logins
from ansible_collections.palisade.egress.plugins.module_utils._leases import check_leases
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of, runner
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._probe import failure_of, run_probes
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import Probe, decode_probes
from ansible_collections.palisade.egress.plugins.module_utils._saving import Saving
from ansible_collections.palisade.egress.plugins.module_utils._transaction import Around, Outcome, converge


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
    saving, forwarding = Saving(module, wanted), Forwarding(module)
    midstream = module.params["midstream"] == "on_first_apply"
    outcome = _converge(module, wanted, saving, forwarding, midstream=midstream, token=token)
    pending = bool(token and (outcome.plan or forwarding.plan))
    judging = None if pending or outcome.midstream or not outcome.plan else outcome.wanted
    plan = [*outcome.plan, *forwarding.plan, *saving.plan]
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
    if module._diff and (outcome.plan or forwarding.plan):
        result["diff"] = _diff(outcome, forwarding)
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
        result["flows_ended"] = _make_it_last(module, saving, forwarding, judging, kernel_changed=bool(outcome.plan))
    return result


def _confirm(module: Any, token: str, probes: List[Probe]) -> Dict[str, Any]:
    """Let a change stand; this runs over a login that began after it."""
    _watchdog.check_pending(token)
    result = _watchdog.noted_result(token)
    wanted = _wanted(module.params)
    try:
        saving, forwarding = Saving(module, wanted), Forwarding(module)
        # Takes the rule away that let connections in midstream pass.
        _converge(module, wanted, saving, forwarding, midstream=False, token=None)
        saving.prepare()
        _probe(probes)
        _watchdog.disarm(token)
    except _watchdog.NotPendingError:
        raise
    except EgressError as error:
        _watchdog.take_back(runner(module), token)
        raise _told_again(error, probes) from error
    ended = _make_it_last(module, saving, forwarding, wanted, kernel_changed=True)
    _watchdog.call_off(runner(module), token)
    return {**result, "midstream": False, "pending": False, "flows_ended": ended}


def _make_it_last(
    module: Any, saving: Saving, forwarding: Forwarding, judging: Optional[Ruleset], *, kernel_changed: bool
) -> int:
    """End the flows that these rules deny, return how many, and save the rules; none of that waits for another.

    The next run, which finds the rules in place, would do without the first.
    """
    try:
        return _end_flows(module, judging)
    finally:
        try:
            saving.carry_out(kernel_changed=kernel_changed)
        finally:
            forwarding.settle()


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
    module: Any,
    wanted: Optional[Ruleset],
    saving: Saving,
    forwarding: Forwarding,
    *,
    midstream: bool,
    token: Optional[str],
) -> Outcome:
    """Have the kernel hold the rules, and forward as it has to once they are in force."""
    backend, check = backend_of(module), module.check_mode

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
            timeout = module.params["confirm"]["timeout"]
            _watchdog.arm(runner(module), token, program, snapshot.script, forwarding.restoring, timeout)
        forwarding.begin()

    around = Around(guard, prepare, besides=bool(forwarding.plan))
    try:
        outcome = converge(backend, wanted, check=check, midstream=midstream, around=around)
    except NotRestoredError:
        # The watchdog, where there is one, is the last hope.
        raise
    except EgressError:
        _give_up(module, forwarding, token)
        raise
    if not check:
        _forward(module, forwarding, token)
    return outcome


def _give_up(module: Any, forwarding: Forwarding, token: Optional[str]) -> None:
    """Leave nothing of a change that did not get as far as the kernel."""
    if not module.check_mode:
        forwarding.undo()
    if token is not None:
        _watchdog.call_off(runner(module), token)


def _forward(module: Any, forwarding: Forwarding, token: Optional[str]) -> None:
    try:
        forwarding.finish()
    except EgressError:
        if token is not None:
            _watchdog.take_back(runner(module), token)
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


def _diff(outcome: Outcome, forwarding: Forwarding) -> Dict[str, str]:
    before, after = forwarding.described
    return {
        "before_header": "rules in the kernel",
        "before": describe(outcome.observed.ruleset, outcome.observed.strays) + before,
        "after_header": "rules wanted",
        "after": (describe(outcome.wanted) if outcome.wanted else "") + after,
    }
