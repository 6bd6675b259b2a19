# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``egress_rule_info`` tells. Private to this collection."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.palisade.egress.plugins.module_utils import _forwarding, _host, _persistence, _sysctls
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode, encode
from ansible_collections.palisade.egress.plugins.module_utils._errors import MissingProgramError
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of
from ansible_collections.palisade.egress.plugins.module_utils._owners import resolve_owners
from ansible_collections.palisade.egress.plugins.module_utils._plan import make_plan
from ansible_collections.palisade.egress.plugins.module_utils._values import format_time


def inform(module: Any) -> Dict[str, Any]:
    """Return what the kernel holds of ours, and how that differs from rules that are given; changes nothing."""
    backend = backend_of(module)
    try:
        table, installed = backend.read(), True
    except MissingProgramError:
        table, installed = None, False
    observed = backend.observe(table)
    rules, chains = encode(observed.ruleset)
    result = {
        "changed": False,
        "backend": backend.name,
        "installed": installed,
        "present": observed.present,
        "rules": rules,
        "chains": chains,
        "strays": list(observed.strays),
        "counters": backend.counters(table),
        "generations": [
            {"number": each.number, "saved": format_time(each.saved), "current": each.is_current}
            for each in _persistence.generations()
        ],
        "forwarding": _sysctls.forwarded_families(),
        "forwarding_ours": _forwarding.ours(),
        "bridges": _host.bridges(),
    }
    if module.params["generation"] is not None:
        result["saved"] = _persistence.contract_of(module.params["generation"])
    if module.params["rules"] is None:
        return result
    wanted = resolve_owners(decode(module.params["rules"], module.params["chains"]))
    return {**result, "drift": [change.as_dict() for change in make_plan(observed, wanted)]}
