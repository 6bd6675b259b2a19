# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways by which Ansible logs in, from controllers through jump hosts. Private to this collection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError, parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import vocabulary
from ansible_collections.palisade.egress.plugins.plugin_utils._compile import Views
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX, Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._jumps import Hop, jumps, names_jumps
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks, is_usable, join, meet, minus
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import NOWHERE, Fleet, Host, Settings, Term
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place, read_number
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import read_terms
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import fleet_value

_CONTROLLERS = PREFIX + "controllers"
# As ssh is told of them: what comes first counts.
_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_SSH = 22
_LAST_PORT = 65535


@dataclass(frozen=True)
class End:
    """One end of a login: ``host`` is the managed host that it is; empty, if its rules are none of ours.

    It logs in from any of ``addresses``, and is logged in to at ``reached``.
    """

    name: str
    host: str
    addresses: Addresses
    reached: Addresses = NOWHERE
    port: int = _SSH


@dataclass(frozen=True)
class Way:
    """Ansible logs in from one machine to others.

    ``place`` is what says so, for some receivers one of their own; ``text`` is how messages quote it.
    """

    place: Place
    text: str
    sender: End
    receivers: tuple[tuple[End, Place | None], ...]


@dataclass(frozen=True)
class _Route:
    """The jump hosts on the way to a host, which ``place`` names."""

    host: Host
    hops: tuple[Hop, ...]
    place: Place


def find_ways(inventory: Inventory, fleet: Fleet, here: Collection[tuple[str, int]] = ()) -> tuple[Way, ...]:
    """Return all ways by which Ansible logs in, as far as the inventory tells; ``here`` are addresses of this machine.

    Hosts whose guard is off are on none.
    """
    senders = _controllers(inventory, fleet, here)
    routes = [route for host in fleet.hosts.values() if _is_guarded(host) for route in _route(inventory, host)]
    has_jumps = any(route.hops for route in routes)
    if not senders and not has_jumps:
        return ()  # what is templated host by host is not read in vain
    known = _Known(inventory, fleet) if has_jumps else None
    first: dict[End, None] = {}
    jumped: dict[tuple[str, Addresses], dict[End, Place]] = {}
    ends: dict[tuple[str, Addresses], End] = {}
    for route in routes:
        hops = [known.end(hop) for hop in route.hops] if known else []
        stops = [*hops, _receiver(inventory, route.host)]
        if stops[0]:
            first[stops[0]] = None
        for sender, receiver in pairwise(stops):
            if sender and receiver:
                key = (sender.name, sender.addresses)
                ends.setdefault(key, sender)
                jumped.setdefault(key, {}).setdefault(receiver, route.place)
    reached = tuple((end, None) for end in first)
    direct = [Way(place, f"Ansible logs in from {end.name}", end, reached) for place, end in senders]
    through = [_jump(ends[key], found) for key, found in jumped.items()]
    return (*direct, *through)


def _jump(sender: End, receivers: Mapping[End, Place]) -> Way:
    place = next(iter(receivers.values()))
    return Way(place, f"Ansible logs in through {sender.name}", sender, tuple(receivers.items()))


def _is_guarded(host: Host) -> bool:
    """Tell whether Ansible must be able to log in to a host."""
    settings = host.settings
    return settings.managed and settings.guard and settings.state == "present"


def _controllers(inventory: Inventory, fleet: Fleet, here: Collection[tuple[str, int]]) -> list[tuple[Place, End]]:
    """Return the machines that log in, with what says so."""
    ends = (*_told(inventory, fleet), *_found(inventory, fleet, here))
    return [(place, end) for place, end in ends if _may_be_cut_off(fleet, end)]


def _may_be_cut_off(fleet: Fleet, end: End) -> bool:
    return end.name not in fleet.hosts or fleet.hosts[end.name].settings.guard


def _told(inventory: Inventory, fleet: Fleet) -> Iterator[tuple[Place, End]]:
    """Yield the controllers that the inventory names."""
    value, place = fleet_value(inventory, "controllers"), Place(_CONTROLLERS)
    if value == []:
        return
    networks = Views(fleet).of(Host("", None, Settings()))
    for index, term in enumerate(read_terms(value, place, vocabulary(fleet))):
        where = place.item(index) if isinstance(value, list) else place
        yield from ((where, end) for end in _ends_of(term, where, fleet, networks))


def _ends_of(term: Term, place: Place, fleet: Fleet, networks: Networks) -> Iterator[End]:
    """Yield the machines that a term means: the hosts that have its addresses, and what else it holds."""
    addresses = networks.resolve((term,), place, lenient=False)
    if term.kind in ("group", "host"):
        names = fleet.groups[term.name] if term.kind == "group" else (term.name,)
        yield from (_end(fleet.hosts[name]) for name in names)
        return
    inside = [host for host in fleet.hosts.values() if meet(host.addresses, addresses)]
    yield from (_end(host) for host in inside)
    rest = minus(addresses, join(host.addresses for host in inside if host.addresses))
    if rest != NOWHERE:
        yield End(term.text, "", rest)


def _found(inventory: Inventory, fleet: Fleet, here: Collection[tuple[str, int]]) -> Iterator[tuple[Place, End]]:
    """Yield the managed hosts that are the controller without being called so.

    This machine's loopback addresses do not count: hosts may have none of these.
    """
    for host in fleet.hosts.values():
        if not host.settings.managed:
            continue
        if _connects_by(inventory, host.name) == "local":
            yield Place("ansible_connection", host.name), _end(host)
        elif host.addresses and any(contains(host.addresses.of(family), address) for family, address in here):
            yield Place(PREFIX + "addresses", host.name), _end(host)


def _end(host: Host) -> End:
    return End(host.name, host.name if host.settings.managed else "", host.addresses or NOWHERE)


def _connects_by(inventory: Inventory, host: str) -> str:
    """Return the last part of the connection plugin's name; where only a play could tell it, it is taken for ssh."""
    name = _if_known(inventory, host, "ansible_connection")
    return name.rpartition(".")[2] if isinstance(name, str) else "ssh"


def _if_known(inventory: Inventory, host: str, name: str) -> Any:
    """Return a variable of Ansible's own, or None if it is not set or if its template needs what only a play knows."""
    try:
        return inventory.value(host, name) if inventory.shows(host, name) else None
    except PolicyError:
        return None


def _is_by_ssh(plugin: str) -> bool:
    """Tell whether a connection plugin logs in over the network as ssh does; others enter containers and the like."""
    return plugin == "smart" or "ssh" in plugin or "paramiko" in plugin


def _route(inventory: Inventory, host: Host) -> Iterator[_Route]:
    """Yield the way to a host, if Ansible logs in there by ssh."""
    if _is_by_ssh(_connects_by(inventory, host.name)):
        yield _hops(inventory, host)


def _receiver(inventory: Inventory, host: Host) -> End:
    return replace(_end(host), reached=_reached(inventory, host), port=_port(inventory, host.name))


def _reached(inventory: Inventory, host: Host) -> Addresses:
    """Return where a host is logged in to: at the address that Ansible knows, or else at any that it has.

    Nobody knows what is behind a forwarded port of the controller's own.
    """
    called = _if_known(inventory, host.name, "ansible_host")
    try:
        addresses = parse_addresses([host.name if called is None else called])
    except BadValueError:
        return host.addresses or NOWHERE
    return addresses if is_usable(addresses) else NOWHERE


def _port(inventory: Inventory, host: str) -> int:
    value = inventory.value(host, "ansible_port") if inventory.shows(host, "ansible_port") else None
    return _SSH if value is None else read_number(value, Place("ansible_port", host), 1, _LAST_PORT)


def _hops(inventory: Inventory, host: Host) -> _Route:
    for name in _ARGUMENTS:
        place = Place(name, host.name)
        hops = _read_hops(inventory, place, host.name) if inventory.shows(host.name, name) else None
        if hops is not None:
            return _Route(host, hops, place)
    return _Route(host, (), Place("ansible_host", host.name))


def _read_hops(inventory: Inventory, place: Place, host: str) -> tuple[Hop, ...] | None:
    """Return the jump hosts that a variable names; None if it says nothing about them.

    What names none is not ours to judge: its template may need what only a play knows.
    """
    try:
        text = inventory.value(host, place.path)
    except PolicyError:
        if names_jumps(str(inventory.raw(host, place.path))):
            raise
        return None
    if not isinstance(text, str) or not names_jumps(text):
        return None
    try:
        return jumps(text)
    except ValueError as error:
        place.fail(f"ssh cannot read what names a jump host there: {error}", "Write it like -J bastion1")


class _Known:
    """Finds the host of the inventory that a jump host is, by its name or an address."""

    def __init__(self, inventory: Inventory, fleet: Fleet) -> None:
        self._inventory = inventory
        self._fleet = fleet
        self._names = _names(inventory, fleet)
        self._ends: dict[Hop, End | None] = {}

    def end(self, hop: Hop) -> End | None:
        """Return the end that a jump host is; None if it is unknown or its guard is off."""
        if hop not in self._ends:
            self._ends[hop] = self._find(hop)
        return self._ends[hop]

    def _find(self, hop: Hop) -> End | None:
        try:
            literal = parse_addresses([hop.host])
        except BadValueError:
            literal = NOWHERE
        name = self._names.get(hop.host) or self._owner(literal)
        if name is None:
            return End(hop.host, "", literal, literal, hop.port or _SSH) if _is_real(literal) else None
        host = self._fleet.hosts[name]
        if not host.settings.guard:
            return None
        # A port that only ~/.ssh/config tells to ssh is the one that Ansible knows.
        end = replace(_end(host), reached=literal, port=hop.port or _port(self._inventory, name))
        return end if literal != NOWHERE else replace(end, reached=_reached(self._inventory, host))

    def _owner(self, literal: Addresses) -> str | None:
        if literal == NOWHERE:
            return None
        return next((name for name, host in self._fleet.hosts.items() if meet(host.addresses, literal)), None)


def _is_real(addresses: Addresses) -> bool:
    """Tell whether there are addresses that another machine may have."""
    return addresses != NOWHERE and is_usable(addresses)


def _names(inventory: Inventory, fleet: Fleet) -> Mapping[str, str]:
    """Return the hosts by what they are called: in the inventory, or else where Ansible connects to."""
    found = {name: name for name in fleet.hosts}
    for name in fleet.hosts:
        called = _if_known(inventory, name, "ansible_host")
        if isinstance(called, str):
            found.setdefault(called, name)
    return found
