# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what a host logs. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._values import parse_rate
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Logging, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    read_by,
    read_choice,
    read_flag,
    read_list,
    read_mapping,
    read_number,
)

_EXAMPLE = "{rate: 10/second, group: 5, chains: [output, forward], protocols: true}, or false for none"
_KEYS = ("rate", "group", "chains", "protocols")
_CHAINS = ("output", "input", "forward")
_MOST_GROUPS = 65535
# Those that a policy denies packets in: what passes there in audit must be logged.
_DENYING = ("output", "forward")


def read_log(value: Any, place: Place) -> Logging | None:
    """Return what a host logs; None where that is nothing."""
    if value is False:
        return None
    options = read_mapping(value, place, keys=_KEYS, example=_EXAMPLE)
    chosen: dict[str, Any] = {}
    if "rate" in options:
        amount, unit = read_by(parse_rate, options["rate"], place.key("rate"))
        chosen["rate"] = f"{amount}/{unit}"
    if options.get("group") is not None:
        chosen["group"] = read_number(options["group"], place.key("group"), 0, _MOST_GROUPS)
    if "chains" in options:
        chosen["chains"] = _read_chains(options["chains"], place.key("chains"))
    if "protocols" in options:
        chosen["protocols"] = read_flag(options["protocols"], place.key("protocols"))
    return Logging(**chosen)


def _read_chains(value: Any, place: Place) -> tuple[str, ...]:
    items = read_list(value, place, example="[output, forward]")
    words = {read_choice(item, place.item(index), _CHAINS) for index, item in enumerate(items)}
    if not words:
        place.fail("an empty list", "Name chains, or set egress_firewall_log: false to log nothing")
    return tuple(chain for chain in _CHAINS if chain in words)


def check_audit(settings: Settings, place: Place) -> None:
    """Refuse an audit that would let packets pass without a line in the log."""
    if settings.is_audit and not set(_DENYING).issubset(settings.log.chains if settings.log else ()):
        what = "egress_firewall_mode is audit, which lets pass what it logs, and this does not log all of it"
        place.fail(what, "Take it out, or let 'chains' name output and forward, or set egress_firewall_mode: enforce")
