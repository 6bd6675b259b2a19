# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``egress_policy``; its documentation is in egress_policy.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies


def egress_policy(hostvars: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the compiled policy of every managed host."""
    try:
        return compile_policies(hostvars, groups)
    except EgressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """What ansible asks for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"egress_policy": egress_policy}
