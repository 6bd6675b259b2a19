# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``egress_compare``; its documentation is in egress_compare.yml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.plugin_utils._changes import compare_plain


def egress_compare(before: Any, after: Any, every_packet: bool = False) -> dict[str, Any]:
    """Return which packets pass newly and which no longer."""
    try:
        return compare_plain(before, after, every_packet)
    except EgressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """What ansible asks for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"egress_compare": egress_compare}
