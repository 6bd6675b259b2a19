# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``egress_compile``; its documentation is in the module of the same name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.palisade.egress.plugins.module_utils._connections import own_addresses
from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._report import policies
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import check_play


class ActionModule(ActionBase):
    """Compiles the fleet on the controller; connects to no host."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        del tmp
        self.validate_argument_spec({})
        variables = task_vars or {}
        try:
            inventory = Inventory(variables["hostvars"], variables["groups"])
            check_play(inventory, variables["inventory_hostname"], variables)
            compiled = policies(inventory, here=_here())
        except EgressError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "directory": _write(compiled), "hosts": len(compiled)}


def _here() -> frozenset[tuple[str, int]]:
    """Return the addresses of this machine; none where its kernel is not Linux and does not tell."""
    try:
        return own_addresses()
    except (OSError, AttributeError):
        return frozenset()


def _write(compiled: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a file a host into a directory that only we can read and that ansible removes when it ends."""
    directory = Path(tempfile.mkdtemp(prefix="egress-", dir=constants.DEFAULT_LOCAL_TMP))
    texts: dict[int, str] = {}
    for host, policy in compiled.items():
        if id(policy) not in texts:  # hosts with equal policy share one object
            texts[id(policy)] = json.dumps(policy)
        (directory / f"{quote(host, safe='')}.json").write_text(texts[id(policy)], encoding="utf-8")
    return str(directory)
