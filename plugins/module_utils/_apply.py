# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``egress_rule`` does with its parameters. Private to this collection."""

from __future__ import annotations

from time import time
from typing import Any, Dict, Optional

from ansible_collections.palisade.egress.plugins.module_utils import _connections
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._describe import describe
from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._flows import denied_flows, open_flows
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._transaction import Outcome, converge


def apply_rules(module: Any) -> Dict[str, Any]:
    """Make the kernel match the module's parameters and return its result; raises ``EgressError``."""
    backend = backend_of(module)
    midstream = module.params["midstream"] == "on_first_apply"
    ends_flows = module.params["live_flows"] == "end"

    def prepare(first_apply: bool) -> None:
        if ends_flows:
            _connections.check_conntrack()
        if midstream and first_apply:
            _adopt_connections()

    outcome = converge(
        backend, _wanted(module.params), check=module.check_mode, midstream=midstream, before_load=prepare
    )
    ended = _end_flows(outcome, check=module.check_mode) if ends_flows else 0
    if outcome.assumed_empty:
        module.warn("nft is not installed here yet: this plan assumes that the kernel holds no rules of ours.")
    result = {
        "changed": bool(outcome.plan),
        "plan": [change.as_dict() for change in outcome.plan],
        "backend": backend.name,
        "midstream": outcome.midstream,
        "flows_ended": ended,
    }
    return {**result, "diff": _diff(outcome)} if module._diff and outcome.plan else result


def _wanted(params: Dict[str, Any]) -> Optional[Ruleset]:
    if params["state"] == "present":
        return resolve_owners(decode(params["rules"], params["chains"]))
    if params["rules"]:
        raise RuleError("rules", "goes with state: present only", "leave it out, or set the state")
    return None


def _adopt_connections() -> None:
    """Let conntrack know the connections that this host has open, idle ones too, and which end began them."""
    for flow in open_flows(_connections.tcp_sockets()):
        _connections.adopt_flow(flow)


def _end_flows(outcome: Outcome, *, check: bool) -> int:
    """End the flows that the new rules deny, but for the login that runs this, and return their number."""
    if outcome.wanted is None or not outcome.plan or outcome.midstream:
        return 0
    sockets = _connections.tcp_sockets()
    above = _connections.ancestor_inodes()
    spared = set(open_flows([socket for socket in sockets if socket.inode in above or socket.is_listener]))
    spared |= {flow.reversed() for flow in spared}
    own = _connections.own_addresses()
    denied = denied_flows(outcome.wanted, _connections.tracked_flows(), own, sockets, time())
    ending = [flow for flow in denied if flow not in spared]
    for flow in ending if not check else ():
        _connections.end_flow(flow)
    return len(ending)


def _diff(outcome: Outcome) -> Dict[str, str]:
    return {
        "before_header": "rules in the kernel",
        "before": describe(outcome.observed.ruleset, outcome.observed.strays),
        "after_header": "rules wanted",
        "after": describe(outcome.wanted) if outcome.wanted else "",
    }
