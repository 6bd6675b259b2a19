# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``egress_rule`` does with its parameters. Private to this collection."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._describe import describe
from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._transaction import Outcome, converge


def apply_rules(module: Any) -> Dict[str, Any]:
    """Make the kernel match the module's parameters and return its result; raises ``EgressError``."""
    backend = backend_of(module)
    outcome = converge(
        backend,
        _wanted(module.params),
        check=module.check_mode,
        midstream=module.params["midstream"] == "on_first_apply",
    )
    if outcome.assumed_empty:
        module.warn("nft is not installed here yet: this plan assumes that the kernel holds no rules of ours.")
    result = {
        "changed": bool(outcome.plan),
        "plan": [change.as_dict() for change in outcome.plan],
        "backend": backend.name,
        "midstream": outcome.midstream,
    }
    return {**result, "diff": _diff(outcome)} if module._diff and outcome.plan else result


def _wanted(params: Dict[str, Any]) -> Optional[Ruleset]:
    if params["state"] == "present":
        return resolve_owners(decode(params["rules"], params["chains"]))
    if params["rules"]:
        raise RuleError("rules", "goes with state: present only", "leave it out, or set the state")
    return None


def _diff(outcome: Outcome) -> Dict[str, str]:
    return {
        "before_header": "rules in the kernel",
        "before": describe(outcome.observed.ruleset, outcome.observed.strays),
        "after_header": "rules wanted",
        "after": describe(outcome.wanted) if outcome.wanted else "",
    }
