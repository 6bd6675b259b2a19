# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads network expressions and checks their names. Private to this collection.

Grammar: a term is ``any``, an address or CIDR, ``group:NAME``, ``host:NAME``, or the name of a network. An expression
is a term or a list of terms; a network's definition may also be ``{include: …, except: …}``, what is in ``include``
and not in ``except``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

from ansible_collections.palisade.egress.plugins.module_utils._values import parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Definition, Term
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    nearest,
    read_by,
    read_list,
    read_mapping,
    read_some,
    read_text,
)

EXAMPLE = "[203.0.113.20/32, group:web, resolvers]"
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]*)*(/.*)?|[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*(/.*)?|.*:.*:.*|.*/.*")


@dataclass(frozen=True)
class Vocabulary:
    """The names that a network expression may use."""

    networks: Collection[str]
    groups: Collection[str]
    hosts: Collection[str]


def read_terms(value: Any, place: Place, words: Vocabulary) -> tuple[Term, ...]:
    """Return the terms of an expression that says something: a term, or a list of some."""
    items = read_some(value, place, example=EXAMPLE)
    return tuple(_read_term(v, place.item(i) if isinstance(value, list) else place, words) for i, v in enumerate(items))


def read_definition(value: Any, place: Place, words: Vocabulary) -> Definition:
    """Return what a network's name stands for; an empty list says: nothing, and I mean it."""
    if isinstance(value, dict):
        options = read_mapping(value, place, keys=("include", "except"), example="{include: any, except: [10.0.0.0/8]}")
        if "include" not in options:
            place.fail("it has no 'include'", "Write it like {include: any, except: [10.0.0.0/8]}")
        without = options.get("except", [])
        return Definition(
            place,
            read_terms(options["include"], place.key("include"), words),
            read_terms(without, place.key("except"), words) if "except" in options else (),
        )
    if value == []:
        return Definition(place, ())
    if not isinstance(value, str):
        read_list(value, place, example=f"{EXAMPLE}, or [] for none")
    return Definition(place, read_terms(value, place, words))


def _read_term(value: Any, place: Place, words: Vocabulary) -> Term:
    text = read_text(value, place, example=EXAMPLE)
    if text == "any":
        return Term(text, "any")
    for kind, known in (("group", words.groups), ("host", words.hosts)):
        prefix, colon, name = text.partition(":")
        if colon and prefix == kind:
            return _read_member(kind, name, known, place)
    if text in words.networks:
        return Term(text, "network", text)
    if _ADDRESS.fullmatch(text):
        return Term(text, "addresses", addresses=read_by(parse_addresses, [text], place))
    _fail_unknown(text, place, words)


def _read_member(kind: str, name: str, known: Collection[str], place: Place) -> Term:
    if name not in known:
        hint = nearest(name, known)
        place.fail(f"unknown {kind} '{name}'", f"{hint}Write {kind}: and the name of a {kind} of the inventory")
    return Term(f"{kind}:{name}", kind, name)


def _fail_unknown(text: str, place: Place, words: Vocabulary) -> NoReturn:
    """Tell what was probably meant. Names are never looked up: the answer of one day would be frozen into rules."""
    for kind, known in (("host", words.hosts), ("group", words.groups)):
        if text in known:
            place.fail(f"'{text}' is a {kind} of the inventory and not a network", f"Write {kind}:{text}")
    if "." in text:
        place.fail(
            f"'{text}' is the name of a host, and names are not looked up",
            "Write its addresses, or host: and its name in the inventory",
        )
    prefix, colon, _name = text.partition(":")
    hint = nearest(prefix, ("group", "host")) if colon else nearest(text, ("any", *words.networks))
    place.fail(f"unknown network '{text}'", f"{hint}Networks of your own go into egress_firewall_networks")
