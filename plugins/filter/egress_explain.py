# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``egress_explain``; its documentation is in egress_explain.yml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._explain import explain
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory


def egress_explain(hostvars: Any, groups: Any, source: Any, to: Any, service: Any) -> dict[str, Any]:
    """Return whether a host may reach a service somewhere, and why."""
    try:
        return explain(Inventory(hostvars, groups), source, to, service)
    except EgressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """What ansible asks for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"egress_explain": egress_explain}
