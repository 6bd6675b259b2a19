# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests an inventory into the fleet that policies are compiled from. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import time
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._options import REJECTS
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError, format_time, parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils import _networks
from ansible_collections.palisade.egress.plugins.plugin_utils._declarations import (
    VERDICTS,
    Bound,
    Language,
    read_accepts,
    read_forbids,
    read_grants,
    read_probes,
    read_profiles,
    read_waivers,
    refuse,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._forwarding import read_bridges, read_forwarding
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX, Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._log import check_audit, read_log
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Definition,
    Fleet,
    Host,
    Icmp,
    Overlay,
    Profile,
    Router,
    Settings,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import BASE, ROUTER
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    nearest,
    read_by,
    read_choice,
    read_flag,
    read_list,
    read_mapping,
    read_name,
    read_number,
    shown,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._router import EXAMPLE as ROUTER_EXAMPLE
from ansible_collections.palisade.egress.plugins.plugin_utils._router import read_router
from ansible_collections.palisade.egress.plugins.plugin_utils._services import read_icmp_types, read_services
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import Vocabulary, read_definition
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import (
    Suffixed,
    check_names,
    fleet_value,
    suffixed,
)

_SHIPPED_NETWORKS = (*_networks.SHIPPED, *_networks.DEMANDED, *_networks.OPTIONAL)
_ADDRESSES = "[198.51.100.54, 2001:db8:1::54]"
_CHOICES = {
    "state": ("present", "absent"),
    "default_verdict": VERDICTS,
    "reject_with": REJECTS,
    "backend": ("auto", "nftables", "iptables"),
    "mode": ("enforce", "audit"),
    "input": ("guard", "closed", "off"),
    "live_flows": ("end", "keep"),
    "boot_failure": ("closed", "open"),
}
_DAY = 86400
_MOST_DAYS = 36500
_NUMBERS = {"confirm_timeout": (0, 3600), "generations": (1, 1000)}
# What the design knows and this version cannot do.
_REFUSED = {"backend": "iptables"}


def digest(inventory: Inventory, now: float | None = None) -> Fleet:
    """Return the fleet as it is ``now``; raises ``PolicyError`` for the first thing that is wrong with it."""
    seconds = int(time() if now is None else now)
    check_names(inventory)
    services = read_services(fleet_value(inventory, "services"), Place(PREFIX + "services"))
    networks = fleet_value(inventory, "networks")
    words = Vocabulary(_network_names(networks), inventory.groups, frozenset(inventory.hosts))
    language = Language(services, words)
    definitions = {**_networks.SHIPPED, **_read_networks(networks, Place(PREFIX + "networks"), words)}
    profiles = read_profiles(fleet_value(inventory, "profiles"), Place(PREFIX + "profiles"), language)
    variables = suffixed(inventory)
    overlays = _read_overlays(variables, language, _read_bound(inventory, seconds))
    hosts = _read_hosts(inventory, profiles, variables, words)
    return Fleet(hosts, inventory.groups, services, definitions, profiles, overlays, format_time(seconds))


def _network_names(value: Any) -> frozenset[str]:
    place = Place(PREFIX + "networks")
    names = read_mapping(value, place, example="{resolvers: [group:dns], time_servers: []}")
    for name in names:
        read_name(name, place.key(name))
        if name == "any":
            place.key(name).fail("'any' means every address and cannot be redefined", "Give yours another name")
    return frozenset((*names, *_SHIPPED_NETWORKS))


def _read_networks(value: Any, place: Place, words: Vocabulary) -> dict[str, Definition]:
    return {name: read_definition(v, place.key(name), words) for name, v in value.items()}


def _read_bound(inventory: Inventory, now: int) -> Bound:
    place = Place(PREFIX + "waiver_days")
    days = read_number(fleet_value(inventory, "waiver_days"), place, 1, _MOST_DAYS)
    return Bound(format_time(now + days * _DAY), days)


def _read_overlays(variables: Iterable[Suffixed], language: Language, bound: Bound) -> dict[str, Overlay]:
    """Return what the suffixed variables say, by suffix."""
    found: dict[str, dict[str, Any]] = {}
    for variable in variables:
        if variable.members:
            found.setdefault(variable.suffix, {})[variable.kind] = _read_suffixed(variable, language, bound)
    return {
        suffix: Overlay(
            suffix,
            kinds.get("allow", ()),
            kinds.get("forbid", ()),
            kinds.get("networks", {}),
            kinds.get("waivers", ()),
            kinds.get("accept", ()),
            kinds.get("probes", ()),
        )
        for suffix, kinds in found.items()
    }


def _read_suffixed(variable: Suffixed, language: Language, bound: Bound) -> Any:
    if variable.kind == "allow":
        return read_grants(variable.value, variable.place, variable.suffix, language)
    if variable.kind == "forbid":
        return read_forbids(variable.value, variable.place, variable.suffix, language)
    if variable.kind == "networks":
        return _read_redefinitions(variable.value, variable.place, language.words)
    if variable.kind == "waivers":
        return read_waivers(variable.value, variable.place, variable.suffix, language, bound)
    if variable.kind == "accept":
        return read_accepts(variable.value, variable.place, variable.suffix, language)
    return read_probes(variable.value, variable.place, variable.suffix, language)


def _read_redefinitions(value: Any, place: Place, words: Vocabulary) -> dict[str, Definition]:
    """Return networks that some hosts see otherwise; a name that is new here is probably misspelt."""
    for name in read_mapping(value, place, example="{resolvers: [198.51.100.53]}"):
        if name not in words.networks:
            hint = nearest(name, words.networks)
            what = f"there is no network '{name}' to redefine"
            place.key(name).fail(what, f"{hint}Define it for the whole fleet in {PREFIX}networks first")
    return _read_networks(value, place, words)


def _read_hosts(
    inventory: Inventory, profiles: Mapping[str, Profile], variables: Iterable[Suffixed], words: Vocabulary
) -> dict[str, Host]:
    groups: dict[str, list[str]] = {name: [] for name in inventory.hosts}
    for group, members in inventory.groups.items():
        for host in members:
            groups[host].append(group)
    overlays: dict[str, dict[str, None]] = {name: {} for name in inventory.hosts}
    for variable in variables:
        for host in variable.members:
            overlays[host][variable.suffix] = None
    return {
        name: _read_host(inventory, name, _profiles_of(groups[name], profiles), tuple(overlays[name]), words)
        for name in inventory.hosts
    }


def _profiles_of(groups: Iterable[str], profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    """Return the profiles of a host in these groups: base, and those that list one of the groups."""
    mine = frozenset(groups)
    return tuple(name for name, profile in profiles.items() if name == BASE or not mine.isdisjoint(profile.groups))


def _read_host(
    inventory: Inventory, name: str, profiles: tuple[str, ...], overlays: tuple[str, ...], words: Vocabulary
) -> Host:
    settings = _read_settings(inventory, name)
    addresses = _read_addresses(inventory, name)
    if settings.managed and addresses is None:
        what = f"the host has no address: {_why_no_address(inventory, name)}"
        mend = f"Write its addresses there like {_ADDRESSES}, or set {PREFIX}managed: false"
        Place(PREFIX + "addresses", name).fail(what, mend)
    return Host(name, addresses, settings, profiles, overlays, _router_of(inventory, name, settings, profiles, words))


def _router_of(
    inventory: Inventory, host: str, settings: Settings, profiles: tuple[str, ...], words: Vocabulary
) -> Router | None:
    """Return between what a router forwards. One about which nothing is said would be an open border."""
    place, is_router = Place(PREFIX + "router", host), ROUTER in profiles
    if inventory.shows(host, place.path):
        router = read_router(inventory.value(host, place.path), place, words)
        if router and not is_router:
            what = f"the host does not have the profile {ROUTER}, and without it forwards nothing"
            place.fail(what, f"Put it into the group {ROUTER}, or take this out")
        return router
    if is_router and settings.managed and settings.state == "present":
        what = f"the host has the profile {ROUTER}, and nothing says between what it forwards"
        place.fail(what, f"Write it like {ROUTER_EXAMPLE}, or {{}} if what it forwards is not to be filtered")
    return None


def _read_settings(inventory: Inventory, host: str) -> Settings:
    chosen = {
        kind: read(inventory.value(host, PREFIX + kind), Place(PREFIX + kind, host))
        for kind, read in _SETTINGS.items()
        if inventory.shows(host, PREFIX + kind)
    }
    settings = Settings(**chosen)
    check_audit(settings, Place(PREFIX + "log", host))
    return settings


def _read_icmp(value: Any, place: Place) -> Icmp:
    directions = read_mapping(value, place, keys=("out", "in"), example="{out: [echo-request], in: [echo-request]}")
    types = {key: read_icmp_types(directions[key], place.key(key)) for key in directions}
    return Icmp(types.get("out", Icmp.outbound), types.get("in", Icmp.inbound))


def _read_choice(value: Any, place: Place, kind: str) -> str:
    """Return a setting; YAML reads ``off`` without quotes as false."""
    choices = _CHOICES[kind]
    word = read_choice("off" if value is False and "off" in choices else value, place, choices)
    if _REFUSED.get(kind) == word:
        refuse(place, f"'{word}'")
    return word


# How the value of each setting is read.
_SETTINGS: Mapping[str, Callable[[Any, Place], Any]] = {
    **{kind: partial(_read_choice, kind=kind) for kind in _CHOICES},
    **dict.fromkeys(("managed", "persist", "guard"), read_flag),
    **{kind: partial(read_number, low=low, high=high) for kind, (low, high) in _NUMBERS.items()},
    "icmp": _read_icmp,
    "log": read_log,
    "forwarding": read_forwarding,
    "container_bridges": read_bridges,
}


def _read_addresses(inventory: Inventory, host: str) -> Addresses | None:
    """Return the addresses that the inventory gives, or else the one that ansible connects to, if it is one."""
    place = Place(PREFIX + "addresses", host)
    if inventory.shows(host, place.path):
        items = read_list(inventory.value(host, place.path), place, example=_ADDRESSES)
        for index, item in enumerate(items):
            _check_address(item, place.item(index))
        if items:
            return read_by(parse_addresses, items, place)
    try:
        addresses = parse_addresses([_connection(inventory, host)])
    except BadValueError:
        return None
    return addresses if _networks.is_usable(addresses) else None


def _connection(inventory: Inventory, host: str) -> Any:
    return inventory.value(host, "ansible_host") if inventory.shows(host, "ansible_host") else host


def _check_address(value: Any, place: Place) -> None:
    addresses = read_by(lambda item: parse_addresses([item]), value, place)
    if not _networks.is_usable(addresses):
        what = f"'{value}' has loopback, multicast or unspecified addresses in it"
        place.fail(what, "Write the addresses by which others reach this host")


def _why_no_address(inventory: Inventory, host: str) -> str:
    connection = _connection(inventory, host)
    source = "ansible_host" if inventory.shows(host, "ansible_host") else "its name"
    return f"{PREFIX}addresses is not set, and {source} {shown(connection)} is no address that others reach it by"
