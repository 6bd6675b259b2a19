# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``egress_plan``; its documentation is in the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._changes import changes
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory, load_inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import rule


class ActionModule(ActionBase):
    """Compares two inventories on the controller; connects to no host."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(("against",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        del tmp
        _checked, options = self.validate_argument_spec({"against": {"type": "str", "required": True}})
        variables = task_vars or {}
        try:
            after = rule(Inventory(variables["hostvars"], variables["groups"]))
            before = rule(load_inventory(options["against"], variables["hostvars"]), prove=False)
        except EgressError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, **changes(before, after)}
