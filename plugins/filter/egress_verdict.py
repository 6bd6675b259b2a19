# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``egress_verdict``; its documentation is in egress_verdict.yml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._packets import verdict


def egress_verdict(policy: Any, packet: Any) -> dict[str, Any]:
    """Return what a policy does with one packet."""
    try:
        return verdict(policy, packet)
    except EgressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """What ansible asks for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"egress_verdict": egress_verdict}
