# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads assertions, statements about the policy that are proven before it is applied. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS
from ansible_collections.palisade.egress.plugins.plugin_utils import _networks
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX, Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Fleet, Part, Term
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    demand,
    kind,
    read_by,
    read_choice,
    read_list,
    read_mapping,
    read_some,
    read_text,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import find_service, read_parts
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import Vocabulary, read_terms
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import fleet_value

EXAMPLE = "{from: group:web, to: internet, service: smtp, expect: denied}"
EXPECTATIONS = ("allowed", "denied")
_OWNERS = {"interface": "out_interface", "user": "uid_owner", "group": "gid_owner"}
_RAW = ("protocol", "family", "ports", "icmp_types")
_KEYS = ("name", "from", "to", "except", "service", *_RAW, *_OWNERS, "expect")


@dataclass(frozen=True)
class Assertion:
    """A statement about all packets that begin a flow: they are ``allowed``, every one, or ``denied``, every one.

    ``sources`` and ``to`` less ``without`` are as written; what they mean may differ from host to host, as networks do.
    ``parts`` are protocols and ports. ``interface``, ``user`` and ``group``, where given, narrow it to packets that
    leave by one of these interfaces, or that sockets of these owners send.
    """

    place: Place
    text: str
    sources: tuple[Term, ...]
    to: tuple[Term, ...]
    parts: tuple[Part, ...]
    expect: str
    without: tuple[Term, ...] = ()
    interface: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


def assertions_of(inventory: Inventory, fleet: Fleet) -> tuple[Assertion, ...]:
    """Return what the inventory asserts about its fleet."""
    return read_assertions(fleet_value(inventory, "assertions"), Place(PREFIX + "assertions"), fleet)


def read_assertions(value: Any, place: Place, fleet: Fleet) -> tuple[Assertion, ...]:
    """Return the assertions of a list."""
    items = read_list(value, place, example=f"[{EXAMPLE}]")
    return tuple(_read_assertion(item, place.item(index), fleet) for index, item in enumerate(items))


def vocabulary(fleet: Fleet) -> Vocabulary:
    """Return the names that an expression about this fleet may use."""
    networks = (*fleet.networks, *_networks.DEMANDED, *_networks.OPTIONAL)
    return Vocabulary(frozenset(networks), fleet.groups, frozenset(fleet.hosts))


def _read_assertion(value: Any, place: Place, fleet: Fleet) -> Assertion:
    options = read_mapping(value, place, keys=_KEYS, example=EXAMPLE)
    demand(options, place, ("from", "to", "expect"), of="assertion", example=EXAMPLE)
    words = vocabulary(fleet)
    owners = {
        key: _read_words(options[key], place.key(key), option) for key, option in _OWNERS.items() if key in options
    }
    return Assertion(
        place,
        _text(options, place),
        read_terms(options["from"], place.key("from"), words),
        read_terms(options["to"], place.key("to"), words),
        read_service(options, place, fleet),
        read_choice(options["expect"], place.key("expect"), EXPECTATIONS),
        read_terms(options["except"], place.key("except"), words) if "except" in options else (),
        **owners,
    )


def read_service(options: Mapping[str, Any], place: Place, fleet: Fleet) -> tuple[Part, ...]:
    """Return the protocols and ports of a service, or those that stand in its stead."""
    raw = [key for key in _RAW if key in options]
    if "service" in options:
        if raw:
            place.key(raw[0]).fail("it stands beside 'service'", "Name a service, or a protocol and its ports")
        return find_service(options["service"], place.key("service"), fleet.services).parts
    if "protocol" not in options:
        place.fail("it names neither service nor protocol", "Write service: smtp, or protocol: tcp and ports: [25]")
    return tuple(read_parts({key: options[key] for key in raw}, place))


def _read_words(value: Any, place: Place, option: str) -> tuple[str, ...]:
    words = read_some(value, place, example="[NAME]")
    return tuple(read_by(PARSERS[option], words, place))


def _text(options: Mapping[str, Any], place: Place) -> str:
    """Return the assertion as messages quote it: its name, or else itself in short."""
    if "name" in options:
        return read_text(options["name"], place.key("name"), example="web servers send no mail")
    words = [f"{key}: {_short(options[key])}" for key in _KEYS if key in options]
    return ", ".join(words)


def _short(value: Any) -> str:
    """Return a value on one line, not endless."""
    items = value if isinstance(value, list) else [value]
    texts = [str(item) if isinstance(item, (str, int)) else kind(item) for item in items[:3]]
    text = " ".join(", ".join(texts).split())[:60] + (", …" if len(items) > len(texts) else "")
    return f"[{text}]" if isinstance(value, list) else text
