# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads between what a router forwards packets. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import is_usable
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Inside, Outside, Router, Term
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    demand,
    read_by,
    read_choice,
    read_mapping,
    read_some,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import Vocabulary, read_terms

EXAMPLE = "{inside: {eth1: [198.51.100.0/24, 2001:db8:1::/64]}, outside: [eth0]}"
_KEYS = ("inside", "outside", "behind", "inbound")
_PREFIXES = "[198.51.100.0/24, 2001:db8:1::/64]"
_INSIDE = f"{{eth1: {_PREFIXES}}} or {{eth1: {{prefixes: {_PREFIXES}, reverse_path: loose}}}}"
_OUTSIDE = "[eth0] or {eth0: {reverse_path: loose, special_use: [10.9.0.0/16]}}"
_CHECKS = ("strict", "loose", "off")
_MODES = ("guard", "closed")


def read_router(value: Any, place: Place, words: Vocabulary) -> Router | None:
    """Return between what a router forwards; None where the inventory says explicitly that this is not ours."""
    if value == {}:
        return None
    options = read_mapping(value, place, keys=_KEYS, example=EXAMPLE)
    demand(options, place, ("inside", "outside"), of="router", example=EXAMPLE)
    router = Router(
        place,
        _read_inside(options["inside"], place.key("inside")),
        _read_outside(options["outside"], place.key("outside"), words),
        _read_behind(options["behind"], place.key("behind"), words) if "behind" in options else None,
        read_choice(options.get("inbound", "guard"), place.key("inbound"), _MODES),
    )
    for interface in (outside.interface for outside in router.outside):
        if any(inside.interface == interface for inside in router.inside):
            place.fail(f"{interface} is both inside and outside", "Name it once")
    return router


def _read_inside(value: Any, place: Place) -> tuple[Inside, ...]:
    interfaces = read_mapping(value, place, example=_INSIDE)
    if not interfaces:
        place.fail("it names no interface, and a router forwards for those inside", f"Write it like {_INSIDE}")
    return tuple(_read_one_inside(name, options, place) for name, options in interfaces.items())


def _read_one_inside(name: str, value: Any, place: Place) -> Inside:
    interface, place = _read_interface(name, place), place.key(name)
    plain = {"prefixes": value} if isinstance(value, (str, list)) else value
    options = read_mapping(plain, place, keys=("prefixes", "reverse_path"), example=_INSIDE)
    demand(options, place, ("prefixes",), of="interface", example=_INSIDE)
    return Inside(
        interface,
        _read_prefixes(options["prefixes"], place if plain is not value else place.key("prefixes")),
        _read_check(options, place, Inside.reverse_path),
    )


def _read_prefixes(value: Any, place: Place) -> Addresses:
    prefixes = read_by(parse_addresses, read_some(value, place, example=_PREFIXES), place)
    if not is_usable(prefixes):
        place.fail("loopback, multicast or unspecified addresses are in it", f"Write prefixes like {_PREFIXES}")
    return prefixes


def _read_outside(value: Any, place: Place, words: Vocabulary) -> tuple[Outside, ...]:
    if isinstance(value, (str, list)):
        names = read_some(value, place, example=_OUTSIDE) if value else []
        return tuple(Outside(_read_interface(name, place)) for name in names)
    interfaces = read_mapping(value, place, example=_OUTSIDE)
    return tuple(_read_one_outside(name, options, place, words) for name, options in interfaces.items())


def _read_one_outside(name: str, value: Any, place: Place, words: Vocabulary) -> Outside:
    interface, place = _read_interface(name, place), place.key(name)
    options = read_mapping(value, place, keys=("reverse_path", "special_use"), example=_OUTSIDE)
    return Outside(
        interface,
        _read_check(options, place, Outside.reverse_path),
        read_terms(options["special_use"], place.key("special_use"), words) if "special_use" in options else (),
    )


def _read_interface(name: Any, place: Place) -> str:
    (interface,) = read_by(PARSERS["in_interface"], [name], place)
    if interface == "lo":
        place.fail("'lo' is the loopback, over which nothing is forwarded", "Name other interfaces")
    return str(interface)


def _read_check(options: Mapping[str, Any], place: Place, default: str) -> str:
    """Return how the way back is checked; YAML reads ``off`` without quotes as false."""
    value = options.get("reverse_path", default)
    return read_choice("off" if value is False else value, place.key("reverse_path"), _CHECKS)


def _read_behind(value: Any, place: Place, words: Vocabulary) -> tuple[Term, ...]:
    terms = read_terms(value, place, words)
    for index, term in enumerate(terms):
        if term.kind not in ("group", "host"):
            where = place.item(index) if isinstance(value, list) else place
            where.fail(f"'{term.text}' names no hosts of the inventory", "Name them like group:web or host:web1")
    return terms
