# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the JSON listing of old versions of nft leaves out, taken from their text listing. Private to this collection.

Version 1.0.2 does not tell in JSON how a rule limits each address. Its text does, and which rule that is.
Versions up to 1.0.6 at least print anything for the flags of a table, and may stop there.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Tuple

_LIMIT = re.compile(r"update @\S+ \{ ip6? [sd]addr limit rate (over )?(\d+)/(\w+)(?: burst (\d+) packets)? \}")
_HANDLE = re.compile(r" # handle (\d+)\Z")
_TABLE_FLAGS = re.compile(r"^\tflags (\S+)$", re.MULTILINE)
_KNOWN_FLAGS = ("dormant", "owner", "persist")
# What nft leaves out of its text.
_BURST = 5


def lacks_limits(listing: Mapping[str, Any]) -> bool:
    """Tell whether a listing has statements about sets that do not tell what they do with an element."""
    return any("stmt" not in statement for found in _set_statements(listing).values() for statement in found)


def add_limits(listing: Mapping[str, Any], text: str) -> None:
    """Complete a listing with the limits that ``nft -a list table`` tells."""
    statements = _set_statements(listing)
    for line in text.splitlines():
        handle = _HANDLE.search(line)
        # A rule of ours counts behind its limit; what stands there may only look like one.
        limit = _LIMIT.search(line.partition('counter name "')[0])
        if handle and limit:
            over, rate, unit, burst = limit.groups()
            found = {"rate": int(rate), "per": unit, "burst": int(burst or _BURST), "inv": bool(over)}
            for statement in statements.get(int(handle.group(1)), []):
                statement["stmt"] = [{"limit": found}]


def known_flags(flags: Iterable[Any]) -> Tuple[str, ...]:
    """Return the flags of a table that is known to have some."""
    return tuple(str(flag) for flag in flags if flag in _KNOWN_FLAGS) or ("of some kind",)


def table_flags(text: str) -> Tuple[str, ...]:
    """Return the flags of the table in what ``nft list table`` tells."""
    found = _TABLE_FLAGS.search(text)
    return tuple(found.group(1).split(",")) if found else ()


def _set_statements(listing: Mapping[str, Any]) -> Dict[int, List[Dict[str, Any]]]:
    """Return the statements about sets, by the handle of their rule."""
    rules = [item["rule"] for item in listing["nftables"] if "rule" in item]
    return {rule["handle"]: [s["set"] for s in rule["expr"] if isinstance(s, dict) and "set" in s] for rule in rules}
